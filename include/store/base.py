"""The object store's interface: a handful of verbs with the same meaning on every backend."""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from include.errors import CorruptArtifact, Usage

MAX_KEY_BYTES = 1024
"""What S3 allows for a whole key, the store's own prefix included."""

MAX_SEGMENT_BYTES = 255
"""What file systems allow between two slashes."""

TEMP_SEGMENT = ".tmp"
"""First segment that a backend keeps for itself; no key may begin with it."""

CHUNK_BYTES = 1 << 20
"""How much of an object is held in memory at a time while streaming."""


class ObjectMissing(CorruptArtifact):
    """No object has this key.

    It is a ``CorruptArtifact`` because the code that reads by key does so after it was told that
    the object exists: something removed it since, and making the artifact again is the cure.
    Code that reads what a *person* named (a brief's media) catches it and raises ``BadInput``.
    """

    default_code = "store.missing"

    def __init__(self, key: str, store: str) -> None:
        super().__init__(
            f"There is no object {key!r} in {store}; it was deleted or never written. "
            "Run the stage that makes it again.",
            where=key,
        )
        self.key = key


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows about an object without reading it."""

    key: str
    size: int
    """Bytes."""
    etag: str
    """Changes whenever the content does; says nothing else, and differs between backends."""
    modified: datetime
    """Time zone aware, by the *store's* clock; S3 rounds it to whole seconds."""


class ObjectStore(ABC):
    """Named byte strings that appear and disappear whole.

    Every backend keeps these promises, and one contract suite checks them on each:

    * A reader sees a complete object or none, whatever happens to the writer.
    * ``put_if_absent`` has exactly one winner among any number of racers.
    * ``list`` is sorted by the key's UTF-8 bytes and sees every finished write.
    * Keys are UTF-8, compared byte by byte, never normalised. One key must not be another key
      plus ``/...`` (a directory on disk cannot hold both).

    Methods raise ``Usage`` for an invalid key, ``ObjectMissing`` where an object is required and
    absent, and ``StoreUnavailable`` when the store cannot be reached, refuses, or is full.
    An instance may be used by several threads; hand ``uri`` to other processes.
    """

    @property
    @abstractmethod
    def uri(self) -> str:
        """Where the store is; ``open_store(uri)`` opens it again in another process."""

    @abstractmethod
    def get(self, key: str) -> bytes:
        """Read a whole (small) object."""

    @abstractmethod
    def chunks(self, key: str) -> Iterator[bytes]:
        """Read an object of any size piece by piece, about ``CHUNK_BYTES`` at a time."""

    @abstractmethod
    def get_file(self, key: str, dst: Path) -> None:
        """Write an object of any size to ``dst``, which appears complete or not at all."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Create or replace an object."""

    @abstractmethod
    def put_file(self, key: str, src: Path) -> None:
        """Create or replace an object of any size from a file."""

    @abstractmethod
    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Create a small object unless the key is taken.

        Returns:
            True when this call created it. False when the key is taken; over a network that may
            be by this very call, if the reply was lost and the request sent again. A caller
            to whom the difference matters compares contents.
        """

    @abstractmethod
    def head(self, key: str) -> ObjectInfo | None:
        """Look up an object without reading it; None when absent."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Iterate over the objects whose key begins with ``prefix`` (any string), in order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; absent already is fine."""

    @abstractmethod
    def copy(self, src_key: str, dst_key: str) -> None:
        """Create or replace ``dst_key`` with the content of ``src_key``, inside the store."""

    @abstractmethod
    def presign(self, key: str, expires_s: int) -> str:
        """Make a URL that reads the object for ``expires_s`` seconds without credentials."""

    @abstractmethod
    def sweep(self, older_than_s: float) -> int:
        """Remove what interrupted writes left behind that long ago.

        Returns:
            How many leftovers were removed. Leftovers are never visible to the other methods.
        """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"


def check_key(key: str) -> str:
    """Return the key if it is valid on every backend.

    Raises:
        Usage: it is empty or too long, has an empty, ``.`` or ``..`` segment, a leading slash,
            control characters, a backslash or lone surrogates, or begins with ``.tmp/``.
    """
    problem = _problem(key)
    if problem:
        raise Usage(
            f"The object key {key[:200]!r} {problem}. Keys are relative paths of plain names.",
            code="store.key",
            where=key[:200],
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return the listing prefix if some valid key could begin with it.

    Raises:
        Usage: as for ``check_key``; an empty prefix and a trailing slash are fine.
    """
    if prefix:
        check_key(prefix[:-1] if prefix.endswith("/") else prefix)
    return prefix


def _problem(key: str) -> str | None:
    try:
        raw = key.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    segments = key.split("/")
    problems = {
        "is empty": not key,
        "begins with a slash": key.startswith("/"),
        f"is longer than {MAX_KEY_BYTES} bytes": len(raw) > MAX_KEY_BYTES,
        "contains control characters": any(unicodedata.category(c) == "Cc" for c in key),
        "contains a backslash": "\\" in key,
        "has an empty, '.' or '..' segment": any(s in ("", ".", "..") for s in segments),
        f"has a segment longer than {MAX_SEGMENT_BYTES} bytes": any(
            len(s.encode()) > MAX_SEGMENT_BYTES for s in segments
        ),
        f"begins with {TEMP_SEGMENT}/": segments[0] == TEMP_SEGMENT,
    }
    return next((text for text, true in problems.items() if true), None)
