"""Garbage collection in batches: who asks for a file while one is deleted, and large stores."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.contracts.manifest import Manifest
from include.errors import StoreUnavailable
from include.retention.collect import collect
from include.retention.policy import Retention
from include.store import DirectoryStore
from include.store.base import ObjectInfo
from include.store.notice import await_quiet, notice_key, read_notice, settled
from tests.include.retention.world import GRACE, TENANT, World


class Interrupted(DirectoryStore):
    """A store in which somebody acts at the first deletion of a kind of object."""

    act = None
    of = ""

    def delete(self, key: str) -> None:
        if self.act and f"/{self.of}/" in key:
            act, self.act = self.act, None
            act()
        super().delete(key)


@pytest.fixture
def interrupted(tmp_path: Path) -> World:
    return World.beside(Interrupted(tmp_path / "store"))


def test_a_plan_written_during_a_batch_waits_and_one_before_it_is_honoured(
    interrupted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.retention.collect.BATCH", 1)
    world = interrupted
    world.make("face_swap", "a"), world.make("face_swap", "b")
    world.age(31)
    order = sorted(world.made.values(), key=lambda made: made.key)
    seen: list[bool] = []

    def plan_both() -> None:
        """Plan while the first of the two is being deleted; then wait as a planner does."""
        world.plan("late", *order)
        seen.append(read_notice(world.store, TENANT).active)
        threading.Thread(target=wait, daemon=True).start()

    quiet = threading.Event()
    first_was_gone: list[bool] = []

    def wait() -> None:
        await_quiet(world.store, TENANT)
        first_was_gone.append(world.cache.lookup("face_swap", order[0].key) is None)
        quiet.set()

    world.store.act, world.store.of = plan_both, "face_swap"  # type: ignore[attr-defined]
    found = world.collect()
    assert seen == [True]
    assert quiet.wait(30)
    assert first_was_gone == [True], "what the planner sees after waiting is true"
    assert found.doomed == {"face_swap": 1}
    assert world.cache.lookup("face_swap", order[1].key) == order[1]
    assert world.cache.read_bytes(order[1].outputs["out"])


def test_a_file_that_a_stage_names_while_it_is_doomed_is_there_afterwards(
    interrupted: World,
) -> None:
    world = interrupted
    world.make("face_swap", "a")
    world.age(31)
    again: list[Manifest] = []
    finished = threading.Event()

    def make_again() -> None:
        def work() -> None:
            again.append(world.make("face_swap", "a"))
            finished.set()

        threading.Thread(target=work, daemon=True).start()
        # The stage has written its file and waits for this batch, which will delete it.
        while not any(world.store.root.glob(f"{TENANT}/blob/*/*")):
            time.sleep(0.01)
        time.sleep(0.3)
        assert not finished.is_set()

    world.store.act, world.store.of = make_again, "blob"  # type: ignore[attr-defined]
    world.collect()
    assert finished.wait(30)
    assert world.cache.read_bytes(again[0].outputs["out"])
    assert world.there() == {"face_swap a"}


def test_a_batch_that_takes_too_long_is_ended_and_announced_anew(
    interrupted: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = interrupted
    for tag in "abcdefghij":
        world.make("face_swap", tag)
    world.age(31)
    monkeypatch.setattr("include.retention.collect.FENCE_S", 0.2)
    before = read_notice(world.store, TENANT).number
    world.store.act, world.store.of = lambda: time.sleep(0.5), "face_swap"  # type: ignore[attr-defined]
    assert world.collect().doomed == {"face_swap": 10}
    assert read_notice(world.store, TENANT).number > before + 2
    assert settled(world.store, TENANT) == read_notice(world.store, TENANT).number


class Slow(DirectoryStore):
    """A store that takes its time for some things."""

    list_s = say_s = 0.0

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if prefix == f"{TENANT}/plan/":
            time.sleep(self.list_s)
        return super().list(prefix)

    def put(self, key: str, data: bytes) -> None:
        if key == notice_key(TENANT):
            time.sleep(self.say_s)
        super().put(key, data)


@pytest.fixture
def slow(tmp_path: Path) -> World:
    return World.beside(Slow(tmp_path / "store"))


def test_chunks_of_what_a_live_plan_names_stay_until_it_is_over(world: World) -> None:
    """A long template's chunks may be all that there is of it when a run was interrupted."""
    world.make("upscale_plate/chunk", "other", upscale_plate="a" * 64)
    plate = world.make("upscale_plate", "plate")
    world.make("upscale_plate/chunk", "first", upscale_plate=plate.key)
    world.age(400)
    plan = world.plan("running", plate)
    world.collect()
    assert world.there() == {"upscale_plate plate", "upscale_plate/chunk first"}
    world.store.delete(plan)
    world.collect()
    assert world.there() == {"upscale_plate plate"}


