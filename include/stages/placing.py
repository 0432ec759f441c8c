"""Where customers find a recipient's files: one version of them at a time, whole.

Files are replaced one after the other, so two versions that go out at the same moment would mix.
Whoever places files therefore holds a lease on the place until its artifact exists, and looks
before every file whether it still does; the other tries again later.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from include.contracts.manifest import BlobRef
from include.errors import LeaseHeld
from include.store import ObjectMissing
from include.store.cache import ArtifactCache
from include.store.lease import Lease

REPORT = "report.json"


def hold_place(cache: ArtifactCache, prefix: str) -> Lease:
    """Take the lease of a place.

    Args:
        cache: the tenant's artifacts.
        prefix: object prefix of the place.

    Raises:
        LeaseHeld: another version goes out at this moment.
    """
    name = f"published-{hashlib.sha256(prefix.encode()).hexdigest()}"
    return Lease.acquire(cache.store, cache.tenant, name)


def place(
    cache: ArtifactCache,
    lease: Lease,
    prefix: str,
    key: str,
    report: Path,
    copies: Mapping[str, BlobRef],
) -> dict[str, str]:
    """Put a version of a recipient's files out, over any other; a retry changes nothing.

    Args:
        cache: the tenant's artifacts.
        lease: the place's.
        prefix: object prefix of the place.
        key: the ``publish`` artifact that the version is, as the report names it.
        report: the report.
        copies: further files by name, in the order in which they go out.

    Returns:
        Object keys by file name.

    Raises:
        LeaseHeld: the lease was lost meanwhile.
    """
    placed = {REPORT: f"{prefix}/{REPORT}"} | {name: f"{prefix}/{name}" for name in copies}
    _supersede(cache, placed[REPORT], key)
    cache.store.put_file(placed[REPORT], report)
    for name, blob in copies.items():
        _require(lease, prefix)
        cache.store.copy(cache.blob_key(blob.sha256), placed[name])
    _require(lease, prefix)
    return placed


def _require(lease: Lease, prefix: str) -> None:
    if not lease.held:
        raise LeaseHeld(
            f"{prefix}: this process stood still for so long that another one may publish there "
            "now; the task tries again",
            where=prefix,
        )


def _supersede(cache: ArtifactCache, report: str, key: str) -> None:
    """Take back the artifact that says that another version lies here: it will not any more.

    A campaign that goes back to that version then publishes it again. The report goes out first
    and names its artifact, so this holds wherever an earlier attempt was interrupted.
    """
    try:
        before = json.loads(cache.store.get(report)).get("key")
    except ObjectMissing:
        return
    if before and before != key:
        cache.quarantine("publish", before)
