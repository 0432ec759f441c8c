"""Garbage collection: what nothing needs goes, what a render needs stays, whenever it asks."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.contracts.brief import Brief
from include.contracts.manifest import BlobRef, KeyMaterial, Manifest
from include.contracts.plan import ShardPlan, SourceRef, UnitPlan
from include.contracts.stage import ReviewItem, StageRequest
from include.errors import CorruptArtifact, LeaseHeld, StoreUnavailable, Usage
from include.retention.collect import Collected, collect
from include.retention.policy import Retention
from include.settings import PROJECT
from include.store import DirectoryStore, ObjectMissing
from include.store.base import ObjectInfo
from include.store.cache import ArtifactCache
from include.store.lease import Lease
from include.store.notice import Notice, await_quiet, notice_key, read_notice, settled

TENANT = "acme"
GRACE = timedelta(days=7)
BRIEF = Brief.model_validate(
    {
        "campaign": "spring",
        "tenant": TENANT,
        "template": {"video": "ad.mp4"},
        "recipients": "recipients.csv",
        "policy": {"required": []},
    }
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def cache(store: DirectoryStore) -> ArtifactCache:
    return ArtifactCache(store, TENANT)


@dataclass
class World:
    """Artifacts of a made-up campaign, in a store whose clock can be turned back."""

    store: DirectoryStore
    cache: ArtifactCache
    folder: Path
    made: dict[str, Manifest] = field(default_factory=dict)

    def make(self, artifact: str, tag: str, **upstream: str) -> Manifest:
        path = self.folder / "output"
        path.write_bytes(f"{artifact} {tag}".encode() * 50)
        material = KeyMaterial(
            stage=artifact, stage_version=1, params={"tag": tag}, upstream=upstream
        )
        made = self.cache.publish(material, {"out": (path, "text/plain")}, {})
        self.made[f"{artifact} {tag}"] = made
        return made

    def plan(
        self,
        name: str,
        *made: Manifest,
        source: bytes | None = None,
        file: str = "shard-0000.json",
    ) -> str:
        sources = {}
        if source is not None:
            digest = hashlib.sha256(source).hexdigest()
            self.store.put(self.cache.blob_key(digest), source)
            blob = BlobRef(sha256=digest, size=len(source), filename="source.jpg")
            sources["face"] = SourceRef(blob=blob, origin="face.jpg")
        materials = {m.material.stage: m.material for m in made}
        row = UnitPlan(id="eve", materials=materials, sources=sources)
        plan = ShardPlan(
            brief=BRIEF, brief_sha256="0" * 64, label="row 1", rows=(row,), chunk_s=10,
            template=UnitPlan(id="template"),
        )  # fmt: skip
        key = f"{TENANT}/plan/{name}/{file}"
        self.store.put(key, plan.model_dump_json().encode())
        return key

    def age(self, days: float, prefix: str = "") -> None:
        """Make everything below a prefix that much older."""
        for info in list(self.store.list(prefix)):
            path = self.store.root / info.key
            then = path.stat().st_mtime - days * 86400
            os.utime(path, (then, then))

    def there(self) -> set[str]:
        """Which artifacts exist."""
        return {
            name
            for name, made in self.made.items()
            if self.cache.lookup(made.material.stage, made.key) is not None
        }

    def collect(self, policy: Retention | None = None, **more: bool) -> Collected:
        return collect(self.store, TENANT, policy or Retention(), GRACE, **more)


@pytest.fixture
def world(store: DirectoryStore, cache: ArtifactCache, tmp_path: Path) -> World:
    folder = tmp_path / "scratch"
    folder.mkdir()
    return World(store, cache, folder)


def test_what_a_row_that_fell_back_is_made_from_is_in_use_with_its_shard(world: World) -> None:
    planned, instead = world.make("upscale", "planned"), world.make("upscale", "instead")
    world.make("upscale", "nobody's")
    world.plan("p", instead, file="shard-0000.json.fallback/plan-0123abcd.json")
    world.age(40)
    world.plan("p", planned)  # planned again: the shard is young, its rows' fall is not
    world.collect()
    assert world.there() == {"upscale planned", "upscale instead"}


def test_what_is_young_stays_and_what_is_old_and_hot_goes_with_its_files(world: World) -> None:
    world.make("face_swap", "old")
    world.age(31)
    world.make("face_swap", "young")
    found = world.collect()
    assert world.there() == {"face_swap young"}
    assert found.doomed == {"face_swap": 1}
    assert found.blobs == 1
    assert len(list(world.store.list(f"{TENANT}/blob/"))) == 1


def test_days_of_the_policy_count_beyond_the_grace_period(world: World) -> None:
    world.make("face_swap", "a")
    world.age(8)
    world.collect(Retention(hot_days=30))
    assert world.there() == {"face_swap a"}
    world.collect(Retention(hot_days=0))
    assert world.there() == set()


def test_plates_stay_and_so_does_what_a_publication_rests_on(world: World) -> None:
    world.make("upscale_plate", "t")
    world.make("upscale_plate/chunk", "t")
    classify = world.make("classify", "eve", compose="a" * 64)
    sign = world.make("sign", "eve", compose="a" * 64, classify=classify.key)
    world.make("publish", "eve", sign=sign.key)
    world.make("classify", "not published")
    world.make("compose", "eve")
    world.age(400)
    world.collect()
    assert world.there() == {"upscale_plate t", "classify eve", "sign eve", "publish eve"}
    world.collect(Retention(plate_days=90))
    assert world.there() == {"classify eve", "sign eve", "publish eve"}


def test_a_file_that_two_artifacts_share_goes_with_the_last(world: World) -> None:
    one = world.make("face_swap", "a")
    material = KeyMaterial(stage="lip_sync", stage_version=1)
    world.made["lip_sync"] = world.cache.publish(material, dict(one.outputs), {})
    world.age(31, f"{TENANT}/face_swap/")
    world.age(31, f"{TENANT}/blob/")
    world.collect()
    assert world.there() == {"lip_sync"}
    world.age(31, f"{TENANT}/lip_sync/")
    assert world.collect().blobs == 1


def test_a_live_plan_keeps_its_artifacts_and_its_sources(world: World) -> None:
    plan = world.plan("p1", world.make("face_swap", "a"), source=b"a photo")
    world.age(100)
    world.store.put(plan, world.store.get(plan))  # planning again writes the plan again
    found = world.collect()
    assert world.there() == {"face_swap a"}
    assert (found.plans, found.blobs) == (1, 0)
    world.age(8, f"{TENANT}/plan/")
    found = world.collect()
    assert world.there() == set()
    assert found.blobs == 2


def test_a_run_that_still_writes_keeps_its_plan_alive(world: World) -> None:
    plan = world.plan("p1", world.make("face_swap", "a"))
    request = StageRequest(
        stage="compose", store=world.store.uri, tenant=TENANT, plan=plan, units=("eve",),
        run_id="r", result="x",
    )  # fmt: skip
    world.age(100)
    body = request.model_dump_json().encode()
    world.store.put(f"{TENANT}/run/campaign_render/r/shard.compose/001.request.json", body)
    # What names no plan, and comes later in the list, does not hide it.
    world.store.put(f"{TENANT}/run/campaign_render/r/shard.compose/002.progress.json", b"{}")
    world.collect()
    assert world.there() == {"face_swap a"}


def test_a_question_that_nobody_answered_keeps_what_it_is_about(world: World) -> None:
    compose = world.make("compose", "eve")
    plan = world.plan("p1", compose)
    decision = KeyMaterial(stage="decision", stage_version=1)
    item = ReviewItem(
        store="s", tenant=TENANT, plan=plan, unit="eve", label="eve", reasons=(), subject="",
        body="", contact_sheet="c", video="v", decision=decision.key(),
    )  # fmt: skip
    where = f"{TENANT}/run/campaign_render/r/review/eve.json"
    world.store.put(where, item.model_dump_json().encode())
    world.age(40)
    world.collect()
    assert world.there() == {"compose eve"}
    world.cache.publish(decision, {}, {"approved": False})
    world.collect()
    assert world.there() == set()


def test_a_lease_that_beats_keeps_its_plan_alive(world: World) -> None:
    done, making = world.make("face_swap", "a"), world.make("compose", "b")
    world.plan("p1", done, making)
    world.age(100)
    with Lease.acquire(world.store, TENANT, making.key):
        world.collect()
    assert world.there() == {"face_swap a", "compose b"}
    world.collect()
    assert world.there() == set()


def test_nothing_but_artifacts_is_ever_deleted(world: World) -> None:
    kinds = ("plan", "draft", "run", "report", "published", "audit", "gate", "reference")
    kinds += ("features", "live", "rollout", "timings", "decision", "scheduled", "drift")
    for kind in kinds:
        world.store.put(f"{TENANT}/{kind}/aa/{'a' * 64}", b"{}")
    world.store.put(f"{TENANT}x/blob/aa/{'a' * 64}", b"another tenant's")
    world.age(4000)
    before = {info.key for info in world.store.list()}
    world.collect(Retention(hot_days=0, plate_days=0.001))
    assert {info.key for info in world.store.list()} - {notice_key(TENANT)} == before


def test_files_of_artifacts_that_the_collector_does_not_know_stay(world: World) -> None:
    world.make("refused/upscale", "a"), world.make("a_stage_of_tomorrow", "b")
    world.age(4000)
    world.collect(Retention(hot_days=0))
    assert world.there() == {"refused/upscale a", "a_stage_of_tomorrow b"}


def test_a_dry_run_says_the_same_and_deletes_nothing(world: World) -> None:
    for tag in "abc":
        world.make("face_swap", tag)
    world.age(31)
    world.make("face_swap", "young")
    before = {info.key for info in world.store.list()}
    told = world.collect(dry_run=True)
    assert {info.key for info in world.store.list()} == before
    found = world.collect()
    assert (told.doomed, told.kept) == (found.doomed, found.kept) == ({"face_swap": 3}, 1)
    assert (told.blobs, told.bytes) == (found.blobs, found.bytes)


def test_only_one_collection_at_a_time_and_no_grace_that_is_too_short(world: World) -> None:
    with Lease.acquire(world.store, TENANT, "gc"), pytest.raises(LeaseHeld):
        world.collect()
    with pytest.raises(Usage, match="too short") as caught:
        collect(world.store, TENANT, Retention(), timedelta(minutes=59))
    assert caught.value.code == "gc.grace"


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
    folder = tmp_path / "scratch"
    folder.mkdir()
    store = Interrupted(tmp_path / "store")
    return World(store, ArtifactCache(store, TENANT), folder)


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
    folder = tmp_path / "scratch"
    folder.mkdir()
    store = Slow(tmp_path / "store")
    return World(store, ArtifactCache(store, TENANT), folder)


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


def test_a_collector_that_was_killed_holds_nobody_up_for_long(store: DirectoryStore) -> None:
    now = datetime.now(UTC)
    for at, dead_s in ((now, 0.3), (now - timedelta(hours=1), 1000.0)):
        notice = Notice(number=3, active=True, at=at)
        store.put(notice_key(TENANT), notice.model_dump_json().encode())
        assert await_quiet(store, TENANT, dead_s) == 3
        assert settled(store, TENANT) is None


KILLED = """
import os, signal, sys
from datetime import timedelta
from include.retention import collect as module
from include.store import DirectoryStore