def test_plans_that_take_longer_to_list_than_a_batch_may_take_hold_no_collection_up(
    slow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.retention.collect.FENCE_S", 0.4)
    monkeypatch.setattr("include.retention.collect.BATCH", 2)
    for tag in "abcdefghij":
        slow.make("face_swap", tag)
    slow.age(31)
    slow.store.list_s = 1.0  # type: ignore[attr-defined]
    found = slow.collect()
    assert found.doomed == {"face_swap": 10}
    assert found.blobs == 10
    # Larger batches where the look at the plans is what takes the time.
    assert read_notice(slow.store, TENANT).number < 8


def test_a_planner_waits_for_as_long_as_a_slow_batch_is_renewed(
    slow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.retention.collect.FENCE_S", 0.4)
    made = slow.make("face_swap", "a")
    slow.age(31)
    slow.store.list_s = 1.5  # type: ignore[attr-defined]
    waited: list[bool] = []

    def plan() -> None:
        store = DirectoryStore(slow.store.root)
        while not read_notice(store, TENANT).active:
            time.sleep(0.01)
        time.sleep(0.1)  # the collector looks at the plans now, and may or may not see this one
        slow.plan("late", made)
        await_quiet(store, TENANT, dead_s=0.6)
        waited.append(read_notice(store, TENANT).active)

    planner = threading.Thread(target=plan)
    planner.start()
    slow.collect()
    planner.join()
    assert waited == [False], "it gave the collector up while it was at work"


def test_a_store_that_cannot_renew_a_notice_in_time_ends_the_collection_and_loses_nothing(
    slow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.retention.collect.FENCE_S", 0.1)
    slow.make("face_swap", "a")
    slow.age(31)
    slow.store.say_s = 0.2  # type: ignore[attr-defined]
    with pytest.raises(StoreUnavailable) as caught:
        slow.collect()
    assert caught.value.code == "gc.slow"
    assert slow.there() == {"face_swap a"}
    assert not read_notice(slow.store, TENANT).active


class Counted(ObjectInfo):
    """What is known of an object, counted."""

    alive = most = 0

    def __init__(self, *known: Any) -> None:
        super().__init__(*known)
        Counted.alive += 1
        Counted.most = max(Counted.most, Counted.alive)

    def __del__(self) -> None:
        Counted.alive -= 1


class Many(DirectoryStore):
    """As many old and young artifacts, plans and records as wanted, made up as they are asked for.

    Leases and the notice are real.
    """

    number = 0

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        if "/lease/" in prefix:
            yield from super().list(prefix)
        for kind in ("blob", "face_swap"):
            if f"{TENANT}/{kind}/".startswith(prefix):
                yield from (self._info(f"{kind}/{d[:2]}/{d}", n) for n, d in self._digests())
        if prefix == f"{TENANT}/plan/":
            yield from (self._info(f"plan/{d}/shard-0.json", 1) for _, d in self._digests())

    def _digests(self) -> Iterator[tuple[int, str]]:
        for n in range(self.number):
            yield n, hashlib.sha256(str(n).encode()).hexdigest()[:56] + f"{n:08x}"

    def _info(self, name: str, number: int) -> ObjectInfo:
        days = 40 if number % 2 else 1
        at = datetime.now(UTC) - timedelta(days=days)
        return Counted(f"{TENANT}/{name}", 1, f"{number}", at.replace(microsecond=0))

    def get(self, key: str) -> bytes:
        if "/face_swap/" not in key:
            return super().get(key)
        return json.dumps({"outputs": {"out": {"sha256": key.rsplit("/", 1)[1]}}}).encode()

    def head(self, key: str) -> ObjectInfo | None:
        own = "/blob/" in key
        return self._info(key.partition("/")[2], int(key[-8:], 16)) if own else super().head(key)

    def delete(self, key: str) -> None:
        if "/lease/" in key:
            super().delete(key)


def test_a_collection_holds_some_pages_of_what_is_stored_and_never_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.retention.collect.MOST", 500)
    monkeypatch.setattr("include.retention.live._NEWEST", 500)
    store, number = Many(tmp_path / "store"), 4000
    store.number = number
    found = collect(store, TENANT, Retention(), GRACE)
    assert found.doomed == {"face_swap": number // 2}
    assert (found.kept, found.blobs) == (number // 2, number // 2)
    assert 0 < Counted.most < 1500
