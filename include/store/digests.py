"""Digests of source files, remembered so that a re-run need not read gigabytes again."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from include.errors import BadInput
from include.store import open_object
from include.store.base import ObjectInfo, ObjectMissing, ObjectStore
from include.store.bulk import in_parallel

log = logging.getLogger(__name__)

SETTLE_S = 2.0
"""A file changed more recently than this is not remembered: another change within the clock's
resolution would leave size and times as they are (the "racy" entries of git's index)."""

_LOCK_WAIT_S = 30.0
_BATCH = 500

T = TypeVar("T")

_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests ("
    "source BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
)


class DigestIndex:
    """SHA-256 of files and objects, by (path, size, times, inode) or (URI, etag, size).

    The index is one SQLite file that any number of processes may share. It is only a cache: when
    it is damaged it is begun anew, and when it cannot be written digests are computed each time.
    A file whose content changed while its size, both its times (to the nanosecond) and its inode
    stayed is taken for unchanged: that takes a clock set back, or a file system without such times.
    """

    def __init__(self, path: Path, settle_s: float = SETTLE_S) -> None:
        self.path = path
        self._settle_s = settle_s

    def digest(self, source: Path | str) -> str:
        """Return the SHA-256 of a file or object in hexadecimal.

        Args:
            source: a path, ``file:///path`` or ``s3://bucket/key``.

        Raises:
            BadInput: there is no such file or object, it is no regular file, cannot be read or
                keeps changing while it is read.
            StoreUnavailable: the bucket cannot be reached.
        """
        text = str(source)
        if text.startswith("s3://"):
            return self._of_object(text)
        if text.startswith("file://"):
            text = unquote(urlsplit(text).path)
        return self._of_file(Path(text).resolve())

    def digests(self, paths: Iterable[Path]) -> dict[Path, str | BadInput]:
        """Digests of many files: the index is asked once, and unknown files are read in parallel.

        Args:
            paths: real paths, see ``Path.resolve``.

        Returns:
            For each path its SHA-256, or the error that ``digest`` would raise.
        """
        found: dict[Path, str | BadInput] = {}
        stamps: dict[Path, str] = {}
        for path in paths:
            try:
                stamps[path] = _file_stamp(path)[0]
            except OSError as error:
                found[path] = _unreadable(path, error)
        known = self._recall(str(path) for path in stamps)
        for path, stamp in stamps.items():
            held, sha256 = known.get(str(path), ("", ""))
            if held == stamp:
                found[path] = sha256
        unknown = [path for path in stamps if path not in found]
        read = list(zip(unknown, in_parallel(_read_file, unknown), strict=True))
        found.update({path: seen if isinstance(seen, BadInput) else seen[1] for path, seen in read})
        fresh = time.time() - self._settle_s
        self._remember(
            (str(path), seen[0], seen[1])
            for path, seen in read
            if not isinstance(seen, BadInput) and seen[2] <= fresh
        )
        return found

    def object_digests(
        self, store: ObjectStore, base: str, objects: Iterable[ObjectInfo]
    ) -> dict[str, str | BadInput]:
        """Digests of many objects of one store.

        Args:
            store: where they are.
            base: the store's URI as this index is to know it; a key is appended to it.
            objects: as a listing or ``head`` told them a moment ago.

        Returns:
            For each key its SHA-256, or the error that ``digest`` would raise.
        """
        infos = {info.key: info for info in objects}
        known = self._recall(f"{base}/{key}" for key in infos)
        found: dict[str, str | BadInput] = {}
        for key, info in infos.items():
            held, sha256 = known.get(f"{base}/{key}", ("", ""))
            if held == _object_stamp(info):
                found[key] = sha256

        def read(info: ObjectInfo) -> str | BadInput:
            return _read_object(store, info, f"{base}/{info.key}")

        unknown = [info for key, info in infos.items() if key not in found]
        seen = list(zip(unknown, in_parallel(read, unknown), strict=True))
        found.update({info.key: sha256 for info, sha256 in seen})
        self._remember(
            (f"{base}/{info.key}", _object_stamp(info), sha256)
            for info, sha256 in seen
            if isinstance(sha256, str)
        )
        return found

    def _of_file(self, path: Path) -> str:
        return _or_raise(self.digests([path])[path])

    def _of_object(self, uri: str) -> str:
        store, key = open_object(uri)
        info = store.head(key)
        if info is None:
            raise BadInput(f"There is no object {uri}.", code="source.missing", where=uri)
        stamp, sha256 = self._recall([uri]).get(uri, ("", ""))
        if stamp == _object_stamp(info):
            return sha256
        sha256 = _or_raise(_read_object(store, info, uri))
        self._remember([(uri, _object_stamp(info), sha256)])
        return sha256

    def _recall(self, sources: Iterable[str]) -> dict[str, tuple[str, str]]:
        """What is remembered of sources: (stamp, SHA-256)."""
        names = [os.fsencode(source) for source in sources]

        def ask(database: sqlite3.Connection) -> dict[str, tuple[str, str]]:
            found: dict[str, tuple[str, str]] = {}
            for begin in range(0, len(names), _BATCH):
                batch = names[begin : begin + _BATCH]
                marks = ",".join("?" * len(batch))
                rows = database.execute(f"SELECT * FROM digests WHERE source IN ({marks})", batch)
                found.update({os.fsdecode(name): (stamp, sha) for name, stamp, sha in rows})
            return found

        return (self._transaction(ask) or {}) if names else {}

    def _remember(self, entries: Iterable[tuple[str, str, str]]) -> None:
        values = [(os.fsencode(source), stamp, sha256) for source, stamp, sha256 in entries]
        statement = "INSERT OR REPLACE INTO digests VALUES (?, ?, ?)"
        if values:
            self._transaction(lambda database: database.executemany(statement, values))

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something in one transaction; a failing index is only logged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=_LOCK_WAIT_S)
            with contextlib.closing(connection) as database, database:
                database.execute(_TABLE)
                return work(database)
        except sqlite3.OperationalError as error:
            log.warning("Digest index %s is not usable now: %s", self.path, error)
        except sqlite3.DatabaseError as error:
            log.warning("Digest index %s is damaged and begun anew: %s", self.path, error)
            with contextlib.suppress(OSError):
                self.path.unlink()
        except OSError as error:
            log.warning("Digest index %s is not usable: %s", self.path, error)
        return None


