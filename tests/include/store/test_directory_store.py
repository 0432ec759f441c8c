"""What only a directory on disk can get wrong."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from include.errors import StoreUnavailable
from include.store.directory import DirectoryStore
from tests.include.store.conftest import SYSTEM_TESTS

Python = Callable[..., "subprocess.Popen[str]"]

FULL = """
import resource, sys
from include.errors import StoreUnavailable
from include.store.directory import DirectoryStore
from pathlib import Path
root, source, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
store = DirectoryStore(root / "store")
store.put("small", b"x")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for write in (
    lambda: store.put("big", b"x" * 4_000_000),
    lambda: store.put_if_absent("big", b"x" * 4_000_000),
    lambda: store.put_file("big", source),
    lambda: store.put("small", b"y" * 4_000_000),
):
    try:
        write()
    except StoreUnavailable as error:
        print(error.code, "|", error)
    else:
        print("stored")
print([(i.key, i.size) for i in store.list()], store.get("small"), store.sweep(0))
"""


def _expect_full(lines: list[str], store: Path) -> None:
    assert len(lines) == 5
    for line in lines[:4]:
        assert line.startswith("disk.full | No space to write")
        assert f"Free space on the file system that holds {store}" in line
    assert lines[4] == "[('small', 1)] b'x' 0"


def test_a_file_size_limit_reads_as_a_full_disk_and_leaves_nothing(
    tmp_path: Path, python: Python
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 4_000_000)
    child = python(FULL, str(tmp_path), str(source), "1000000")
    _expect_full(child.communicate()[0].splitlines(), tmp_path / "store")


if SYSTEM_TESTS:

    def test_a_full_file_system_says_where_to_free_space_and_leaves_nothing(
        tmp_path: Path, python: Python
    ) -> None:
        disk, source = tmp_path / "disk", tmp_path / "source"
        disk.mkdir()
        source.write_bytes(b"x" * 4_000_000)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], check=True)
        try:
            child = python(FULL, str(disk), str(source), "0")
            _expect_full(child.communicate()[0].splitlines(), disk / "store")
        finally:
            subprocess.run(["umount", disk], check=True)


FORBIDDEN = """
import os, sys
from include.errors import StoreUnavailable
from include.store.directory import DirectoryStore
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = DirectoryStore(sys.argv[1])
for call in (
    lambda: store.get("a"),
    lambda: store.put("a", b"x"),
    lambda: store.put_if_absent("new", b"x"),
    lambda: store.head("folder/a"),
    lambda: list(store.list("folder/")),
    lambda: store.delete("folder/a"),
):
    try:
        print("done", call())
    except StoreUnavailable as error:
        print(error.code)
"""


def test_a_store_without_permission_is_unreachable_not_empty(python: Python) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        Path(folder).chmod(0o755)
        store = DirectoryStore(Path(folder) / "store")
        store.put("a", b"x")
        store.put("folder/a", b"x")
        modes = {"folder": 0, "a": 0, ".tmp": 0o500, "": 0o555}
        for name, mode in modes.items():
            (store.root / name).chmod(mode)
        said = python(FORBIDDEN, str(store.root)).communicate()[0].splitlines()
        for name in reversed(modes):
            (store.root / name).chmod(0o755)
    assert said == ["store.unreachable"] * 6


@pytest.mark.parametrize("root", ["file", "file/below"])
def test_a_root_that_is_a_file_is_unreachable_not_empty(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = DirectoryStore(tmp_path / root)
    calls: list[Callable[[], object]] = [
        lambda: store.get("a"),
        lambda: store.head("a"),
        lambda: list(store.list()),
        lambda: store.put("a", b""),
        lambda: store.put_if_absent("a", b""),
        lambda: store.delete("a"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="Check that it is a directory") as caught:
            call()
        assert caught.value.code == "store.unreachable"


def test_a_key_below_an_object_is_refused_rather_than_taken_for_present(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a", b"x")
    for write in (store.put, store.put_if_absent):
        with pytest.raises(StoreUnavailable, match="a file is in the way"):
            write("a/b", b"x")
        with pytest.raises(StoreUnavailable):
            write("a/b/c", b"x")
    assert store.get("a") == b"x"
    assert store.sweep(0) == 0


def test_temporary_files_are_invisible_and_swept_only_when_stale(tmp_path: Path) -> None:
    temp = tmp_path / ".tmp"
    temp.mkdir()
    stale, fresh = temp / "1-dead", temp / "2-alive"
    stale.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(stale, (time.time() - 7200,) * 2)
    store = DirectoryStore(tmp_path)
    assert list(store.list()) == []
    store.put("a", b"x")
    assert [info.key for info in store.list()] == ["a"]
    assert not stale.exists()
    assert fresh.exists()
    assert store.sweep(0) == 1


def test_deleting_the_last_object_of_a_folder_removes_the_folder(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    store.put("a/b/c/d", b"x")
    store.put("a/e", b"x")
    store.delete("a/b/c/d")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tmp", "a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["e"]


def test_a_failing_download_says_that_the_target_is_full(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put("a", b"x")
    with pytest.raises(StoreUnavailable) as caught:
        store.get_file("a", tmp_path / "no such folder" / "out")
    assert str(tmp_path / "no such folder") in str(caught.value)
