"""Verdicts as they were stored: ``<tenant>/drift/verdict/<time>-<run>.json``."""

from __future__ import annotations

from include.drift.records import DriftVerdict, KindVerdict
from include.features.catalogue import AssetKind
from include.store import ObjectStore

HISTORY = 30
"""Earlier verdicts that a report draws."""
SEARCHED = 500
"""Earlier verdicts that something to accept is looked for in."""


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
    for key in reversed(_keys(store, tenant, SEARCHED)):
        found = DriftVerdict.model_validate_json(store.get(key))
        for one in found.kinds:
            if one.kind == kind and one.batch:
                return key, one
    return None


def _keys(store: ObjectStore, tenant: str, most: int) -> list[str]:
    return [info.key for info in store.list(f"{tenant}/drift/verdict/")][-most:]
