"""The artifact cache keeps its promises on every backend."""

from __future__ import annotations

import hashlib
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from include.contracts.base import canonical_json
from include.contracts.manifest import BackendRef, BlobRef, KeyMaterial, Manifest
from include.errors import CorruptArtifact, Transient, Usage
from include.store import DirectoryStore, ObjectInfo, ObjectMissing, ObjectStore
from include.store.cache import ArtifactCache

STAGE = "face_swap"


@pytest.fixture
def cache(store: ObjectStore) -> ArtifactCache:
    return ArtifactCache(store, "acme")


def material(number: int = 0, stage: str = STAGE) -> KeyMaterial:
    return KeyMaterial(
        stage=stage,
        stage_version=1,
        backend=BackendRef(name="mesh", version="1"),
        params={"number": number, "strength": 0.1, "nested": {"名": [1, 2.5, None]}},
    )


def publish(
    cache: ArtifactCache, folder: Path, number: int = 0, content: bytes = b"frames"
) -> Manifest:
    folder.mkdir(exist_ok=True)
    video, data = folder / "roi.mkv", folder / "track.json"
    video.write_bytes(content)
    data.write_bytes(b'{"frames": 25}')
    return cache.publish(
        material(number),
        {"roi": (video, "video/x-matroska"), "track": (data, "application/json")},
        {"frames": 25, "psnr": 41.25},
        seconds=1.5,
        cpu_seconds=1.25,
        peak_mib=100.0,
    )


def test_a_published_artifact_is_found_and_fetched_as_it_was(
    cache: ArtifactCache, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path)
    found = cache.lookup(STAGE, material().key())
    assert found == made
    assert found is not None
    assert found.facts == {"frames": 25, "psnr": 41.25}
    assert found.outputs["roi"] == BlobRef(
        sha256=hashlib.sha256(b"frames").hexdigest(),
        size=6,
        media_type="video/x-matroska",
        filename="roi.mkv",
    )
    fetched = cache.fetch(found.outputs["roi"], tmp_path / "new" / "folder")
    assert fetched == tmp_path / "new" / "folder" / "roi.mkv"
    assert fetched.read_bytes() == b"frames"
    assert cache.open_json(found.outputs["track"]) == {"frames": 25}
    assert cache.read_bytes(found.outputs["roi"]) == b"frames"


class Meeting(DirectoryStore):
    """A store that answers only when four ask at the same time."""

    barrier = Barrier(4)

    def head(self, key: str) -> ObjectInfo | None:
        self.barrier.wait(timeout=20)
        return super().head(key)


def test_many_files_of_an_artifact_are_stored_and_looked_up_together(tmp_path: Path) -> None:
    files = {}
    for number in range(8):
        path = tmp_path / f"clip-{number}.avi"
        path.write_bytes(bytes([number]) * 100)
        files[f"clip-{number}"] = (path, "video/x-msvideo")
    cache = ArtifactCache(Meeting(tmp_path / "store"), "acme")
    made = cache.publish(material(), files, {})
    assert list(made.outputs) == list(files)
    assert cache.lookup(STAGE, made.key) == made
    for number, blob in enumerate(made.outputs.values()):
        assert cache.read_bytes(blob) == bytes([number]) * 100


def test_objects_are_named_as_the_layout_says(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path)
    blobs = [made.outputs[name].sha256 for name in ("roi", "track")]
    expected = {f"acme/blob/{sha[:2]}/{sha}" for sha in blobs}
    expected.add(f"acme/face_swap/{made.key[:2]}/{made.key}")
    assert {info.key for info in store.list()} == expected


def test_an_artifact_without_files_is_an_artifact(cache: ArtifactCache) -> None:
    made = cache.publish(material(), {}, {"verdict": "pass"})
    assert cache.lookup(STAGE, made.key) == made


def test_what_was_never_made_is_absent(cache: ArtifactCache) -> None:
    assert cache.lookup(STAGE, material().key()) is None
    assert cache.existing(STAGE) == set()
    assert cache.lookup_many(STAGE, []) == {}


def test_many_are_looked_up_at_once(cache: ArtifactCache, tmp_path: Path) -> None:
    made = {m.key: m for m in (publish(cache, tmp_path, n, b"%d" % n) for n in range(5))}
    keys = [material(n).key() for n in range(7)]
    assert cache.lookup_many(STAGE, keys) == made
    assert cache.existing(STAGE) == set(made)


