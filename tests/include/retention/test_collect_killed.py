"""Garbage collectors that are killed, and renderers beside one that hardly waits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.contracts.manifest import KeyMaterial, Manifest
from include.contracts.plan import ShardPlan, UnitPlan
from include.errors import CorruptArtifact
from include.retention.collect import collect
from include.retention.policy import Retention
from include.settings import PROJECT
from include.store import DirectoryStore, ObjectMissing
from include.store.cache import ArtifactCache
from include.store.notice import Notice, await_quiet, notice_key, settled
from tests.include.retention.world import BRIEF, TENANT, World


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
