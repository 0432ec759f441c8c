"""``bench simulate``: days that are drawn as described, figures that follow from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.simulate import main, run, with_changes
from benchmarks.simulation.demand import DAY_S, arrivals, day, network, shards
from benchmarks.simulation.engine import simulate
from benchmarks.simulation.outcome import Interval, offered, used
from benchmarks.simulation.pipeline import stage_graph
from benchmarks.simulation.scenario import DATA, Scenario, load_prices, load_scenario
from benchmarks.simulation.times import StageTimes, stage_times
from include.errors import Usage

GRAPH = stage_graph()
TIMES = {name: StageTimes((3.0,), (0.9, 1.0, 1.1)) for name in GRAPH}


def small(**changes: str) -> Scenario:
    scenario = load_scenario(DATA / "million.yaml")
    base = {"arrivals.renders": "4000", "pools.cpu.servers": "8", "pools.cpu.warm": "2"}
    base |= {"pools.gpu.servers": "4", "pools.gpu.warm": "1"}
    base |= {name.replace("__", "."): value for name, value in changes.items()}
    return with_changes(scenario, tuple(base.items()))


def test_the_projects_own_files_are_valid_and_hold_every_stage() -> None:
    assert load_scenario(DATA / "million.yaml").arrivals.renders == 1_000_000
    assert load_prices(DATA / "prices.yaml").note.startswith("Assumptions")
    times = stage_times()
    assert set(times) == set(GRAPH)
    assert all(min(found.first) > 0 < min(found.further) for found in times.values())


def test_arrivals_follow_the_hours() -> None:
    hours = [0.0] * 12 + [1.0] * 6 + [3.0] * 6
    found = arrivals(20_000, hours, np.random.default_rng(1))
    assert len(found) == 20_000
    assert (np.diff(found) >= 0).all()
    assert found.min() >= DAY_S / 2
    assert found.max() < DAY_S
    evening = (found > DAY_S * 0.75).mean()
    assert evening == pytest.approx(0.75, abs=0.01)


def test_a_shard_closes_when_it_is_full_or_its_first_row_has_waited() -> None:
    times = np.array([0.0, 1.0, 2.0, 50.0, 100.0, 101.0])
    first, closed = shards(times, rows=3, wait=10.0)
    assert first.tolist() == [0, 3, 4]
    assert closed.tolist() == [2.0, 60.0, 110.0]


def test_a_shards_work_is_its_process_and_its_rows() -> None:
    scenario = small(
        arrivals__shard_rows="5", gpu__speedup="10", gpu__start_s="6", scheduler__process_s="0.5"
    )
    drawn = day(scenario, GRAPH, {n: StageTimes((3.0,), (1.0,)) for n in GRAPH}, 1)
    compose, swap = (list(GRAPH).index(name) for name in ("compose", "face_swap"))
    rows = drawn.rows
    assert rows.sum() == 4000
    assert rows.max() <= 5
    np.testing.assert_allclose(drawn.jobs.service[compose], 2.5 + rows)
    np.testing.assert_allclose(drawn.jobs.service[swap], 6.5 + rows / 10)


def test_offered_load_says_what_saturates_first_and_the_simulation_agrees() -> None:
    flat = "[" + ", ".join(["1"] * 24) + "]"
    scenario = small(arrivals__hours=flat, faults__probability="0.0")
    found = run(scenario, load_prices(DATA / "prices.yaml"), TIMES, 1)
    assert found["saturates first"] == "cpu"
    at = found["at renders a day"]
    ended = {}
    for share in (0.8, 1.3):
        changed = small(
            arrivals__hours=flat,
            faults__probability="0.0",
            arrivals__renders=str(round(share * at)),
        )
        net = network(changed, GRAPH)
        drawn = day(changed, GRAPH, TIMES, 2)
        trace = simulate(net, drawn.jobs, 2)
        load = offered(changed, net, TIMES)
        ended[share] = trace.horizon / 3600
        if share < 1:
            assert used(net, trace)["cpu"] == pytest.approx(load["cpu"], rel=0.1)
    assert ended[0.8] < 24.5, "what fits is done when the day is"
    assert ended[1.3] > 29, "what does not fit piles up"


def test_no_gpu_file_means_assumed_times_and_a_file_means_its_own(tmp_path: Path) -> None:
    units = [
        {"stage": name, "place": place, "seconds": 0.5, "cpu_seconds": 0.5}
        for name in GRAPH
        for place in (0, 1)
    ]
    file = tmp_path / "gpu.json"
    file.write_text(json.dumps({"units": units}))
    scenario = small(
        gpu__times=str(file), gpu__start_s="0", arrivals__shard_rows="1", scheduler__process_s="0"
    )
    drawn = day(scenario, GRAPH, TIMES, 1)
    assert set(drawn.jobs.service[list(GRAPH).index("upscale")]) == {0.5}


def test_intervals_are_students() -> None:
    found = Interval.of([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(4.30 / 3**0.5))
    assert Interval.of([1.0]).half is None


def test_the_command_prints_what_was_assumed_and_writes_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ["--set", "arrivals.renders=2000", "--set", "pools.gpu.servers=8,16"]
    code = main([*changes, "--seeds", "2", "--out", str(tmp_path / "simulate.json")])
    said = capsys.readouterr().out
    assert code == 0
    body = json.loads((tmp_path / "simulate.json").read_text())
    assert [v["name"].rpartition("=")[2] for v in body["variants"]] == ["8", "16"]
    for variant in body["variants"]:
        assert variant["latency"]["p50"]["mean"] <= variant["latency"]["p99"]["mean"]
        parts = variant["cost"]
        total = sum(v["mean"] for n, v in parts.items() if n not in ("total", "a render"))
        assert parts["total"]["mean"] == pytest.approx(total)
    assert "no GPU was measured" in said
    assert "saturates first" in said
    assert (tmp_path / "simulate.svg").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("pools.tpu.servers=3", "no such field"),
        ("pools.gpu.servers=0", "greater than 0"),
        ("gpu.stages=[paint]", "no stage"),
        ("arrivals.hours=[1]", "24 numbers"),
        ("pools.gpu.warm=99", "more than there are"),
    ],
)
def test_a_scenario_that_cannot_be_is_refused(
    change: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["--set", change, "--seeds", "1", "--out", str(tmp_path / "x.json")])
    assert code == Usage.exit_code
    assert says in capsys.readouterr().err


def test_missing_stage_times_say_what_to_run(tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_text(json.dumps({"units": []}))
    with pytest.raises(Usage, match="bench stages --recipients"):
        stage_times(file)
