"""How long a process waits for its store."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.store import DirectoryStore, ObjectStore
from include.store.lease import Lease
from include.store.waiting import TimedStore, Waiting, aside


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("include.store.waiting.time", clock)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Slow(DirectoryStore):
    """A directory whose every answer takes a second of that clock."""

    clock: Clock

    def get(self, key: str) -> bytes:
        self.clock.now += 1
        return super().get(key)


def test_only_what_the_store_takes_counts(clock: Clock, tmp_path: Path) -> None:
    slow = Slow(tmp_path)
    slow.clock = clock
    waiting = Waiting()
    store = TimedStore(slow, waiting)
    store.put("a", b"x")
    for _ in range(3):
        store.get("a")
        clock.now += 10  # work
    assert waiting.seconds == 3
    with aside():
        store.get("a")
    assert waiting.seconds == 3


def test_waits_at_the_same_time_count_once(clock: Clock) -> None:
    waiting = Waiting()
    inside, leave = threading.Barrier(5), threading.Barrier(5)

    def wait() -> None:
        with waiting.busy():
            inside.wait()
            leave.wait()

    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(wait) for _ in range(4)]
        inside.wait()
        clock.now += 7
        assert waiting.seconds == 7, "what goes on counts already"
        leave.wait()
        for future in done:
            future.result()
    clock.now += 100
    assert waiting.seconds == 7


def test_what_the_reader_does_between_two_pieces_does_not_count(
    clock: Clock, tmp_path: Path
) -> None:
    waiting = Waiting()
    store = TimedStore(DirectoryStore(tmp_path), waiting)
    store.put("a", b"x" * (3 << 20))
    for _ in store.chunks("a"):
        clock.now += 5
    for _ in store.list():
        clock.now += 5
    assert waiting.seconds == 0


def test_a_failing_store_stops_the_clock(clock: Clock, tmp_path: Path) -> None:
    waiting = Waiting()
    store = TimedStore(DirectoryStore(tmp_path), waiting)

    def fail() -> None:
        with waiting.busy():
            clock.now += 1
            raise LookupError

    for _ in range(2):
        with pytest.raises(LookupError):
            fail()
    assert store.head("a") is None
    clock.now += 50
    assert waiting.seconds == 2


def test_it_is_the_store_that_it_wraps(store: ObjectStore, tmp_path: Path) -> None:
    timed = TimedStore(store)
    source, out = tmp_path / "source", tmp_path / "out"
    source.write_bytes(b"from a file")
    timed.put("a", b"one")
    timed.put_file("b", source)
    assert timed.put_if_absent("c", b"three")
    assert not timed.put_if_absent("c", b"other")
    timed.copy("a", "d")
    timed.get_file("b", out)
    timed.delete("a")
    assert out.read_bytes() == b"from a file"
    assert b"".join(timed.chunks("d")) == timed.get("d") == b"one"
    assert [info.key for info in timed.list()] == ["b", "c", "d"]
    assert timed.head("d") == store.head("d")
    assert timed.presign("d", 60)
    assert timed.sweep(3600) == 0
    assert timed.uri == store.uri


def test_nobody_waits_for_a_heartbeat(tmp_path: Path) -> None:
    waiting = Waiting()
    beaten = threading.Event()

    class Told(DirectoryStore):
        def put(self, key: str, data: bytes) -> None:
            if threading.current_thread().name.startswith("lease-"):
                beaten.set()
                time.sleep(0.05)
            super().put(key, data)

    store = TimedStore(Told(tmp_path), waiting)
    with Lease.acquire(store, "acme", "f" * 64, ttl_s=0.2):
        before = waiting.seconds
        assert beaten.wait(10)
        assert waiting.seconds == before
