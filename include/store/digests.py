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
from pathlib import Path
from urllib.parse import unquote, urlsplit

from include.errors import BadInput
from include.store import open_object
from include.store.base import ObjectInfo, ObjectMissing, ObjectStore

log = logging.getLogger(__name__)

SETTLE_S = 2.0
"""A file changed more recently than this is not remembered: another change within the clock's
resolution would leave size and times as they are (the "racy" entries of git's index)."""

_LOCK_WAIT_S = 30.0

_TABLE = (
    "CREATE TABLE IF NOT EXISTS digests ("
    "source BLOB PRIMARY KEY, stamp TEXT NOT NULL, sha256 TEXT NOT NULL) WITHOUT ROWID"
)


class DigestIndex:
    """SHA-256 of files and objects, by (path, size, times, inode) or (URI, etag, size).

    The index is one SQLite file that any number of processes may share. It is only a cache: when
    it is damaged it is begun anew, and when it cannot be written digests are computed each time.
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

    def _of_file(self, path: Path) -> str:
        try:
            for _ in range(3):
                stamp, changed = _file_stamp(path)
                known = self._recall(str(path), stamp)
                if known:
                    return known
                with open(path, "rb") as file:
                    sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                if _file_stamp(path)[0] == stamp:
                    if time.time() - changed >= self._settle_s:
                        self._remember(str(path), stamp, sha256)
                    return sha256
        except OSError as error:
            raise BadInput(
                f"{path} cannot be read: {error.strerror or error}. Check the path and its "
                "permissions.",
                code="source.unreadable",
                where=str(path),
            ) from error
        raise BadInput(
            f"{path} changes while it is read. Wait until whatever writes it has finished.",
            code="source.changing",
            where=str(path),
        )

    def _of_object(self, uri: str) -> str:
        store, key = open_object(uri)
        info = store.head(key)
        if info is None:
            raise BadInput(f"There is no object {uri}.", code="source.missing", where=uri)
        stamp = f"{info.etag}:{info.size}"
        known = self._recall(uri, stamp)
        if known:
            return known
        sha256 = _stream_digest(store, key, uri)
        if _same(store.head(key), info):
            self._remember(uri, stamp, sha256)
            return sha256
        raise BadInput(
            f"{uri} was replaced while it was read. Run again when uploads have finished.",
            code="source.changing",
            where=uri,
        )

    def _recall(self, source: str, stamp: str) -> str | None:
        row = self._execute(
            "SELECT sha256 FROM digests WHERE source = ? AND stamp = ?", os.fsencode(source), stamp
        )
        return str(row[0]) if row else None

    def _remember(self, source: str, stamp: str, sha256: str) -> None:
        self._execute(
            "INSERT OR REPLACE INTO digests VALUES (?, ?, ?)", os.fsencode(source), stamp, sha256
        )

    def _execute(self, statement: str, *values: bytes | str) -> tuple[str, ...] | None:
        """Run one statement in a transaction of its own; a failing index is only logged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=_LOCK_WAIT_S)) as database:
                with database:
                    database.execute(_TABLE)
                    row: tuple[str, ...] | None = database.execute(statement, values).fetchone()
                return row
        except sqlite3.OperationalError as error:
            log.warning("Digest index %s is not usable now: %s", self.path, error)
        except sqlite3.DatabaseError as error:
            log.warning("Digest index %s is damaged and begun anew: %s", self.path, error)
            with contextlib.suppress(OSError):
                self.path.unlink()
        except OSError as error:
            log.warning("Digest index %s is not usable: %s", self.path, error)
        return None


def _file_stamp(path: Path) -> tuple[str, float]:
    """Return what changes with the content, and when that last was (seconds since 1970)."""
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    stamp = f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"
    return stamp, max(found.st_mtime, found.st_ctime)


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
