"""The measuring helpers measure what they say."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from benchmarks.measure import (
    THREAD_VARIABLES,
    Cost,
    Meter,
    Spread,
    machine,
    paired,
    print_table,
    run_child,
    thread_environment,
)
from include.settings import PROJECT

BUSY = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"


def test_a_step_is_charged_for_its_own_work_and_not_for_waiting() -> None:
    meter = Meter()
    with meter.step("wait"):
        time.sleep(0.2)
    for _ in range(2):
        with meter.step("work"):
            end = time.process_time() + 0.1
            while time.process_time() < end:
                pass
    assert meter.steps["wait"].wall >= 0.2
    assert meter.steps["wait"].cpu < 0.1
    assert meter.steps["work"].cpu >= 0.2
    assert meter.total.cpu == pytest.approx(sum(cost.cpu for cost in meter.steps.values()))


def test_a_childs_processor_time_counts_where_it_is_awaited() -> None:
    meter = Meter()
    with meter.step("start"):
        child = subprocess.Popen([sys.executable, "-c", BUSY])
    with meter.step("wait"):
        child.wait()
    assert meter.steps["start"].cpu < 0.2
    assert meter.steps["wait"].cpu >= 0.3


def test_a_step_inside_another_is_counted_once() -> None:
    meter, start = Meter(), Cost.now()
    with meter.step("outer"):
        sum(range(20_000))
        with meter.step("inner"):
            sum(range(200_000))
        with meter.step("inner"):
            sum(range(200_000))
    whole = Cost.now() - start
    assert meter.steps["inner"].wall > 0
    assert meter.total.wall <= whole.wall
    assert meter.total.cpu <= whole.cpu


def test_a_command_costs_what_it_and_its_children_take() -> None:
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"
    cost = run_child([sys.executable, "-c", nested], os.environ, PROJECT)
    assert cost.cpu >= 0.3
    assert cost.wall >= 0.3


def test_a_command_that_fails_ends_the_benchmark_with_what_it_said() -> None:
    with pytest.raises(SystemExit, match="no such thing"):
        run_child([sys.executable, "-c", "raise SystemExit('no such thing')"], os.environ, PROJECT)


def test_every_pair_runs_all_arms_and_their_order_turns() -> None:
    ran: list[str] = []

    def arm(name: str):
        return lambda number: ran.append(f"{name}{number}") or (name, number)

    found = paired(3, {"a": arm("a"), "b": arm("b")})
    assert ran == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert found[1] == {"a": ("a", 1), "b": ("b", 1)}


def test_an_interrupted_run_goes_on_after_the_pairs_that_it_has() -> None:
    told: list[str] = []
    kept: list[int] = []
    arms = {name: (lambda number, name=name: f"{name}{number}") for name in ("a", "b")}
    begun = [{"a": "old", "b": "older"}]
    found = paired(3, arms, told.append, begun=begun, keep=lambda pairs: kept.append(len(pairs)))
    assert found == [begun[0], {"a": "a1", "b": "b1"}, {"a": "a2", "b": "b2"}]
    assert told[0] == "pair 2 of 3: b"
    assert kept == [2, 3]


def test_a_spread_is_the_median_and_both_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0, 9.0]) == Spread(2.5, 1.0, 9.0, 4)
    assert str(Spread.of([2.0])) == "2.00 (2.00 to 2.00)"
    with pytest.raises(ValueError, match="no runs"):
        Spread.of([])


def test_costs_add_and_subtract() -> None:
    assert Cost(3, 2) + Cost(1, 1) - Cost(2, 1) == Cost(2, 2)


def test_opencv_and_torch_keep_to_the_threads_they_are_given() -> None:
    code = "import cv2, torch; print(cv2.getNumThreads(), torch.get_num_threads())"
    environment = {**os.environ, **thread_environment(1)}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said.split() == ["1", "1"]
    assert set(thread_environment(3)) == set(THREAD_VARIABLES)


def test_a_machine_is_described_by_what_decides_its_figures() -> None:
    here = machine()
    assert here["cores"] >= 1
    assert here["memory_gib"] > 0
    assert here["packages"]["torch"]


def test_a_table_is_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("step", "s"), [("swap", 1), ("encode", 2)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["| step | s |", "| --- | ---: |", "| swap | 1 |", "| encode | 2 |"]
