"""Where a brief and its media come from: a folder under a configured root, or ``s3://``."""

from __future__ import annotations

import hashlib
import mimetypes
import tempfile
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath

from include.contracts.manifest import BlobRef
from include.errors import BadBrief, BadMedia, StoreUnavailable, UnderstudyError
from include.settings import Settings
from include.store import ObjectStore, open_store
from include.store.cache import ArtifactCache
from include.store.digests import DigestIndex

MAX_TEXT = 64 << 20
"""Largest brief or recipients table that is read, in bytes (10,000 rows are about 2 MiB)."""


class Inputs(ABC):
    """The folder that a brief lies in. Names in the brief and its table are relative to it."""

    origin: str
    """The brief as the user named it."""
    brief: str
    """The brief's name inside the folder."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Read a small file whole (the brief, the table, a consent record).

        Raises:
            BadMedia: it does not exist or cannot be read (``file.missing``,
                ``file.unreadable``), or lies outside the allowed folders (``path.outside``).
        """

    @abstractmethod
    def keep(self, name: str, store: ObjectStore, tenant: str) -> BlobRef:
        """Copy a file into the store under its digest; nothing is copied twice.

        Raises:
            BadMedia: as ``read``.
        """


def check_relative(name: str) -> str:
    """Refuse names that climb out of the folder.

    Raises:
        BadMedia: ``path.traversal`` or ``path.bad``.
    """
    if "\x00" in name or "\\" in name:
        raise BadMedia(f"{name!r} is not a usable file name", code="path.bad")
    if ".." in PurePosixPath(name).parts:
        raise BadMedia(
            f"{name!r} climbs out of the brief's folder; name a file below it without '..'",
            code="path.traversal",
        )
    return name


class LocalInputs(Inputs):
    """A folder on disk under one of the configured roots."""

    def __init__(self, brief: Path, settings: Settings) -> None:
        self.origin = str(brief)
        self._roots = settings.roots
        path = self._inside(brief)
        self._folder = path.parent
        self.brief = path.name
        self._index = DigestIndex(settings.state / "digests.sqlite")

    def _inside(self, path: Path) -> Path:
        real = path.resolve()
        if not any(real.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            raise BadMedia(
                f"{path} lies outside the folders that may be read ({allowed}); move it there "
                "or add its folder to UNDERSTUDY_ROOTS",
                code="path.outside",
            )
        return real

    def _path(self, name: str) -> Path:
        path = self._inside(self._folder / check_relative(name))
        if not path.exists():
            raise BadMedia(
                f"{name} does not exist in {self._folder}; check the spelling", code="file.missing"
            )
        if not path.is_file():
            raise BadMedia(f"{name} is not a regular file", code="file.unreadable")
        return path

    def read(self, name: str) -> bytes:
        """See ``Inputs.read``."""
        path = self._path(name)
        try:
            if path.stat().st_size > MAX_TEXT:
                raise BadMedia(f"{name} is larger than {MAX_TEXT >> 20} MiB", code="file.too_large")
            return path.read_bytes()
        except OSError as error:
            raise BadMedia(f"{name}: {error.strerror}", code="file.unreadable") from error

    def keep(self, name: str, store: ObjectStore, tenant: str) -> BlobRef:
        """See ``Inputs.keep``."""
        path = self._path(name)
        try:
            digest = self._index.digest(path)
            size = path.stat().st_size
        except OSError as error:
            raise BadMedia(f"{name}: {error.strerror}", code="file.unreadable") from error
        return _keep_file(path, name, digest, size, store, tenant)


class StoreInputs(Inputs):
    """A prefix of an object store."""

    def __init__(self, uri: str) -> None:
        self.origin = uri
        prefix, _, self.brief = uri.rpartition("/")
        self._source = open_store(prefix)

    def read(self, name: str) -> bytes:
        """See ``Inputs.read``."""
        info = self._source.head(check_relative(name))
        if info is None:
            raise BadMedia(f"{name} does not exist at {self._source.uri}", code="file.missing")
        if info.size > MAX_TEXT:
            raise BadMedia(f"{name} is larger than {MAX_TEXT >> 20} MiB", code="file.too_large")
        return self._source.get(name)

    def keep(self, name: str, store: ObjectStore, tenant: str) -> BlobRef:
        """See ``Inputs.keep``."""
        if self._source.head(check_relative(name)) is None:
            raise BadMedia(f"{name} does not exist at {self._source.uri}", code="file.missing")
        with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
            path = Path(folder) / "input"
            self._source.get_file(name, path)
            with path.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return _keep_file(path, name, digest, path.stat().st_size, store, tenant)


def _keep_file(
    path: Path, name: str, digest: str, size: int, store: ObjectStore, tenant: str
) -> BlobRef:
    key = ArtifactCache(store, tenant).blob_key(digest)
    held = store.head(key)
    if held is None or held.size != size:
        store.put_file(key, path)
    suffix = PurePosixPath(name).suffix.lower()
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # Stages see a neutral file name: the user's may hold a person's name.
    return BlobRef(sha256=digest, size=size, media_type=media_type, filename=f"source{suffix}")


def open_inputs(uri: str, settings: Settings) -> Inputs:
    """The folder that a brief lies in.

    Args:
        uri: a path or ``s3://bucket/prefix/brief.yaml``.
        settings: roots and state folder.

    Raises:
        BadBrief: the brief is outside the roots (``path.outside``).
    """
    if uri.startswith("s3://"):
        return StoreInputs(uri)
    try:
        return LocalInputs(Path(uri), settings)
    except StoreUnavailable:
        raise
    except UnderstudyError as error:
        raise BadBrief(error.message, code=error.code) from error