def test_stages_with_parts_do_not_mix_with_their_first_part(cache: ArtifactCache) -> None:
    whole = cache.publish(material(stage="ingest_recipients"), {}, {})
    part = cache.publish(material(stage="ingest_recipients/face"), {}, {})
    assert cache.existing("ingest_recipients") == {whole.key}
    assert cache.existing("ingest_recipients/face") == {part.key}
    assert cache.existing("ingest") == set()
    assert cache.lookup("ingest_recipients", part.key) is None


def test_tenants_do_not_see_each_other(cache: ArtifactCache, store: ObjectStore) -> None:
    made = cache.publish(material(), {}, {})
    other = ArtifactCache(store, "acme2")
    assert other.lookup(STAGE, made.key) is None
    assert other.existing(STAGE) == set()


@pytest.mark.parametrize(
    "stage", ["", "blob", "lease/x", "ab", "ab/cd", "Face", "face/", "/face", "../x", "face/../x"]
)
def test_a_stage_name_that_could_be_taken_for_something_else_is_refused(
    cache: ArtifactCache, stage: str
) -> None:
    with pytest.raises(Usage, match="not a stage name"):
        cache.lookup(stage, "0" * 64)


@pytest.mark.parametrize("tenant", ["", "../acme", "a/b", ".tmp", "x" * 65])
def test_a_tenant_that_is_no_plain_name_is_refused(store: ObjectStore, tenant: str) -> None:
    with pytest.raises(Usage, match="tenant"):
        ArtifactCache(store, tenant)


@pytest.mark.parametrize("key", ["", "0" * 63, "g" * 64, "A" * 64, "../" + "0" * 61])
def test_a_key_that_is_no_digest_is_refused(cache: ArtifactCache, key: str) -> None:
    with pytest.raises(Usage, match="artifact key"):
        cache.lookup(STAGE, key)


def test_an_artifact_that_lost_a_blob_does_not_exist_and_can_be_made_again(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = publish(cache, tmp_path)
    store.delete(cache.blob_key(made.outputs["roi"].sha256))
    with caplog.at_level(logging.WARNING):
        assert cache.lookup(STAGE, made.key) is None
    assert "lost its outputs ['roi']" in caplog.text
    assert cache.existing(STAGE) == set()
    again = publish(cache, tmp_path)
    assert cache.lookup(STAGE, made.key) == again


def test_an_artifact_whose_blob_has_another_size_does_not_exist(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path)
    store.put(cache.blob_key(made.outputs["roi"].sha256), b"fra")
    assert cache.lookup_many(STAGE, [made.key]) == {}
    again = publish(cache, tmp_path)
    assert cache.lookup(STAGE, made.key) == again
    assert cache.read_bytes(again.outputs["roi"]) == b"frames"


def test_publishing_over_an_artifact_that_lost_a_blob_heals_it_without_a_lookup(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path, content=b"first")
    store.delete(cache.blob_key(made.outputs["roi"].sha256))
    again = publish(cache, tmp_path, content=b"second")
    assert again.outputs["roi"].size == 6
    assert cache.lookup(STAGE, made.key) == again


def _manifest_json(cache: ArtifactCache, tmp_path: Path, **changes: object) -> bytes:
    made = publish(cache, tmp_path)
    return canonical_json({**made.model_dump(mode="json"), **changes})


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 3},
        {"unknown_field": 1},
        {"outputs": {"roi": {"sha256": "../../etc", "size": 1, "filename": "x"}}},
        {"tenant": "other"},
        {"key": "0" * 64},
        None,
    ],
    ids=["newer schema", "unknown field", "bad digest", "other tenant", "other key", "garbage"],
)
def test_a_manifest_that_cannot_be_trusted_counts_as_absent_and_is_replaced(
    cache: ArtifactCache,
    store: ObjectStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object] | None,
) -> None:
    raw = b"\xff{" if change is None else _manifest_json(cache, tmp_path, **change)
    key = material().key()
    store.put(cache.manifest_key(STAGE, key), raw)
    with caplog.at_level(logging.WARNING):
        assert cache.lookup(STAGE, key) is None
    assert "counts as absent" in caplog.text
    assert store.get(cache.manifest_key(STAGE, key)) == raw
    again = publish(cache, tmp_path)
    assert cache.lookup(STAGE, key) == again


