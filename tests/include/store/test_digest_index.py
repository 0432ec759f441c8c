"""The index of source digests: never wrong, seldom reads twice."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from include.errors import BadInput
from include.store import open_store
from include.store.digests import DigestIndex
from include.store.s3 import S3Store

Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def index(tmp_path: Path) -> DigestIndex:
    return DigestIndex(tmp_path / "state" / "digests.sqlite", settle_s=0.0)


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _forge(index: DigestIndex) -> None:
    """Change what the index remembers, so that a later answer tells where it came from."""
    with sqlite3.connect(index.path) as database:
        assert database.execute("UPDATE digests SET sha256 = 'remembered'").rowcount == 1


def test_a_file_is_read_once_however_it_is_named(index: DigestIndex, tmp_path: Path) -> None:
    path = tmp_path / "vidéo.mp4"
    path.write_bytes(b"content")
    assert index.digest(path) == sha(b"content")
    _forge(index)
    (tmp_path / "link").symlink_to(path)
    for name in (path, str(path), path.as_uri(), tmp_path / "x" / ".." / path.name, "link"):
        source = tmp_path / name if name == "link" else name
        assert index.digest(source) == "remembered"
    assert DigestIndex(index.path).digest(path) == "remembered"


def test_any_change_of_a_file_is_noticed(index: DigestIndex, tmp_path: Path) -> None:
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"one")
    assert index.digest(path) == sha(b"one")
    path.write_bytes(b"two")
    assert index.digest(path) == sha(b"two")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    other.write_bytes(b"six")
    os.replace(other, path)
    os.utime(path, ns=times)  # same size, same time of change, other content
    assert index.digest(path) == sha(b"six")


def test_a_file_that_changed_just_now_is_not_remembered(tmp_path: Path) -> None:
    path, index = tmp_path / "a", DigestIndex(tmp_path / "index", settle_s=3600)
    path.write_bytes(b"one")
    assert index.digest(path) == sha(b"one")
    with sqlite3.connect(index.path) as database:
        assert database.execute("SELECT count(*) FROM digests").fetchone() == (0,)


def test_a_name_that_is_not_unicode_is_a_name(index: DigestIndex, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    path.write_bytes(b"content")
    assert index.digest(path) == sha(b"content")
    _forge(index)
    assert index.digest(path) == "remembered"


def test_what_is_no_readable_file_is_bad_input(index: DigestIndex, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("missing", "", "pipe"):
        with pytest.raises(BadInput, match="cannot be read") as caught:
            index.digest(tmp_path / name)
        assert caught.value.code == "source.unreadable"


def test_a_damaged_index_is_begun_anew(index: DigestIndex, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    index.path.parent.mkdir()
    index.path.write_bytes(b"this is no database" * 1000)
    assert index.digest(path) == sha(b"content")
    _forge(index)
    assert index.digest(path) == "remembered"


def test_an_index_that_cannot_be_written_only_costs_time(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"content")
    assert DigestIndex(path / "below" / "index").digest(path) == sha(b"content")
    assert DigestIndex(tmp_path).digest(path) == sha(b"content")


WRITER = """
import sys
from pathlib import Path
from include.store.digests import DigestIndex
index = DigestIndex(Path(sys.argv[1]), settle_s=0.0)
for path in sorted(Path(sys.argv[2]).iterdir()):
    print(index.digest(path))
"""


def test_processes_share_an_index(tmp_path: Path, python: Python) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:03d}").write_bytes(b"%d" % number)
    writers = [python(WRITER, str(tmp_path / "index"), str(folder)) for _ in range(4)]
    expected = [sha(b"%d" % number) for number in range(30)]
    for writer in writers:
        assert writer.communicate()[0].split() == expected
    with sqlite3.connect(tmp_path / "index") as database:
        assert database.execute("SELECT count(*) FROM digests").fetchone() == (30,)


def test_an_object_is_read_once_until_it_is_replaced(index: DigestIndex, s3_uri: str) -> None:
    store = open_store(s3_uri)
    store.put("media/face.png", b"one")
    base, _, query = s3_uri.partition("?")
    uri = f"{base}/media/face.png?{query}"
    assert index.digest(uri) == sha(b"one")
    _forge(index)
    assert index.digest(uri) == "remembered"
    store.put("media/face.png", b"two")
    assert index.digest(uri) == sha(b"two")


def test_an_object_that_is_not_there_is_bad_input(index: DigestIndex, s3_uri: str) -> None:
    assert isinstance(open_store(s3_uri), S3Store)
    with pytest.raises(BadInput, match="There is no object") as caught:
        index.digest(s3_uri.replace("?", "/missing.png?"))
    assert caught.value.code == "source.missing"
