"""``bench load``: what it counts, what strikes, and a small run through the real operator."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.load import capacity_of, main, poisson
from benchmarks.loadtest import faults
from benchmarks.loadtest.predict import compare, inside
from benchmarks.loadtest.timeline import covered, percentile, renders
from benchmarks.simulation.network import Attempt
from benchmarks.simulation.pipeline import stage_graph
from include.settings import PROJECT


def test_a_render_is_generating_else_retrying_else_queued() -> None:
    attempts = [
        Attempt(0, "a", 1, ready=1, start=3, end=5, ok=True),
        Attempt(0, "left", 1, ready=5, start=6, end=7, ok=False),
        Attempt(0, "left", 2, ready=12, start=14, end=16, ok=True),
        Attempt(0, "right", 1, ready=5, start=8, end=10, ok=True),
        Attempt(0, "end", 1, ready=16, start=16, end=20, ok=True),
    ]
    found = renders([1.0], attempts)[0]
    assert found.latency == 19
    assert found.generation == 2 + 2 + 2 + 4
    assert found.retry == 14 - 6 - 2, "less what the other branch was generating meanwhile"
    assert found.queue == 2 + 1
    assert found.attempts == 5


GAPS = st.lists(st.tuples(st.floats(0, 50), st.floats(0, 10)), min_size=1, max_size=3)


@given(st.lists(st.tuples(GAPS, st.booleans()), min_size=1, max_size=5))
def test_the_parts_add_up_to_the_latency(
    stages: list[tuple[list[tuple[float, float]], bool]],
) -> None:
    attempts = []
    for stage, (tries, succeeds) in enumerate(stages):
        now = 0.0
        for number, (gap, took) in enumerate(tries, 1):
            ok = succeeds and number == len(tries)
            start = now + gap
            attempts.append(Attempt(0, f"s{stage}", number, now, start, start + took, ok))
            now = start + took
    found = renders([0.0], attempts)[0]
    assert found.queue + found.generation + found.retry == pytest.approx(found.latency)
    assert min(found.queue, found.generation, found.retry) >= -1e-9
    if all(attempt.number == 1 and attempt.ok for attempt in attempts):
        assert found.retry == 0


def test_covered_counts_overlaps_once() -> None:
    assert covered([(5, 6), (0, 2), (1, 3), (1.5, 1.7)]) == 4


@pytest.mark.parametrize(("level", "count"), [(50, 9), (50, 100), (95, 100), (99, 1000)])
def test_ranks_of_a_percentiles_interval_are_the_binomials(level: int, count: int) -> None:
    values = [float(number) for number in range(1, count + 1)]
    random.Random(1).shuffle(values)
    found = percentile(values, level)
    share = level / 100
    assert found.low == stats.binom.ppf(0.025, count, share)
    assert found.high == stats.binom.ppf(0.975, count, share) + 1
    assert (
        stats.binom.cdf(found.high - 1, count, share) - stats.binom.cdf(found.low - 1, count, share)
        >= 0.95
    )


def test_too_few_renders_give_no_bound() -> None:
    found = percentile([1.0, 2.0, 3.0], 99)
    assert (found.value, found.high) == (3.0, None)
    assert "?" in str(found)
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_arrivals_are_poisson_and_repeat() -> None:
    found = poisson(2.0, 4000, 3)
    gaps = [b - a for a, b in zip([0.0, *found], found, strict=False)]
    assert stats.kstest(gaps, "expon", args=(0, 0.5)).pvalue > 0.01
    assert poisson(2.0, 5, 3) == found[:5]


def test_capacity_is_that_of_the_fuller_pool() -> None:
    graph = {"a": {"pool": "cpu"}, "b": {"pool": "cpu"}, "c": {"pool": "io"}}
    times = {"a": [1.0, 3.0], "b": [2.0], "c": [0.1]}
    assert capacity_of(times, graph, {"cpu": 2, "io": 1}) == 0.5


STAGE = """
import sys, time
if sys.argv[1] == "slow":
    time.sleep(120)
