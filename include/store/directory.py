"""A directory on disk as an object store: the embedded default, no server needed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from include.store.base import (
    CHUNK_BYTES,
    TEMP_SEGMENT,
    ObjectInfo,
    ObjectMissing,
    ObjectStore,
    check_key,
    check_prefix,
)
from include.store.disk_errors import read_errors, write_errors

STALE_TEMP_S = 3600.0
"""A temporary file that nobody wrote to for this long belongs to a dead writer."""

_NAME_TRIES = 50


class DirectoryStore(ObjectStore):
    """Objects are files below ``root``; a key is the path relative to it.

    A write goes to a temporary file on the same file system, is flushed to disk, then takes its
    name in one step: ``os.replace`` to create or replace, ``os.link`` (which fails if the name is
    taken) to create exclusively. The file system must therefore allow hard links, as those
    of Linux and macOS and NFS do. The root appears with the first write.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(os.path.abspath(root))
        self._swept = False

    @property
    def uri(self) -> str:
        """The root as a ``file://`` URI."""
        return self.root.as_uri()

    def get(self, key: str) -> bytes:
        """Read a whole object."""
        with self._reading(key) as file:
            return file.read()

    def chunks(self, key: str) -> Iterator[bytes]:
        """Read an object piece by piece."""
        with self._reading(key) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def get_file(self, key: str, dst: Path) -> None:
        """Copy an object to ``dst``."""
        with self._reading(key) as file, write_errors(dst.parent, key):
            temp = dst.with_name(f".{uuid.uuid4().hex}.part")
            try:
                with open(temp, "xb") as out:
                    shutil.copyfileobj(file, out, CHUNK_BYTES)
                os.replace(temp, dst)
            finally:
                temp.unlink(missing_ok=True)

    def put(self, key: str, data: bytes) -> None:
        """Create or replace an object."""
        self._write(key, lambda out: _write_all(out, data), os.replace)

    def put_file(self, key: str, src: Path) -> None:
        """Create or replace an object from a file."""
        with open(src, "rb") as file:
            self._write(key, lambda out: shutil.copyfileobj(file, out, CHUNK_BYTES), os.replace)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create an object unless the key is taken."""
        if os.path.lexists(self._path(key)):  # saves the write; the link below is what decides
            return False
        try:
            self._write(key, lambda out: _write_all(out, data), os.link)
        except FileExistsError:
            return False
        return True

    def head(self, key: str) -> ObjectInfo | None:
        """Look up an object."""
        path = self._path(key)
        try:
            with read_errors(self.root, key):
                found = path.stat()
        except ObjectMissing:
            return None
        return _info(key, found) if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over objects in key order."""
        folder = check_prefix(prefix).rpartition("/")[0]
        yield from self._walk(folder, prefix)

    def delete(self, key: str) -> None:
        """Remove an object, and the folders that it leaves empty."""
        path = self._path(key)
        try:
            with read_errors(self.root, key):
                path.unlink()
        except ObjectMissing:
            return
        for folder in path.parents:
            if folder == self.root:
                return
            try:
                folder.rmdir()
            except OSError:
                return

    def copy(self, src_key: str, dst_key: str) -> None:
        """Copy an object."""
        check_key(dst_key)
        with self._reading(src_key) as file:
            self._write(dst_key, lambda out: shutil.copyfileobj(file, out, CHUNK_BYTES), os.replace)

    def presign(self, key: str, expires_s: int) -> str:
        """Make a ``file://`` URI; it does not expire."""
        return self._path(key).as_uri()

    def sweep(self, older_than_s: float = STALE_TEMP_S) -> int:
        """Remove temporary files that nobody wrote to for that long."""
        limit = time.time() - older_than_s
        removed = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root / TEMP_SEGMENT) as found:
            for entry in found:
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime <= limit:
                        os.unlink(entry.path)
                        removed += 1
        return removed

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[BinaryIO]:
        path = self._path(key)
        with read_errors(self.root, key):
            file = open(path, "rb")  # noqa: SIM115 (closed below; only opening is translated here)
        with file:
            yield file

    def _walk(self, folder: str, prefix: str) -> Iterator[ObjectInfo]:
        """Yield what lies below ``folder`` and begins with ``prefix``, by the key's bytes."""
        found: list[tuple[str, os.DirEntry[str]]] = []
        try:
            with read_errors(self.root, folder), os.scandir(self.root / folder) as entries:
                for entry in entries:
                    is_dir = entry.is_dir(follow_symlinks=False)
                    key = f"{folder}/{entry.name}" if folder else entry.name
                    found.append((key + "/" if is_dir else key, entry))
        except ObjectMissing:
            return
        for key, entry in sorted(found, key=lambda item: item[0]):
            if key == TEMP_SEGMENT + "/":
                continue
            if key.endswith("/"):
                if key.startswith(prefix) or prefix.startswith(key):
                    yield from self._walk(key[:-1], prefix)
            elif key.startswith(prefix):
                with contextlib.suppress(FileNotFoundError):
                    yield _info(key, entry.stat())

    def _write(
        self, key: str, fill: Callable[[BinaryIO], object], settle: Callable[[str, str], None]
    ) -> None:
        path = self._path(key)
        with write_errors(self.root, key):
            folder = self.root / TEMP_SEGMENT
            folder.mkdir(parents=True, exist_ok=True)
            self._sweep_once()
            temp = folder / f"{os.getpid()}-{uuid.uuid4().hex}"
            try:
                with open(temp, "xb") as out:
                    fill(out)
                    out.flush()
                    os.fsync(out.fileno())
                _give_name(temp, path, settle)
            finally:
                temp.unlink(missing_ok=True)

    def _sweep_once(self) -> None:
        if not self._swept:
            self._swept = True
            self.sweep()


def _give_name(temp: Path, path: Path, settle: Callable[[str, str], None]) -> None:
    """Move or link the finished file to its name and make the name durable."""
    for attempt in range(_NAME_TRIES):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # not to be taken for "the key is taken"
            if path.parent.is_file():
                raise NotADirectoryError(
                    errno.ENOTDIR, "a file is in the way", str(path)
                ) from error
            continue
        except FileNotFoundError:
            continue
        try:
            settle(str(temp), str(path))
            break
        except FileNotFoundError:  # a delete removed the empty folder meanwhile
            if attempt == _NAME_TRIES - 1 or not temp.exists():
                raise
    with contextlib.suppress(FileNotFoundError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_all(out: BinaryIO, data: bytes) -> None:
    out.write(data)


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    etag = f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"
    return ObjectInfo(key, found.st_size, etag, datetime.fromtimestamp(found.st_mtime, UTC))
