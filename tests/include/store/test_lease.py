"""Leases: one holder at a time, and none for ever."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest

from include.errors import LeaseHeld, Transient
from include.store import ObjectStore
from include.store.holder import Holder
from include.store.lease import Lease, LeaseRecord

Python = Callable[..., "subprocess.Popen[str]"]
KEY = "k" * 64
PREFIX = f"acme/lease/{KEY}/"


def _plant(store: ObjectStore, epoch: int, ttl_s: float, heartbeat: datetime) -> None:
    """Leave the lease of a process on another machine, about which nothing else is known."""
    holder = Holder(host="elsewhere", pid=1, machine="another", started="1")
    record = LeaseRecord(token="x", holder=holder, heartbeat=heartbeat, ttl_s=ttl_s)
    store.put(f"{PREFIX}{epoch:08d}", record.model_dump_json().encode())


def _wait_until(true: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not true():
        assert time.monotonic() < give_up, "waited 20 s in vain"
        time.sleep(0.02)


def test_a_lease_is_exclusive_until_released(store: ObjectStore) -> None:
    with Lease.acquire(store, "acme", KEY) as lease:
        assert lease.held
        with pytest.raises(LeaseHeld, match=f"is making artifact {KEY} now") as caught:
            Lease.acquire(store, "acme", KEY)
        assert isinstance(caught.value, Transient)
        with Lease.acquire(store, "acme", "other"), Lease.acquire(store, "acme2", KEY):
            pass
    assert not lease.held
    Lease.acquire(store, "acme", KEY).release()
    assert list(store.list()) == []


def test_an_error_in_the_block_releases_too(store: ObjectStore) -> None:
    with pytest.raises(ZeroDivisionError), Lease.acquire(store, "acme", KEY):
        _ = 1 // 0
    assert list(store.list()) == []


def test_releasing_twice_is_fine(store: ObjectStore) -> None:
    lease = Lease.acquire(store, "acme", KEY)
    lease.release()
    with Lease.acquire(store, "acme", KEY) as next_one:
        lease.release()
        assert next_one.held


@pytest.mark.parametrize("stale_epoch", [None, 3], ids=["fresh", "takeover"])
def test_of_eight_racers_exactly_one_gets_the_lease(
    store: ObjectStore, stale_epoch: int | None
) -> None:
    ways = 8
    barrier = Barrier(ways)
    gone = Holder.here().model_copy(update={"started": "1"})  # this machine, a dead process
    record = LeaseRecord(token="x", holder=gone, heartbeat=datetime.now(UTC), ttl_s=600)

    def race(turn: int) -> Lease | None:
        barrier.wait()
        with suppress(LeaseHeld):
            return Lease.acquire(store, "acme", f"key-{turn}")
        return None

    with ThreadPoolExecutor(ways) as pool:
        for turn in range(5):
            if stale_epoch:
                name = f"acme/lease/key-{turn}/{stale_epoch:08d}"
                store.put(name, record.model_dump_json().encode())
            leases = [lease for lease in pool.map(race, [turn] * ways) if lease]
            assert len(leases) == 1
            assert leases[0].epoch == (stale_epoch or 0) + 1
            leases[0].release()
    assert list(store.list()) == []


RACER = """
import sys
from include.errors import LeaseHeld
from include.store import open_store
from include.store.lease import Lease
uri, turns = sys.argv[1], int(sys.argv[2])
store = open_store(uri)
store.head("warm-up")
held, won = [], []
print("ready", flush=True)
sys.stdin.readline()
for turn in range(turns):
    try:
        held.append(Lease.acquire(store, "acme", f"key-{turn}"))
        won.append(turn)
    except LeaseHeld:
        pass
