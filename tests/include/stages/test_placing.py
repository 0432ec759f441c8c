"""Where customers find a recipient's files: one version at a time, whole."""

from __future__ import annotations

import json
import random
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from include.contracts.manifest import BlobRef, KeyMaterial
from include.errors import LeaseHeld
from include.stages.placing import hold_place, place
from include.store import DirectoryStore
from include.store.cache import ArtifactCache
from include.store.lease import Lease

NAMES = ("thumbnail.jpg", "captions.vtt", "video.mp4")
PREFIX = "acme/published/spring/eve"


class Slow(DirectoryStore):
    """A store whose every write takes a moment, so that two writers would mix."""

    def put_file(self, key, path):
        time.sleep(random.uniform(0, 0.01))
        return super().put_file(key, path)

    def copy(self, source, target):
        time.sleep(random.uniform(0, 0.01))
        return super().copy(source, target)


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    return ArtifactCache(Slow(tmp_path / "store"), "acme")


class Version:
    """Something to publish, all of whose files say which version it is."""

    def __init__(self, cache: ArtifactCache, folder: Path, name: str) -> None:
        self.cache, self.name = cache, name
        self.material = KeyMaterial(stage="publish", stage_version=1, params={"name": name})
        self.report = folder / f"{name}.json"
        self.report.write_text(json.dumps({"key": self.material.key(), "name": name}))
        source = KeyMaterial(stage="compose", stage_version=1, params={"name": name})
        files = {}
        for file in NAMES:
            (folder / f"{name}-{file}").write_text(name)
            files[file] = (folder / f"{name}-{file}", "text/plain")
        self.copies: dict[str, BlobRef] = dict(cache.publish(source, files, {}).outputs)

    def publish(self) -> None:
        with ExitStack() as closing:
            lease = closing.enter_context(hold_place(self.cache, PREFIX))
            key = self.material.key()
            place(self.cache, lease, PREFIX, key, self.report, self.copies)
            files = {"report": (self.report, "application/json")}
            self.cache.publish(self.material, files, {})

    def publish_with_patience(self) -> None:
        while True:
            try:
                return self.publish()
            except LeaseHeld:
                time.sleep(0.01)

    @property
    def is_said_to_lie_there(self) -> bool:
        return self.cache.lookup("publish", self.material.key()) is not None


def lying(cache: ArtifactCache) -> set[str]:
    """The versions whose files lie in the place."""
    files = [cache.store.get(f"{PREFIX}/{name}").decode() for name in NAMES]
    return {*files, json.loads(cache.store.get(f"{PREFIX}/report.json"))["name"]}


def test_versions_that_go_out_at_once_never_mix_and_one_artifact_says_which_lies_there(
    cache: ArtifactCache, tmp_path: Path
) -> None:
    versions = [Version(cache, tmp_path, name) for name in ("a", "b", "c")]
    for _ in range(8):
        threads = [threading.Thread(target=each.publish_with_patience) for each in versions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (there,) = lying(cache)
        assert [each.name for each in versions if each.is_said_to_lie_there] == [there]


def test_who_finds_the_place_taken_writes_nothing_there(
    cache: ArtifactCache, tmp_path: Path
) -> None:
    one, other = (Version(cache, tmp_path, name) for name in ("a", "b"))
    one.publish()
    with hold_place(cache, PREFIX), pytest.raises(LeaseHeld):
        other.publish()
    assert lying(cache) == {"a"}
    assert one.is_said_to_lie_there


def test_who_stood_still_and_lost_the_place_replaces_no_further_file(
    cache: ArtifactCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = (Version(cache, tmp_path, name) for name in ("a", "b"))
    other.publish()
    copied = []
    monkeypatch.setattr(cache.store, "copy", lambda source, target: copied.append(target))
    monkeypatch.setattr(Lease, "held", property(lambda lease: len(copied) < 1))
    with pytest.raises(LeaseHeld, match="stood still"):
        one.publish()
    assert copied == [f"{PREFIX}/thumbnail.jpg"]
    assert not one.is_said_to_lie_there
