"""Inputs of jobs: files named by their digest, uploaded or fetched, checked on the way in."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import uuid
from io import BufferedIOBase
from pathlib import Path

import urllib3

from include.contracts.remote import JobFile
from include.errors import RemoteUnavailable, Usage
from include.remote.http import BLOCK, save_body

_FETCH = urllib3.Timeout(connect=5, read=60)


class Blobs:
    """A folder of files.

    Args:
        root: made if need be.
        max_bytes: largest file that is taken.
        fetch_from: beginnings of the addresses that are fetched; from anywhere else nothing is,
            or a job could have the server ask its own neighbours.
    """

    def __init__(self, root: Path, *, max_bytes: int, fetch_from: tuple[str, ...] = ()) -> None:
        self._root = root
        self._fetch_from = fetch_from
        self.max_bytes = max_bytes
        root.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str) -> Path:
        """Where a file lies, or would."""
        return self._root / sha256

    def has(self, file: JobFile) -> bool:
        """Whether a file is here; it is then kept for some time from now on."""
        path = self.path(file.sha256)
        try:
            if path.stat().st_size != file.size:
                return False
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def fetchable(self, file: JobFile) -> bool:
        """Whether a file may be fetched from where the job says it is."""
        return bool(file.url and file.url.startswith(self._fetch_from) and self._fetch_from)

    def take(self, sha256: str, stream: BufferedIOBase, size: int) -> None:
        """Take an upload in.

        Raises:
            Usage: ``blob.size``, ``blob.digest``: not what it is said to be.
        """
        if not 0 <= size <= self.max_bytes:
            raise Usage(f"at most {self.max_bytes} bytes are taken", code="blob.size")
        part = self._part()
        digest, left = hashlib.sha256(), size
        try:
            with part.open("wb") as out:
                while left and (block := stream.read(min(BLOCK, left))):
                    digest.update(block)
                    out.write(block)
                    left -= len(block)
            if left or digest.hexdigest() != sha256:
                raise Usage("the bytes do not match their digest", code="blob.digest")
            part.replace(self.path(sha256))
        finally:
            part.unlink(missing_ok=True)

    def fetch(self, file: JobFile) -> None:
        """Fetch a file by its address: no redirects, no credentials.

        Raises:
            RemoteUnavailable: ``inputs.fetch``.
        """
        part = self._part()
        try:
            with urllib3.PoolManager() as pool, part.open("wb") as out:
                response = pool.request(
                    "GET", file.url or "", redirect=False, timeout=_FETCH, preload_content=False
                )
                try:
                    said = save_body(response, out, file.size, file.sha256)
                finally:
                    response.close()
            if not said:
                part.replace(self.path(file.sha256))
                return
        except urllib3.exceptions.HTTPError as error:
            said = type(error).__name__
        finally:
            part.unlink(missing_ok=True)
        raise RemoteUnavailable(f"input {file.filename}: {said}", code="inputs.fetch")

    def sweep(self, older_than_s: float) -> int:
        """Remove what no job holds (by a hard link) and nobody asked for that long."""
        limit, removed = time.time() - older_than_s, 0
        for entry in os.scandir(self._root):
            with contextlib.suppress(FileNotFoundError):
                about = entry.stat()
                if about.st_nlink == 1 and about.st_mtime < limit:
                    os.unlink(entry.path)
                    removed += 1
        return removed

    def _part(self) -> Path:
        return self._root / f".{uuid.uuid4().hex}.part"