print(*won, flush=True)
sys.stdin.readline()
"""


def test_of_racing_processes_exactly_one_gets_each_lease_and_a_killed_one_loses_it_at_once(
    store: ObjectStore, store_uri: str, python: Python
) -> None:
    turns = 10
    racers = [python(RACER, store_uri, str(turns)) for _ in range(3)]
    pipes = [(racer.stdin, racer.stdout) for racer in racers]
    for _, out in pipes:
        assert out is not None
        assert out.readline() == "ready\n"
    for into, _ in pipes:
        assert into is not None
        into.write("go\n")
        into.flush()
    won = [[int(turn) for turn in out.readline().split()] for _, out in pipes if out]
    assert sorted(turn for turns in won for turn in turns) == list(range(turns))
    with pytest.raises(LeaseHeld):
        Lease.acquire(store, "acme", "key-0")
    for racer in racers:
        racer.send_signal(signal.SIGKILL)
        racer.wait()
    for turn in range(turns):
        with Lease.acquire(store, "acme", f"key-{turn}") as lease:
            assert lease.epoch == 2


def test_heartbeats_keep_a_lease_young(store: ObjectStore) -> None:
    with Lease.acquire(store, "acme", KEY, ttl_s=0.8) as lease:
        name = f"{PREFIX}{lease.epoch:08d}"
        first = LeaseRecord.model_validate_json(store.get(name))
        _wait_until(lambda: LeaseRecord.model_validate_json(store.get(name)) != first)
        later = LeaseRecord.model_validate_json(store.get(name))
        assert later.heartbeat > first.heartbeat
        assert later.token == first.token


@pytest.mark.parametrize("skew", [timedelta(days=-1), timedelta(days=1)], ids=["behind", "ahead"])
def test_the_clock_of_the_holder_decides_nothing(store: ObjectStore, skew: timedelta) -> None:
    _plant(store, 1, ttl_s=600, heartbeat=datetime.now(UTC) + skew)
    with pytest.raises(LeaseHeld, match="process 1 on elsewhere"):
        Lease.acquire(store, "acme", KEY)
    assert [info.key for info in store.list()] == [f"{PREFIX}00000001"]  # the probe is gone


def test_a_lease_without_heartbeat_is_taken_over_with_the_next_epoch(store: ObjectStore) -> None:
    _plant(store, 4, ttl_s=0.1, heartbeat=datetime.now(UTC) + timedelta(days=1))
    with pytest.raises(LeaseHeld):
        Lease.acquire(store, "acme", KEY)
    time.sleep(3.2)  # ttl, tolerance and a whole second of S3's resolution
    with Lease.acquire(store, "acme", KEY) as lease:
        assert lease.epoch == 5
        assert [info.key for info in store.list(PREFIX)] == [f"{PREFIX}00000005"]


def test_an_unreadable_lease_does_not_block_for_ever(store: ObjectStore) -> None:
    store.put(f"{PREFIX}00000001", b"not a lease")
    with Lease.acquire(store, "acme", KEY) as lease:
        assert lease.epoch == 2


def test_a_holder_that_was_taken_over_notices_and_leaves_the_new_one_alone(
    store: ObjectStore,
) -> None:
    lease = Lease.acquire(store, "acme", KEY, ttl_s=0.8)
    _plant(store, lease.epoch + 1, ttl_s=600, heartbeat=datetime.now(UTC))
    _wait_until(lambda: not lease.held)
    lease.release()
    assert [info.key for info in store.list()] == [f"{PREFIX}{lease.epoch + 1:08d}"]


def test_a_holder_whose_lease_vanished_does_not_bring_it_back(store: ObjectStore) -> None:
    lease = Lease.acquire(store, "acme", KEY, ttl_s=0.8)
    store.delete(f"{PREFIX}{lease.epoch:08d}")
    _wait_until(lambda: not lease.held)
    lease.release()
    assert list(store.list()) == []


def test_a_process_knows_itself_alive_and_its_dead_children_dead(python: Python) -> None:
    code = "from include.store.holder import Holder; print(Holder.here().model_dump_json())"
    child = python(code + "\nimport sys; sys.stdout.flush(); sys.stdin.readline()")
    assert child.stdout is not None
    holder = Holder.model_validate_json(child.stdout.readline())
    assert not Holder.here().is_dead()
    assert not holder.is_dead()
    child.kill()
    child.wait()
    assert holder.is_dead()
    assert not holder.model_copy(update={"machine": "another"}).is_dead()
    assert Holder.here().model_copy(update={"started": "1"}).is_dead()
