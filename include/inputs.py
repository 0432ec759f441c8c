"""Where a brief and its media come from: a folder under a configured root, or ``s3://``."""

from __future__ import annotations

import hashlib
import mimetypes
import stat
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from include.contracts.manifest import BlobRef
from include.contracts.plan import UnitPlan
from include.errors import (
    BadBrief,
    BadInput,
    BadMedia,
    StoreUnavailable,
    UnderstudyError,
    Usage,
)
from include.settings import Settings
from include.store import ObjectInfo, ObjectMissing, ObjectStore, open_store
from include.store.base import check_key
from include.store.bulk import heads, in_parallel
from include.store.cache import ArtifactCache
from include.store.digests import DigestIndex

INDEX = "digests.sqlite"
"""The index of source digests, below the state folder."""
MAX_TEXT = 64 << 20
"""Largest brief or recipients table that is read, in bytes (10,000 rows are about 2 MiB)."""


class Inputs(ABC):
    """The folder that a brief lies in. Names in the brief and its table are relative to it."""

    origin: str
    """The brief as the user named it."""
    brief: str
    """The brief's name inside the folder."""

    @abstractmethod
    def read(self, name: str, *, most: int = MAX_TEXT) -> bytes:
        """Read a small file whole (the brief, the table, a consent record).

        Args:
            name: relative to the brief.
            most: bytes that it may have; no more is read.

        Raises:
            BadMedia: it does not exist or cannot be read (``file.missing``,
                ``file.unreadable``), is larger (``file.too_large``), or lies outside the allowed
                folders (``path.outside``).
        """

    @abstractmethod
    def describe(self, names: Iterable[str]) -> dict[str, BlobRef | BadInput]:
        """Digests and sizes of many files; unchanged ones are not read again.

        Returns:
            For each name its reference, or the error as ``read`` would raise it.
        """

    @abstractmethod
    def _copy(self, name: str, blob: BlobRef, store: ObjectStore, key: str) -> None:
        """Copy a file that was described before into the store.

        Raises:
            BadInput: it cannot be read any more, or has changed.
        """

    def read_many(
        self, names: Iterable[str], *, most: int = MAX_TEXT
    ) -> dict[str, bytes | BadInput]:
        """Read many small files, of ``most`` bytes each; for each name its bytes, or the error."""

        def read(name: str) -> bytes | BadInput:
            try:
                return self.read(name, most=most)
            except BadInput as error:
                return error

        wanted = list(dict.fromkeys(names))
        return dict(zip(wanted, in_parallel(read, wanted), strict=True))

    def keep_many(
        self,
        blobs: Mapping[str, BlobRef],
        store: ObjectStore,
        tenant: str,
        contents: Mapping[str, bytes] | None = None,
    ) -> dict[str, BadInput]:
        """Put described files into the store under their digests; nothing is copied twice.

        What is there already is known from listings.

        Args:
            blobs: name -> what ``describe``, or ``ref_of_bytes``, said.
            store: where to.
            tenant: whose.
            contents: files among them that were read already, by name.

        Returns:
            The names that could not be copied, with the errors.
        """
        names = {blob.sha256: name for name, blob in blobs.items()}
        key_of = ArtifactCache(store, tenant).blob_key
        held = contents or {}

        def copy(blob: BlobRef) -> tuple[str, BadInput] | None:
            name = names[blob.sha256]
            try:
                if name in held:
                    store.put(key_of(blob.sha256), held[name])
                else:
                    self._copy(name, blob, store, key_of(blob.sha256))
            except BadInput as error:
                return blob.sha256, error
            return None

        new = missing_blobs(store, tenant, blobs.values())
        failed = dict(pair for pair in in_parallel(copy, new) if pair)
        return {n: failed[blob.sha256] for n, blob in blobs.items() if blob.sha256 in failed}

    def keep(self, name: str, store: ObjectStore, tenant: str) -> BlobRef:
        """Copy a file into the store under its digest; nothing is copied twice.

        Raises:
            BadMedia: as ``read``.
        """
        blob = self.describe([name])[name]
        if isinstance(blob, BadInput):
            raise blob
        for error in self.keep_many({name: blob}, store, tenant).values():
            raise error
        return blob


