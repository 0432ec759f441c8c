"""Verdicts as they were stored: ``<tenant>/drift/verdict/<time>-<run>.json``."""

from __future__ import annotations

from include.drift.records import DriftVerdict, KindVerdict
from include.features.catalogue import AssetKind
from include.store import ObjectMissing, ObjectStore

HISTORY = 30
"""Earlier verdicts that a report draws."""


def verdict_key(tenant: str, name: str) -> str:
    """Where a verdict lies; names begin with the time, so that keys are in its order."""
    return f"{tenant}/drift/verdict/{name}.json"


def earlier_verdicts(store: ObjectStore, tenant: str, most: int = HISTORY) -> list[DriftVerdict]:
    """A tenant's last verdicts, oldest first."""
    return [DriftVerdict.model_validate_json(store.get(key)) for key in _keys(store, tenant, most)]


def to_settle(store: ObjectStore, tenant: str, kind: AssetKind) -> tuple[str, KindVerdict] | None:
    """The newest verdict on a kind of asset whose rows can become a reference.

    Returns:
        Object key of the verdict and what it says about the kind.
    """
    try:
        key = store.get(_waiting_key(tenant, kind)).decode()
    except ObjectMissing:
        return None
    found = DriftVerdict.model_validate_json(store.get(key))
    return key, next(one for one in found.kinds if one.kind == kind)


def note_waiting(store: ObjectStore, verdict: DriftVerdict, key: str) -> None:
    """Remember a verdict's rows that can become a reference, so that no search is needed."""
    for one in verdict.kinds:
        if one.batch:
            store.put(_waiting_key(verdict.tenant, one.kind), key.encode())


def _waiting_key(tenant: str, kind: AssetKind) -> str:
    return f"{tenant}/drift/waiting/{kind}"


def _keys(store: ObjectStore, tenant: str, most: int) -> list[str]:
    return [info.key for info in store.list(f"{tenant}/drift/verdict/")][-most:]