def _or_raise(found: str | BadInput) -> str:
    if isinstance(found, BadInput):
        raise found
    return found


def _read_file(path: Path) -> tuple[str, str, float] | BadInput:
    """Stamp, SHA-256 and time of the last change (seconds since 1970) of a file."""
    try:
        for _ in range(3):
            stamp, changed = _file_stamp(path)
            with open(path, "rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if _file_stamp(path)[0] == stamp:
                return stamp, sha256, changed
    except OSError as error:
        return _unreadable(path, error)
    return BadInput(
        f"{path} changes while it is read. Wait until whatever writes it has finished.",
        code="source.changing",
        where=str(path),
    )


def _unreadable(path: Path, error: OSError) -> BadInput:
    return BadInput(
        f"{path} cannot be read: {error.strerror or error}. Check the path and its permissions.",
        code="source.unreadable",
        where=str(path),
    )


def _read_object(store: ObjectStore, info: ObjectInfo, uri: str) -> str | BadInput:
    try:
        sha256 = _stream_digest(store, info.key, uri)
    except BadInput as error:
        return error
    if _same(store.head(info.key), info):
        return sha256
    return BadInput(
        f"{uri} was replaced while it was read. Run again when uploads have finished.",
        code="source.changing",
        where=uri,
    )


def _file_stamp(path: Path) -> tuple[str, float]:
    """Return what changes with the content, and when that last was (seconds since 1970)."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    stamp = f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"
    return stamp, max(found.st_mtime, found.st_ctime)


def _object_stamp(info: ObjectInfo) -> str:
    return f"{info.etag}:{info.size}"


def _stream_digest(store: ObjectStore, key: str, uri: str) -> str:
    digest = hashlib.sha256()
    try:
        for chunk in store.chunks(key):
            digest.update(chunk)
    except ObjectMissing as error:
        raise BadInput(f"There is no object {uri}.", code="source.missing", where=uri) from error
    return digest.hexdigest()


def _same(now: ObjectInfo | None, before: ObjectInfo) -> bool:
    return now is not None and (now.etag, now.size) == (before.etag, before.size)
