"""Reference windows: rows that somebody accepted, frozen.

``<tenant>/reference/<kind>/<version>.json`` says who accepted what and when;
``<tenant>/reference/<kind>/rows/<digest>.parquet`` is what was accepted. Neither ever changes.
Needs pandas and pyarrow: import this module inside tasks only.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pandas as pd

from include.drift.records import Window
from include.drift.rows import ABSENT, absent_columns, frame_bytes, read_table, to_frame
from include.errors import BadInput
from include.expectations.suites import MINIMUM_ROWS
from include.features.catalogue import AssetKind
from include.store import ObjectMissing, ObjectStore


def keep_batch(store: ObjectStore, tenant: str, kind: AssetKind, rows: pd.DataFrame) -> str:
    """Store rows that may become a reference.

    Returns:
        Their digest, for ``accept``.
    """
    data = frame_bytes(rows, kind)
    digest = hashlib.sha256(data).hexdigest()
    store.put_if_absent(_rows_key(tenant, kind, digest), data)
    return digest


def accept(
    store: ObjectStore, tenant: str, kind: AssetKind, batch: str, *, by: str, note: str = ""
) -> Window:
    """Make a batch the reference.

    Accepting what is the reference already changes nothing.

    Args:
        store: where.
        tenant: whose.
        kind: of what.
        batch: from ``keep_batch``.
        by: who accepts it.
        note: why.

    Raises:
        BadInput: ``reference.missing``, there is no such batch; ``reference.small``, it has fewer
            rows than a comparison needs.
    """
    rows = _rows(store, tenant, kind, batch)
    if len(rows) < MINIMUM_ROWS:
        raise BadInput(
            f"{tenant}: {len(rows)} rows are too few for a reference of {kind}; "
            f"wait for {MINIMUM_ROWS}",
            code="reference.small",
        )
    while True:
        last = newest(store, tenant, kind)
        if last is not None and last.rows_sha256 == batch:
            return last
        window = Window(
            tenant=tenant,
            kind=kind,
            version=last.version + 1 if last else 1,
            rows_sha256=batch,
            rows=len(rows),
            since=rows["at"].min().to_pydatetime(),
            until=rows["at"].max().to_pydatetime(),
            accepted_by=by,
            accepted_at=datetime.now(UTC),
            note=note,
        )
        key = f"{_prefix(tenant, kind)}{window.version:06d}.json"
        if store.put_if_absent(key, window.model_dump_json(indent=1).encode()):
            return window


def newest(store: ObjectStore, tenant: str, kind: AssetKind) -> Window | None:
    """The reference that holds; None when nobody accepted one yet."""
    prefix = _prefix(tenant, kind)
    keys = [info.key for info in store.list(prefix) if info.key.endswith(".json")]
    return Window.model_validate_json(store.get(keys[-1])) if keys else None


def read_window(store: ObjectStore, window: Window) -> pd.DataFrame:
    """A reference's rows; features that it is too old for are named in its ``attrs[ABSENT]``.

    Raises:
        CorruptArtifact: they are gone, or not what was accepted.
    """
    key = _rows_key(window.tenant, window.kind, window.rows_sha256)
    data = store.get(key)
    frame = to_frame(read_table(data, window.kind, key), window.kind)
    frame.attrs[ABSENT] = absent_columns(data, window.kind)
    return frame


def _rows(store: ObjectStore, tenant: str, kind: AssetKind, batch: str) -> pd.DataFrame:
    key = _rows_key(tenant, kind, batch)
    try:
        data = store.get(key)
    except ObjectMissing as error:
        raise BadInput(
            f"{tenant}: there is no batch {batch[:16]} of {kind}; run the validation again",
            code="reference.missing",
        ) from error
    return to_frame(read_table(data, kind, key), kind)


def _prefix(tenant: str, kind: AssetKind) -> str:
    return f"{tenant}/reference/{kind}/"


def _rows_key(tenant: str, kind: AssetKind, digest: str) -> str:
    return f"{_prefix(tenant, kind)}rows/{digest}.parquet"
