from __future__ import annotations

from pathlib import Path

import pytest

from include.errors import Usage
from include.store import DirectoryStore, open_object, open_store
from include.store.s3 import S3Store


def test_a_path_and_its_file_uri_open_the_same_directory(tmp_path: Path) -> None:
    root = tmp_path / "with space & ünïcode%20"
    by_path, by_uri = open_store(str(root)), open_store(root.as_uri())
    assert isinstance(by_path, DirectoryStore)
    assert by_path.uri == by_uri.uri == root.as_uri()


def test_a_relative_path_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("store")
    monkeypatch.chdir("/")
    store.put("a", b"x")
    assert (tmp_path / "store" / "a").read_bytes() == b"x"


def test_nothing_is_created_by_opening(tmp_path: Path) -> None:
    open_store(str(tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_an_s3_uri_keeps_bucket_prefix_and_endpoint() -> None:
    store = open_store("s3://bucket/some/prefix/?endpoint=http://127.0.0.1:9")
    assert isinstance(store, S3Store)
    assert (store.bucket, store.prefix, store.endpoint) == (
        "bucket",
        "some/prefix",
        "http://127.0.0.1:9",
    )
    assert store.uri == "s3://bucket/some/prefix?endpoint=http://127.0.0.1:9"


@pytest.mark.parametrize(
    "uri",
    ["", "http://host/x", "gs://bucket", "s3://", "s3:///prefix", "file://host/x", "file://x",
     "s3://bucket/../other", "s3://bucket/x?region=y"],
)  # fmt: skip
def test_any_other_uri_is_refused(uri: str) -> None:
    with pytest.raises(Usage):
        open_store(uri)


def test_credentials_in_a_uri_are_refused_and_not_repeated() -> None:
    with pytest.raises(Usage, match="AWS_ACCESS_KEY_ID") as caught:
        open_store("s3://key:very-secret@bucket/x")
    assert "very-secret" not in str(caught.value)


def test_an_object_uri_splits_into_store_and_key(tmp_path: Path) -> None:
    store, key = open_object("s3://bucket/a/b.mp4?endpoint=http://127.0.0.1:9")
    assert (store.uri, key) == ("s3://bucket?endpoint=http://127.0.0.1:9", "a/b.mp4")
    for uri in (str(tmp_path / "a b.mp4"), (tmp_path / "a b.mp4").as_uri()):
        store, key = open_object(uri)
        assert (store.uri, key) == (tmp_path.as_uri(), "a b.mp4")
    with pytest.raises(Usage, match="names a bucket"):
        open_object("s3://bucket/")