class Dying(DirectoryStore):
    left = int(sys.argv[2])

    def delete(self, key):
        if "/lease/" not in key:
            if not self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1
        super().delete(key)

module.BATCH = 5
module.in_parallel = lambda work, items: [work(item) for item in items]
module.collect(Dying(sys.argv[1]), "acme", module.Retention(), timedelta(days=7))
"""


def test_a_collector_killed_at_any_moment_leaves_a_consistent_store(world: World) -> None:
    for number in range(12):
        world.make("face_swap", f"old {number}")
    kept = world.make("upscale_plate", "t")
    world.age(31)
    manifests = 13
    for deletions in (0, 2, 7, 5):  # in the first batch, between batches, among the files
        process = subprocess.run(
            [sys.executable, "-c", KILLED, str(world.store.root), str(deletions)],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            check=False,
        )
        assert process.returncode == -signal.SIGKILL
        for made in world.made.values():
            found = world.cache.lookup(made.material.stage, made.key)
            assert found is None or world.cache.read_bytes(found.outputs["out"])
        there = len(world.there())
        assert there == max(1, manifests - deletions)
        manifests = there
    world.collect()
    assert world.there() == {"upscale_plate t"}
    assert [info.key for info in world.store.list(f"{TENANT}/blob/")] == [
        world.cache.blob_key(kept.outputs["out"].sha256)
    ]


GRACE_S, TRUST = 0.6, 0.3
"""Tiny, so that everything a renderer finds is always about to be collected."""


def _material(tag: str) -> KeyMaterial:
    return KeyMaterial(stage="face_swap", stage_version=1, params={"tag": tag})


class Renderer(threading.Thread):
    """Plans a few artifacts, then uses what is there and makes what is not, over and over."""

    def __init__(self, uri_root: Path, folder: Path, seed: int, until: float) -> None:
        super().__init__()
        store = DirectoryStore(uri_root)
        cache = ArtifactCache(store, TENANT)
        cache.trust_s = TRUST
        folder.mkdir()
        self.world = World(store, cache, folder)
        self.random, self.until, self.seed = random.Random(seed), until, seed
        self.lost: list[str] = []
        self.rounds = self.hits = self.made = 0

    def run(self) -> None:
        try:
            while time.monotonic() < self.until and not self.lost:
                self._round()
        except (CorruptArtifact, ObjectMissing) as error:
            self.lost.append(repr(error))

    def _round(self) -> None:
        tags = self.random.sample([f"a{n}" for n in range(12)], 4)
        materials = [
            KeyMaterial(stage="face_swap", stage_version=1, params={"tag": t}) for t in tags
        ]
        row = {m.key()[:8]: m for m in materials}
        plan = ShardPlan(
            brief=BRIEF, brief_sha256="0" * 64, label="l", chunk_s=1,
            template=UnitPlan(id="template"), rows=(UnitPlan(id="eve", materials=row),),
        )  # fmt: skip
        store, cache = self.world.store, self.world.cache
        store.put(f"{TENANT}/plan/p{self.seed}/shard-0000.json", plan.model_dump_json().encode())
        await_quiet(store, TENANT)
        begun = time.monotonic()
        first = {m.key(): self._use(m, tag) for m, tag in zip(materials, tags, strict=True)}
        self.rounds += 1
        while time.monotonic() - begun < GRACE_S / 2:  # the plan is live: all of it stays
            for key, made in first.items():
                if cache.lookup("face_swap", key) is None:
                    self.lost.append(f"{key[:8]} went while its plan was live")
                cache.read_bytes(made.outputs["out"])
        time.sleep(self.random.uniform(0, 2 * GRACE_S))

    def _use(self, material: KeyMaterial, tag: str) -> Manifest:
        found = self.world.cache.lookup("face_swap", material.key())
        if found is not None:
            self.hits += 1
            return found
        self.made += 1
        return self.world.make("face_swap", tag)


def test_renderers_beside_a_collector_with_a_tiny_grace_lose_nothing(tmp_path: Path) -> None:
    until = time.monotonic() + 8
    root = tmp_path / "store"
    renderers = [Renderer(root, tmp_path / f"r{n}", n, until) for n in range(3)]
    for renderer in renderers:
        renderer.start()
    deleted = 0
    store = DirectoryStore(root)
    while time.monotonic() < until:
        found = collect(
            store, TENANT, Retention(hot_days=0), timedelta(seconds=GRACE_S), trust_s=TRUST
        )
        deleted += sum(found.doomed.values()) + found.blobs
    for renderer in renderers:
        renderer.join()
    assert [lost for renderer in renderers for lost in renderer.lost] == []
    assert deleted > 10, "the collector had something to do"
    assert sum(renderer.hits for renderer in renderers) > 10
    assert sum(renderer.made for renderer in renderers) > 10