def test_the_first_manifest_wins_and_everybody_gets_it(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    ways = 6
    barrier = Barrier(ways)

    def race(me: int) -> list[Manifest]:
        mine = ArtifactCache(store, "acme")
        got = []
        for turn in range(4):
            barrier.wait()
            got.append(publish(mine, tmp_path / str(me), turn, b"made by %d" % me))
        return got

    with ThreadPoolExecutor(ways) as pool:
        results = list(pool.map(race, range(ways)))
    for turn, manifests in enumerate(zip(*results, strict=True)):
        standing = cache.lookup(STAGE, material(turn).key())
        assert standing is not None
        assert all(manifest == standing for manifest in manifests)


def test_content_that_is_stored_already_is_not_sent_again(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    first = publish(cache, tmp_path, 1)
    where = cache.blob_key(first.outputs["roi"].sha256)
    store.put(where, b"MARKED")  # the size counts; another upload would undo this
    second = publish(cache, tmp_path, 2)
    assert first.outputs == second.outputs
    assert store.get(where) == b"MARKED"


def test_corrupt_bytes_are_noticed_removed_and_made_again(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path)
    blob = made.outputs["roi"]
    store.put(cache.blob_key(blob.sha256), b"FRAMES")  # the size is right
    assert cache.lookup(STAGE, made.key) == made
    with pytest.raises(CorruptArtifact, match="do not match their digest") as caught:
        cache.fetch(blob, tmp_path / "out")
    assert isinstance(caught.value, Transient)
    assert list((tmp_path / "out").iterdir()) == []
    assert cache.lookup(STAGE, made.key) is None
    again = publish(cache, tmp_path)
    assert cache.fetch(again.outputs["roi"], tmp_path / "out").read_bytes() == b"frames"


def test_corrupt_bytes_are_noticed_when_read_into_memory(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path)
    store.put(cache.blob_key(made.outputs["track"].sha256), b'{"frames": 26}')
    with pytest.raises(CorruptArtifact, match="do not match"):
        cache.open_json(made.outputs["track"])
    with pytest.raises(ObjectMissing):
        cache.open_json(made.outputs["track"])
    assert cache.lookup(STAGE, made.key) is None


def test_quarantine_removes_the_manifest_and_only_the_bad_blobs(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    made = publish(cache, tmp_path)
    roi, track = (cache.blob_key(made.outputs[name].sha256) for name in ("roi", "track"))
    store.put(roi, b"FRAMES")
    cache.quarantine(STAGE, made.key)
    cache.quarantine(STAGE, made.key)
    assert [info.key for info in store.list()] == [track]
    again = publish(cache, tmp_path)
    assert cache.read_bytes(again.outputs["roi"]) == b"frames"


def test_fetching_reuses_a_good_file_and_replaces_a_bad_one(
    cache: ArtifactCache, store: ObjectStore, tmp_path: Path
) -> None:
    blob = publish(cache, tmp_path).outputs["roi"]
    out = tmp_path / "out"
    target = cache.fetch(blob, out)
    target.write_bytes(b"FRAMES")
    assert cache.fetch(blob, out).read_bytes() == b"frames"
    store.delete(cache.blob_key(blob.sha256))
    assert cache.fetch(blob, out).read_bytes() == b"frames"  # not asked for again
    target.unlink()
    with pytest.raises(ObjectMissing):
        cache.fetch(blob, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["../escape", "/etc/passwd", "a/b", "..", "", "a\\b"])
def test_a_file_name_in_a_manifest_cannot_leave_the_folder(
    cache: ArtifactCache, tmp_path: Path, name: str
) -> None:
    blob = publish(cache, tmp_path).outputs["roi"].model_copy(update={"filename": name})
    with pytest.raises(CorruptArtifact, match="not a file name"):
        cache.fetch(blob, tmp_path / "out")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}, b"x"], ids=repr)
def test_facts_that_json_cannot_hold_publish_nothing(cache: ArtifactCache, bad: object) -> None:
    with pytest.raises((ValueError, TypeError), match="JSON"):
        cache.publish(material(), {}, {"psnr": bad})
    assert cache.existing(STAGE) == set()


def test_facts_come_back_as_every_reader_will_see_them(cache: ArtifactCache) -> None:
    made = cache.publish(material(), {}, {"window": (1, 2), "whole": 1.0, "名": None})
    assert made.facts == {"window": [1, 2], "whole": 1.0, "名": None}
    assert cache.lookup(STAGE, made.key) == made


def test_a_failing_upload_leaves_no_artifact(cache: ArtifactCache, tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"x")
    files = {
        "good": (tmp_path / "good", "text/plain"),
        "missing": (tmp_path / "missing", "text/plain"),
    }
    with pytest.raises(FileNotFoundError):
        cache.publish(material(), files, {})
    assert cache.existing(STAGE) == set()