def missing_blobs(store: ObjectStore, tenant: str, blobs: Iterable[BlobRef]) -> list[BlobRef]:
    """Those blobs that the store does not hold at their size, each once."""
    key_of = ArtifactCache(store, tenant).blob_key
    by_key = {key_of(blob.sha256): blob for blob in blobs}
    folders: dict[str, list[str]] = {}
    for key in by_key:
        folders.setdefault(key.rpartition("/")[0] + "/", []).append(key)
    # What stages made lies among them: many short listings side by side beat a long one.
    listed = in_parallel(lambda item: heads(store, *item), folders.items())
    held = {key: info for found in listed for key, info in found.items()}
    return [blob for key, blob in by_key.items() if key not in held or held[key].size != blob.size]


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
        self._index = DigestIndex(settings.state / INDEX)
        self._parents: dict[Path, Path] = {}
        self._stamps: dict[Path, _Stamp] = {}

    def _inside(self, path: Path) -> Path:
        try:
            real = path.resolve()
        except (OSError, RuntimeError) as error:  # the latter: links in a circle
            raise BadMedia(f"{path} cannot be opened ({error})", code="file.unreadable") from error
        if not any(real.is_relative_to(root) for root in self._roots):
            allowed = ", ".join(str(root) for root in self._roots)
            raise BadMedia(
                f"{path} lies outside the folders that may be read ({allowed}); move it there "
                "or add its folder to UNDERSTUDY_ROOTS",
                code="path.outside",
            )
        return real

    def _path(self, name: str) -> Path:
        path = self._folder / check_relative(name)
        real = self._plain(path) or self._inside(path)
        if not real.exists():
            raise BadMedia(
                f"{name} does not exist in {self._folder}; check the spelling", code="file.missing"
            )
        if not real.is_file():
            raise BadMedia(f"{name} is not a regular file", code="file.unreadable")
        return real

    def _plain(self, path: Path) -> Path | None:
        """The real path of a regular file, each folder resolved only once; None for the rest."""
        try:
            if path.parent not in self._parents:
                self._parents[path.parent] = self._inside(path.parent)
            real = self._parents[path.parent] / path.name
            return real if stat.S_ISREG(real.lstat().st_mode) else None
        except (BadMedia, OSError):
            return None

    def read(self, name: str, *, most: int = MAX_TEXT) -> bytes:
        """See ``Inputs.read``."""
        try:
            with self._path(name).open("rb") as stream:
                data = stream.read(most + 1)
        except OSError as error:
            raise BadMedia(f"{name}: {error.strerror}", code="file.unreadable") from error
        if len(data) > most:
            raise _too_large(name, most)
        return data

    def describe(self, names: Iterable[str]) -> dict[str, BlobRef | BadInput]:
        """See ``Inputs.describe``."""
        found: dict[str, BlobRef | BadInput] = {}
        paths: dict[str, Path] = {}
        for name in dict.fromkeys(names):
            try:
                path = self._path(name)
                self._stamps[path] = _stamp(path)
                paths[name] = path
            except BadInput as error:
                found[name] = error
            except OSError as error:
                found[name] = BadMedia(f"{name}: {error.strerror}", code="file.unreadable")
        digests = self._index.digests(paths.values())
        for name, path in paths.items():
            digest = digests[path]
            if isinstance(digest, str):
                found[name] = _ref(name, digest, self._stamps[path].size)
            else:
                found[name] = digest
        return found

    def _copy(self, name: str, blob: BlobRef, store: ObjectStore, key: str) -> None:
        path = self._path(name)
        try:
            store.put_file(key, path)
            unchanged = self._stamps.get(path) == _stamp(path)
        except OSError as error:
            raise BadMedia(f"{name}: {error.strerror}", code="file.unreadable") from error
        if not unchanged:
            store.delete(key)
            raise _changed(name)


@dataclass(frozen=True)
class _Stamp:
    """What changes with a file's content."""

    size: int
    modified: int
    changed: int
    inode: int


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return _Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


