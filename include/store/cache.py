"""Content-addressed artifacts: blobs named by their digest, manifests named by their key."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import socket
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from include.contracts.base import Sha256, Slug, canonical_json
from include.contracts.manifest import BlobRef, KeyMaterial, Manifest, RemoteCall
from include.errors import CorruptArtifact, Usage
from include.store.base import ObjectInfo, ObjectMissing, ObjectStore
from include.store.notice import TRUST_S, await_quiet

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Made = TypeVar("Made")

_STAGE = re.compile(r"[a-z][a-z0-9_-]{2,63}(/[a-z][a-z0-9_-]{2,63})*")
_RESERVED = {"blob", "lease"}
_LEAF = re.compile(r"[0-9a-f]{2}/[0-9a-f]{64}")
_SLUG = TypeAdapter(Slug)
_SHA256 = TypeAdapter(Sha256)
_PARALLEL = 8
"""Questions to the store at a time: its answer is what takes the time."""
_SMALL_BYTES = 4 << 20
_FEW = 3
"""Up to so many are asked one after the other: threads cost something, too."""
_READS = 2


class ArtifactCache:
    """What stages made for one tenant.

    Layout below the store's root::

        {tenant}/blob/{sha[:2]}/{sha}           a file, named by its content
        {tenant}/{stage}/{key[:2]}/{key}        a manifest: from then on the artifact exists

    A stage's name may have several parts, such as ``ingest_recipients/face``. That is
    unambiguous because a part has at least three characters and begins with a letter, whereas the
    two levels below a stage are two and 64 hexadecimal digits; ``blob`` and ``lease`` are taken.

    Blobs are written first, the manifest last and only if absent: a process killed at any moment
    leaves nothing or a complete artifact (plus perhaps blobs that no manifest names, which
    garbage collection removes). The first complete manifest wins.
    """

    trust_s: float = TRUST_S
    """A stored blob older than this is written again rather than relied on (see ``notice``)."""

    def __init__(self, store: ObjectStore, tenant: str) -> None:
        self.store = store
        self.tenant: str = _checked(_SLUG, tenant, "tenant")

    def blob_key(self, sha256: str) -> str:
        """Where the blob with this content lies in the store."""
        sha = _checked(_SHA256, sha256, "digest")
        return f"{self.tenant}/blob/{sha[:2]}/{sha}"

    def manifest_key(self, stage: str, key: str) -> str:
        """Where the manifest of this artifact lies in the store."""
        key = _checked(_SHA256, key, "artifact key")
        return f"{self._stage_prefix(stage)}{key[:2]}/{key}"

    def lookup(self, stage: str, key: str) -> Manifest | None:
        """Return the artifact's manifest if the artifact exists.

        It exists when the manifest is there and every blob it names is there at that size. A
        manifest whose blobs are gone is removed, so that a listing tells the truth; one that
        cannot be read counts as absent, is logged and is replaced by the next ``publish``.
        """
        where = self.manifest_key(stage, key)
        raw = self._get(where)
        manifest = None if raw is None else self._parse(raw, stage, key)
        if raw is None or manifest is None:
            return None
        wrong = self._wrong_blobs(manifest)
        if not wrong:
            return manifest
        log.warning("Artifact %s lost its outputs %s; it will be made again.", where, wrong)
        if self._get(where) == raw:  # unless somebody replaced it meanwhile
            self.store.delete(where)
        return None

    def lookup_many(self, stage: str, keys: Iterable[str]) -> dict[str, Manifest]:
        """Look up several artifacts of a stage; those that exist come back, by key."""
        wanted = list(dict.fromkeys(keys))
        found = _together(lambda key: self.lookup(stage, key), wanted)
        return {key: manifest for key, manifest in zip(wanted, found, strict=True) if manifest}

    def existing(self, stage: str) -> set[str]:
        """List the keys that have a manifest, in one listing and without looking at blobs.

        Meant for plans and quotes, which may be wrong about an artifact that lost a blob;
        the stage itself asks ``lookup``.
        """
        prefix = self._stage_prefix(stage)
        leaves = (info.key[len(prefix) :] for info in self.store.list(prefix))
        return {leaf[3:] for leaf in leaves if _LEAF.fullmatch(leaf)}

    def publish(
        self,
        material: KeyMaterial,
        files: Mapping[str, tuple[Path, str] | BlobRef],
        facts: Mapping[str, Any],
        *,
        seconds: float = 0.0,
        cpu_seconds: float = 0.0,
        io_seconds: float = 0.0,
        peak_mib: float = 0.0,
        remote: RemoteCall | None = None,
    ) -> Manifest:
        """Store a stage's output files and, last, the manifest that makes them exist.

        Args:
            material: what the artifact was made from; its digest is the key.
            files: output name -> (file, media type), the file's name being kept for fetching; or
                the reference of a blob that is stored already.
            facts: small results for later stages and reports, of plain JSON types.
            seconds: wall time that making it took.
            cpu_seconds: processor time that making it took.
            io_seconds: wall time of it that was spent waiting for the store.
            peak_mib: peak resident memory while making it, in MiB.
            remote: the call of a model API that made it.

        Returns:
            The manifest that stands: this one, or that of whoever was first.

        Raises:
            CorruptArtifact: a file changed while it was being published.
            StoreUnavailable: as the store says; nothing exists then.
            ValueError, TypeError: facts hold what JSON cannot (NaN, an array).
        """
        key = material.key()
        where = self.manifest_key(material.stage, key)
        manifest = Manifest(
            tenant=self.tenant,
            key=key,
            material=material,
            outputs=self._stored(files),
            facts=json.loads(canonical_json(dict(facts))),  # as every reader will see them
            made_at=datetime.now(UTC),
            made_by=f"{socket.gethostname()}:{os.getpid()}",
            seconds=seconds,
            cpu_seconds=cpu_seconds,
            io_seconds=io_seconds,
            peak_mib=peak_mib,
            remote=remote,
        )
        raw = canonical_json(manifest.model_dump(mode="json"))
        for _ in range(2):  # a second time because lookup removes a manifest without its blobs
            if self.store.put_if_absent(where, raw):
                return manifest
            winner = self.lookup(material.stage, key)
            if winner is not None:
                return winner
        self.store.put(where, raw)  # what stands there cannot be read
        return manifest

    def fetch(self, blob: BlobRef, dst_dir: Path) -> Path:
        """Fetch a blob to ``dst_dir / blob.filename`` and verify its digest on the way.

        A file that is there already with that content is used as it is.

        Raises:
            CorruptArtifact: the stored bytes are wrong. The bad blob is removed, so every
                manifest that names it stops existing and the artifact is made again on retry.
            ObjectMissing: the blob is gone.
        """
        dst = dst_dir / _safe_name(blob.filename)
        if dst.is_file() and dst.stat().st_size == blob.size and _digest(dst) == blob.sha256:
            return dst
        dst_dir.mkdir(parents=True, exist_ok=True)
        temp = dst_dir / f".{uuid.uuid4().hex}.part"
        try:
            if self._download(blob, temp):
                os.replace(temp, dst)
                return dst
        finally:
            temp.unlink(missing_ok=True)
        raise self._discard_corrupt(blob.sha256)

    def _download(self, blob: BlobRef, temp: Path) -> bool:
        """Whether a blob arrived as it should be; tried again because once may be the network."""
        for _ in range(_READS):
            try:
                self.store.get_file(self.blob_key(blob.sha256), temp)
            except ObjectMissing:
                raise
            except CorruptArtifact:  # the store noticed it itself
                return False
            if _digest(temp) == blob.sha256:
                return True
        return False

    def read_bytes(self, blob: BlobRef) -> bytes:
        """Read a small blob into memory; errors as for ``fetch``."""
        where = self.blob_key(blob.sha256)
        try:
            for _ in range(_READS):
                data = self.store.get(where)
                if hashlib.sha256(data).hexdigest() == blob.sha256:
                    return data
        except ObjectMissing:
            raise
        except CorruptArtifact as error:
            raise self._discard_corrupt(blob.sha256) from error
        raise self._discard_corrupt(blob.sha256)

    def open_json(self, blob: BlobRef) -> Any:
        """Read a JSON blob; errors as for ``fetch``."""
        return json.loads(self.read_bytes(blob))

    def quarantine(self, stage: str, key: str) -> None:
        """Take an artifact that proved bad out of existence, so that it can be made again.

        Its manifest goes first, then those of its blobs whose bytes do not match their digest (a
        bad blob that stayed would be taken for uploaded already). Good blobs stay.
        """
        where = self.manifest_key(stage, key)
        raw = self._get(where)
        if raw is None:
            return
        manifest = self._parse(raw, stage, key)
        self.store.delete(where)
        log.warning("Artifact %s was taken out; it will be made again.", where)
        for blob in manifest.outputs.values() if manifest else ():
            if self._stored_digest(blob.sha256) not in (blob.sha256, None):
                self.store.delete(self.blob_key(blob.sha256))

    def _stored(self, files: Mapping[str, tuple[Path, str] | BlobRef]) -> dict[str, BlobRef]:
        """Upload files; small ones several at a time, a large one goes up in parts anyway."""
        stored = {name: file for name, file in files.items() if isinstance(file, BlobRef)}
        local = {name: file for name, file in files.items() if not isinstance(file, BlobRef)}
        small = [name for name, (path, _) in local.items() if path.stat().st_size <= _SMALL_BYTES]
        together = _together(lambda name: self._upload(*local[name]), small)
        stored |= dict(zip(small, together, strict=True))
        return {
            name: stored[name] if name in stored else self._upload(*local[name]) for name in files
        }

    def _stage_prefix(self, stage: str) -> str:
        if not _STAGE.fullmatch(stage) or stage.split("/")[0] in _RESERVED:
            raise Usage(
                f"{stage!r} is not a stage name: lower-case parts of 3 to 64 letters, digits, _ "
                f"and -, joined by /, the first none of {sorted(_RESERVED)}.",
                code="store.stage",
            )
        return f"{self.tenant}/{stage}/"

    def _get(self, where: str) -> bytes | None:
        try:
            return self.store.get(where)
        except ObjectMissing:
            return None
        except CorruptArtifact:
            return b""  # what cannot be read is no manifest

    def _parse(self, raw: bytes, stage: str, key: str) -> Manifest | None:
        try:
            manifest = Manifest.model_validate_json(raw)
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        else:
            if (manifest.tenant, manifest.material.stage, manifest.key) == (
                self.tenant,
                stage,
                key,
            ):
                return manifest
            reason = "it belongs to another artifact"
        log.warning("Manifest %s counts as absent: %s", self.manifest_key(stage, key), reason)
        return None

    def _wrong_blobs(self, manifest: Manifest) -> list[str]:
        def is_wrong(blob: BlobRef) -> bool:
            info = self.store.head(self.blob_key(blob.sha256))
            return info is None or info.size != blob.size

        found = _together(is_wrong, list(manifest.outputs.values()))
        return [name for name, wrong in zip(manifest.outputs, found, strict=True) if wrong]

    def _upload(self, path: Path, media_type: str) -> BlobRef:
        before = path.stat()
        blob = BlobRef(
            sha256=_digest(path),
            size=before.st_size,
            media_type=media_type,
            filename=_safe_name(path.name),
        )
        where = self.blob_key(blob.sha256)
        stored = self.store.head(where)
        if stored is not None and stored.size == blob.size and self._is_fresh(stored):
            return blob
        self.store.put_file(where, path)
        if stored is not None:  # the garbage collector may have had its eye on it
            await_quiet(self.store, self.tenant)
            if self.store.head(where) is None:
                self.store.put_file(where, path)
        after = path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            self.store.delete(where)
            raise CorruptArtifact(f"{path} changed while it was being published; run it again.")
        return blob

    def _is_fresh(self, stored: ObjectInfo) -> bool:
        """Whether an object is too young for the garbage collector."""
        return datetime.now(UTC) - stored.modified < timedelta(seconds=self.trust_s)

    def _stored_digest(self, sha256: str) -> str | None:
        digest = hashlib.sha256()
        try:
            for chunk in self.store.chunks(self.blob_key(sha256)):
                digest.update(chunk)
        except ObjectMissing:
            return None
        return digest.hexdigest()

    def _discard_corrupt(self, sha256: str) -> CorruptArtifact:
        """Remove a blob that reads wrong in the same way each time, and say so.

        Bytes that change from one reading to the next are a reader's own trouble.
        """
        where = self.blob_key(sha256)
        read = {self._stored_digest(sha256) for _ in range(_READS)}
        actual = read.pop()
        if read or actual in (sha256, None):
            return CorruptArtifact(
                f"The bytes of {where} in {self.store.uri} arrived changed, and not always in the "
                "same way: nothing was removed. Check this machine and its network; the next try "
                "reads again.",
                where=where,
            )
        self.store.delete(where)
        log.error("Blob %s held other bytes (sha256 %s) and was removed.", where, actual)
        return CorruptArtifact(
            f"The stored bytes of {where} in {self.store.uri} do not match their digest; they were "
            "removed. Run the stage that makes them again.",
            where=where,
        )


def _together(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Do the same for several items, some of them at a time; what any of it raises is raised."""
    if len(items) <= _FEW:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(_PARALLEL, len(items))) as pool:
        return list(pool.map(work, items))


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _safe_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise CorruptArtifact(f"{name!r} is not a file name; the manifest was tampered with.")
    return name


def _checked(adapter: TypeAdapter[str], value: str, what: str) -> str:
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        raise Usage(f"{value!r} is not a valid {what}.", code="store.key") from error