sys.exit(3)
"""


@pytest.mark.parametrize(
    ("kind", "code"), [("kill", -signal.SIGKILL), ("transient", 75), ("preempt", -signal.SIGTERM)]
)
def test_a_struck_process_ends_as_the_fault_says(tmp_path: Path, kind: str, code: int) -> None:
    (done, log) = _start(tmp_path, "slow", kind, probability=1.0)
    assert done.returncode == code
    assert [line["kind"] for line in log] == [kind]


@pytest.mark.parametrize(("probability", "stage"), [(0.0, "fast"), (1.0, "fast")])
def test_a_process_that_is_left_alone_or_done_in_time_keeps_its_own_exit(
    tmp_path: Path, probability: float, stage: str
) -> None:
    (done, log) = _start(tmp_path, stage, "kill", probability)
    assert (done.returncode, log) == (3, [])


def _start(
    folder: Path, stage: str, kind: str, probability: float
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Run a stage of ours through the stand-in; it answers to ``-m include.stages``."""
    package = folder / "include/stages"
    package.mkdir(parents=True)
    (folder / "include/__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(STAGE)
    script = faults.install(
        folder,
        Path(sys.executable),
        PROJECT,
        probability=probability,
        kinds=[kind],
        seed=1,
        usual={"slow": 2.0, "fast": 300.0},
    )
    command = [str(script), "-m", "include.stages", stage, "--request", "store#key/001.request"]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    struck = folder / "struck.jsonl"
    lines = struck.read_text().splitlines() if struck.exists() else []
    return done, [json.loads(line) for line in lines]


def test_every_try_has_its_own_luck_and_keeps_it() -> None:
    config = {"seed": 1, "probability": 0.2, "kinds": list(faults.KINDS), "usual": {"compose": 9.0}}
    drawn = [faults.fate(config, f"row/{n:03}.request.json", "compose") for n in range(2000)]
    assert drawn == [
        faults.fate(config, f"row/{n:03}.request.json", "compose") for n in range(2000)
    ]
    struck = [found for found in drawn if found]
    assert len(struck) / 2000 == pytest.approx(0.2, abs=0.03)
    assert {kind for kind, _ in struck} == set(faults.KINDS)
    assert max(seconds for _, seconds in struck) <= 9.0


def _load(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a small ``bench load``."""
    command = [sys.executable, "-m", "benchmarks.load", "--stages", "replayed", "--factor", "0.02"]
    size = ["--renders", "4", "--calibrate", "2", "--rates", "2", "--kinds", "preempt"]
    places = ["--home", str(folder / "home"), "--out", str(folder / "load.json")]
    return subprocess.run(
        [*command, *size, *places, *more],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_a_small_load_passes_the_operator_and_is_predicted(tmp_path: Path) -> None:
    first = _load(tmp_path, "--faults", "0.3")
    assert first.returncode == 0, first.stdout + first.stderr
    (kept,) = json.loads((tmp_path / "load.json").read_text())["cells"]
    refused = _load(tmp_path, "--faults", "0", "--add", "--seed", "2")
    assert "other settings" in refused.stderr
    done = _load(tmp_path, "--faults", "0,0.3", "--add")
    assert done.returncode == 0, done.stdout + done.stderr
    body = json.loads((tmp_path / "load.json").read_text())
    calm, struck = body["cells"]
    assert struck == kept, "what was measured stays"
    assert len(body["calibrations"]) == 2
    assert calm["delivered"] == 4
    assert calm["figures"]["attempts per success"]["value"] == 1.0
    assert calm["figures"]["retry p99"]["value"] == 0
    assert sum(struck["struck"].values()) > 0
    assert struck["figures"]["attempts per success"]["value"] > 1
    assert struck["most_tries"] <= 1 + body["retries"]
    assert struck["delivered"] + len(struck["lost"]) == 4
    stages = {stage for stage, times in calm["times"].items() if len(times) == 4}
    assert stages == set(stage_graph()), "every stage ran once for every render"
    assert [row["faults"] for row in body["predicted"]] == [0.0, 0.3]
    assert body["predicted"][0]["own"]["latency p50"]["error"] is not None
    assert "renders/s" in done.stdout
    assert (tmp_path / "load.svg").exists()
    assert not (tmp_path / "home").exists()


def test_a_cell_in_which_a_stage_never_succeeded_is_predicted_from_the_calibration_only() -> None:
    graph = {"a": {"pool": "cpu", "after": [], "weight": 1}}
    graph["b"] = {"pool": "cpu", "after": ["a"], "weight": 0}
    cell = {"rate": 1.0, "faults": 1.0, "arrivals": [0.0, 1.0], "figures": {}, "calibration": 0}
    body = {
        "graph": graph,
        "slots": {"cpu": 1},
        "settings": {"kinds": ["preempt"]},
        "retries": 1,
        "calibrations": [{"times": {"a": [1.0], "b": [1.0]}}],
        "cells": [{**cell, "times": {"a": [1.0]}}],
    }
    (row,) = compare(body, runs=2)
    assert row["own"] == {}
    assert row["calibration"]["lost"]["value"] == 2
    assert inside([row], "own") == (0, 0)


@pytest.mark.parametrize("wrong", [["--renders", "0"], ["--faults", "2"], ["--kinds", "x"]])
def test_options_that_measure_nothing_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