class StoreInputs(Inputs):
    """A prefix of an object store."""

    def __init__(self, uri: str, settings: Settings) -> None:
        self.origin = uri
        self._prefix, _, self.brief = uri.rpartition("/")
        self._source = open_store(self._prefix)
        self._index = DigestIndex(settings.state / INDEX)

    def _missing(self, name: str) -> BadMedia:
        return BadMedia(f"{name} does not exist at {self._source.uri}", code="file.missing")

    def read(self, name: str, *, most: int = MAX_TEXT) -> bytes:
        """See ``Inputs.read``."""
        info = self._source.head(_key(name))
        if info is None:
            raise self._missing(name)
        return self._read(info, most)

    def _read(self, info: ObjectInfo, most: int) -> bytes:
        if info.size > most:
            raise _too_large(info.key, most)
        return self._source.get(info.key)

    def read_many(
        self, names: Iterable[str], *, most: int = MAX_TEXT
    ) -> dict[str, bytes | BadInput]:
        """See ``Inputs.read_many``; whether they exist is known from one listing."""
        found: dict[str, bytes | BadInput] = {}
        infos = self._look_up(names, found)

        def read(info: ObjectInfo) -> bytes | BadInput:
            try:
                return self._read(info, most)
            except BadInput as error:
                return error
            except ObjectMissing:
                return self._missing(info.key)

        return found | dict(zip(infos, in_parallel(read, infos.values()), strict=True))

    def describe(self, names: Iterable[str]) -> dict[str, BlobRef | BadInput]:
        """See ``Inputs.describe``."""
        found: dict[str, BlobRef | BadInput] = {}
        infos = self._look_up(names, found)
        digests = self._index.object_digests(self._source, self._prefix, infos.values())
        for name, info in infos.items():
            digest = digests[name]
            found[name] = digest if isinstance(digest, BadInput) else _ref(name, digest, info.size)
        return found

    def _look_up(self, names: Iterable[str], errors: dict[str, Any]) -> dict[str, ObjectInfo]:
        """What the store says about names; problems go into ``errors``."""
        wanted: list[str] = []
        for name in dict.fromkeys(names):
            try:
                wanted.append(_key(name))
            except BadInput as error:
                errors[name] = BadMedia(error.message, code="path.bad")
        infos = heads(self._source, "", wanted)
        errors.update({name: self._missing(name) for name in wanted if name not in infos})
        return {name: infos[name] for name in wanted if name in infos}

    def _copy(self, name: str, blob: BlobRef, store: ObjectStore, key: str) -> None:
        with tempfile.TemporaryDirectory(prefix="understudy-") as folder:
            path = Path(folder) / "input"
            try:
                self._source.get_file(name, path)
            except ObjectMissing as error:
                raise self._missing(name) from error
            with path.open("rb") as stream:
                if hashlib.file_digest(stream, "sha256").hexdigest() != blob.sha256:
                    raise _changed(name)
            store.put_file(key, path)


def _key(name: str) -> str:
    """A file's name as the key of an object.

    Raises:
        BadMedia: ``path.traversal`` or ``path.bad``: no object is called so.
    """
    try:
        return check_key(check_relative(name))
    except Usage as error:
        raise BadMedia(error.message, code="path.bad") from error


def keep_again(units: Iterable[UnitPlan], brief: str, tenant: str, settings: Settings) -> None:
    """Copy sources once more that went from the store after they were seen there.

    Args:
        units: a plan's units; what their sources were called is relative to the brief.
        brief: path or URI of the brief.
        tenant: whose.
        settings: roots, state folder and store.

    Raises:
        BadMedia: one of them is gone or has changed at its origin as well.
    """
    store = open_store(settings.store)
    refs = [ref for unit in units for ref in unit.sources.values()]
    lost = {blob.sha256 for blob in missing_blobs(store, tenant, (ref.blob for ref in refs))}
    blobs = {ref.origin: ref.blob for ref in refs if ref.blob.sha256 in lost}
    if not blobs:
        return
    inputs = open_inputs(brief, settings)
    for name, found in inputs.describe(blobs).items():
        if isinstance(found, BadInput):
            raise found
        if found.sha256 != blobs[name].sha256:
            raise _changed(name)
    for error in inputs.keep_many(blobs, store, tenant).values():
        raise error


def _too_large(name: str, most: int) -> BadMedia:
    units = ((20, "MiB"), (10, "KiB"), (0, "bytes"))
    shift, unit = next(found for found in units if most >> found[0])
    return BadMedia(
        f"{name} is larger than {most >> shift} {unit}, the most that is read of it; check that "
        "it is the right file",
        code="file.too_large",
    )


def _changed(name: str) -> BadMedia:
    return BadMedia(
        f"{name} changed while the campaign was planned; run again when it is complete",
        code="file.changed",
    )


def _ref(name: str, digest: str, size: int) -> BlobRef:
    suffix = PurePosixPath(name).suffix.lower()
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    # Stages see a neutral file name: the user's may hold a person's name.
    return BlobRef(sha256=digest, size=size, media_type=media_type, filename=f"source{suffix}")


def ref_of_bytes(name: str, data: bytes) -> BlobRef:
    """The reference of a small file that was read whole."""
    return _ref(name, hashlib.sha256(data).hexdigest(), len(data))


def open_inputs(uri: str, settings: Settings) -> Inputs:
    """The folder that a brief lies in.

    Args:
        uri: a path or ``s3://bucket/prefix/brief.yaml``.
        settings: roots and state folder.

    Raises:
        BadBrief: the brief is outside the roots (``path.outside``), or no file is called so.
    """
    if uri.startswith("s3://"):
        try:
            return StoreInputs(uri, settings)
        except Usage as error:  # no object has such a key
            raise BadBrief(error.message, code="path.bad") from error
    try:
        return LocalInputs(Path(uri), settings)
    except StoreUnavailable:
        raise
    except UnderstudyError as error:
        raise BadBrief(error.message, code=error.code) from error
