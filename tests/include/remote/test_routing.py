"""Own machines first, and an API when waiting would be too late: in a simulated queue, and with
slots that are really taken."""

from __future__ import annotations

import heapq
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.remote.capacity import Capacity
from include.remote.routing import Load, Work, predicted_wait, route
from include.store import open_store

NOW = 1_000_000.0


def test_a_free_slot_of_our_own_is_always_taken_first() -> None:
    work = Work(seconds=100, rest_s=0, deadline=NOW - 5)
    assert route(Load(2, 1, 0), work, NOW, "near").where == "local"


def test_without_a_deadline_nothing_is_bought() -> None:
    found = route(Load(2, 2, 50), Work(100, 0, None), NOW, "near")
    assert (found.where, found.wait_s) == ("wait", 51 * 50)


@pytest.mark.parametrize(("due_in", "where"), [(149.9, "burst"), (150, "wait"), (1000, "wait")])
def test_the_deadline_decides_rest_of_the_work_included(due_in: float, where: str) -> None:
    # One of two slots becomes free every 20 s; two come before us: 60 s, then 40, then 50 more.
    found = route(Load(2, 2, 2), Work(40, 50, NOW + due_in), NOW, "near")
    assert (found.where, found.wait_s) == (where, 60)
    assert "2 of 2 own slots are taken, 2 tasks wait" in found.reason


def test_without_an_api_that_works_everybody_waits() -> None:
    found = route(Load(1, 1, 9), Work(40, 0, NOW), NOW, None)
    assert found.where == "wait"
    assert "no model API" in found.reason


@given(st.integers(1, 8), st.integers(0, 30), st.integers(0, 30), st.floats(1, 100))
def test_longer_queues_never_predict_less(slots: int, busy: int, queued: int, each: float) -> None:
    busy = min(busy, slots)
    wait = predicted_wait(Load(slots, busy, queued), each)
    assert wait >= 0
    assert predicted_wait(Load(slots, busy, queued + 1), each) >= wait
    assert predicted_wait(Load(slots + 1, busy, queued), each) <= wait


def simulate(slots: int, jobs: int, each: float, due: float, api: str | None) -> tuple[int, float]:
    """All jobs arrive at once; returns how many were sent away, and when the last one here ends."""
    free = [0.0] * slots
    sent, kept = 0, 0
    for _ in range(jobs):
        busy = min(slots, kept)
        found = route(Load(slots, busy, kept - busy), Work(each, 0, NOW + due), NOW, api)
        if found.where == "burst":
            sent += 1
            continue
        kept += 1
        heapq.heapreplace(free, free[0] + each)
    return sent, max(free)


@given(st.integers(1, 6), st.integers(1, 60), st.floats(5, 60), st.floats(10, 2000))
def test_what_stays_meets_the_deadline_and_no_more_than_needed_is_sent(
    slots: int, jobs: int, each: float, due: float
) -> None:
    sent, last = simulate(slots, jobs, each, due, "near")
    fits = slots * int(due // each)
    assert sent <= max(0, jobs - fits), "own capacity first"
    # The prediction is of the mean: a wave of equal jobs ends up to one of them later.
    assert last <= max(due, each) + each
    assert simulate(slots, jobs, each, due, None)[0] == 0


def test_slots_that_are_taken_and_tasks_that_wait_are_measured(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    pool = Capacity(store, "cpu", 2)
    assert pool.load() == Load(2, 0, 0)
    first, second = pool.claim(), Capacity(store, "cpu", 2).claim()
    assert first
    assert second
    assert pool.claim() is None
    with pool.ticket(), pool.ticket():
        assert Capacity(store, "cpu", 2).load() == Load(2, 2, 2)
        assert Capacity(store, "gpu", 1).load() == Load(1, 0, 0), "another pool"
    first.release()
    assert pool.load() == Load(2, 1, 0)
    with pool.claim() as again:
        assert again.held
    second.release()


def test_a_slot_of_a_task_that_died_is_free_again(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import os, sys\n"
        "from include.remote.capacity import Capacity\n"
        "from include.store import open_store\n"
        "assert Capacity(open_store(sys.argv[1]), 'cpu', 1).claim()\n"
        "os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    pool = Capacity(open_store(str(tmp_path)), "cpu", 1)
    assert pool.load().busy == 0
    with pool.claim() as slot:
        assert slot.held
