"""Feature rows as Parquet in the store: ``<tenant>/features/<kind>/<day>/<digest>.parquet``.

One row per asset, filed under the day it was made. A file is named by its content and never
changes; an asset that is in its day's files already is not written again, and is read once. Rows
of assets that a hard rule refused have the rule's name in ``refused``; who reads rows gets them
only on request, so they are in no reference and in no comparison.

Needs pandas and pyarrow, which the Airflow side has: import this module inside tasks only.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from include.errors import CorruptArtifact
from include.features.catalogue import FEATURES, AssetKind, Feature
from include.features.collect import AssetRow
from include.store import ObjectStore
from include.store.bulk import in_parallel

_TEXT = ("asset", "unit", "campaign", "run_id", "refused")
WHERE = (*_TEXT, "at")
"""Columns that say what a row is about; the others are features."""

_TYPES = {"number": pa.float64(), "category": pa.string(), "flag": pa.bool_()}


ABSENT = "absent"
"""Attribute of a frame: features that were not measured yet when it was stored."""


def schema_of(kind: AssetKind) -> pa.Schema:
    """The columns of a kind's files: UTC microseconds, float64, string, bool; all nullable."""
    where = [pa.field(name, pa.string()) for name in _TEXT]
    at = pa.field("at", pa.timestamp("us", tz="UTC"))
    features = [pa.field(feature.name, _TYPES[feature.type]) for feature in FEATURES[kind]]
    return pa.schema([*where, at, *features])


def to_parquet(kind: AssetKind, rows: Iterable[AssetRow], run_id: str) -> bytes:
    """Rows of one kind as a Parquet file; the same rows give the same bytes."""
    records = [
        {
            "asset": row.asset,
            "unit": row.unit,
            "campaign": row.campaign,
            "run_id": run_id,
            "refused": row.refused or None,
            "at": row.made_at,
            **{feature.name: row.values.get(feature.name) for feature in FEATURES[kind]},
        }
        for row in rows
    ]
    return table_bytes(pa.Table.from_pylist(records, schema=schema_of(kind)))


def table_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def write_rows(store: ObjectStore, tenant: str, run_id: str, rows: Iterable[AssetRow]) -> list[str]:
    """Store rows whose asset is not stored yet.

    Args:
        store: where.
        tenant: whose.
        run_id: the run that collected them.
        rows: of any kinds, in any order; of two with one asset the first counts.

    Returns:
        Keys of the files written: one for a kind and day, none when every asset was there.
    """
    days: dict[tuple[AssetKind, date], dict[str, AssetRow]] = {}
    for row in rows:
        day = row.made_at.astimezone(UTC).date()
        days.setdefault((row.kind, day), {}).setdefault(row.asset, row)
    written = []
    for (kind, day), assets in sorted(days.items()):
        known = _assets_of(store, tenant, kind, day)
        fresh = [row for asset, row in sorted(assets.items()) if asset not in known]
        if not fresh:
            continue
        data = to_parquet(kind, fresh, run_id)
        key = f"{_prefix(tenant, kind)}{day}/{hashlib.sha256(data).hexdigest()}.parquet"
        store.put_if_absent(key, data)
        written.append(key)
    return written


def read_rows(
    store: ObjectStore, tenant: str, kind: AssetKind, since: datetime | None = None
) -> pd.DataFrame:
    """Every row measured at ``since`` or later that was let through, oldest first, each asset once.

    Returns:
        As ``read_files``.

    Raises:
        CorruptArtifact: a file does not have the digest in its name, or is no Parquet.
    """
    frame = read_files(store, kind, files_of(store, tenant, kind, since))
    if since is not None:
        frame = frame[frame["at"] >= pd.Timestamp(since)]
    return let_through(frame)


def let_through(frame: pd.DataFrame) -> pd.DataFrame:
    """Without the rows of assets that a hard rule refused."""
    return frame[frame["refused"].isna()].reset_index(drop=True)


def files_of(
    store: ObjectStore, tenant: str, kind: AssetKind, since: datetime | None = None
) -> list[str]:
    """Keys of the files that may hold rows measured at ``since`` or later, by day."""
    first = since.astimezone(UTC).date() if since else date.min
    return [key for key in _files(store, tenant, kind) if _day(key) >= first]


def read_files(store: ObjectStore, kind: AssetKind, keys: Sequence[str]) -> pd.DataFrame:
    """The rows of some files, oldest first, each asset once, refused ones included.

    Returns:
        The columns of ``schema_of``: numbers float64 with NaN for null, text and flags as objects
        with None; and ``file``, the key that a row was read from.

    Raises:
        CorruptArtifact: as ``read_rows``.
    """
    tables = in_parallel(lambda key: read_table(store.get(key), kind, key), keys)
    frame = to_frame(pa.concat_tables(tables) if tables else schema_of(kind).empty_table(), kind)
    lengths = [len(table) for table in tables]
    frame["file"] = np.repeat(np.array(keys, object), np.array(lengths, np.int64))
    frame = frame.sort_values(["at", "asset"], kind="stable")
    return frame.drop_duplicates("asset", ignore_index=True)


def read_table(data: bytes, kind: AssetKind, key: str) -> pa.Table:
    """A stored Parquet file as a table with today's columns: new ones null, old ones gone.

    Args:
        data: the file.
        kind: what its rows are about.
        key: where it lies; its last part begins with the file's digest.

    Raises:
        CorruptArtifact: the digest is another, or it is no Parquet.
    """
    if hashlib.sha256(data).hexdigest() != key.rsplit("/", 1)[-1].removesuffix(".parquet"):
        raise CorruptArtifact(
            f"{key} holds other bytes than its name says; restore it from a backup or delete it, "
            "then run the validation again",
            where=key,
        )
    try:
        table = pq.read_table(io.BytesIO(data))
    except pa.ArrowInvalid as error:
        raise CorruptArtifact(f"{key} is no Parquet file: {error}; delete it", where=key) from error
    try:
        columns = [
            table[field.name].cast(field.type)
            if field.name in table.column_names
            else pa.nulls(len(table), field.type)
            for field in schema_of(kind)
        ]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise CorruptArtifact(
            f"{key} holds columns of other types: {error}; delete it", where=key
        ) from error
    return pa.Table.from_arrays(columns, schema=schema_of(kind))


def absent_columns(data: bytes, kind: AssetKind) -> tuple[str, ...]:
    """Features of today that a stored Parquet file was written without, being older."""
    names = pq.read_schema(io.BytesIO(data)).names
    return tuple(feature.name for feature in FEATURES[kind] if feature.name not in names)


def to_frame(table: pa.Table, kind: AssetKind) -> pd.DataFrame:
    """A table as a data frame; text and flags become objects, so that None stays None."""
    frame = table.to_pandas()
    named = [feature.name for feature in FEATURES[kind] if feature.type != "number"]
    for name in [*_TEXT, *named]:
        frame[name] = pd.Series(table[name].to_pylist(), dtype=object, index=frame.index)
    return frame


def frame_bytes(frame: pd.DataFrame, kind: AssetKind) -> bytes:
    """A data frame of ``read_rows`` as a Parquet file."""
    return table_bytes(pa.Table.from_pandas(frame, schema=schema_of(kind), preserve_index=False))


def column(frame: pd.DataFrame, feature: Feature) -> Any:
    """A feature's values as ``include.drift.compare.column_of`` takes them."""
    return frame[feature.name].to_numpy()


def tenants(store: ObjectStore) -> tuple[str, ...]:
    """Tenants that have feature rows.

    Lists the whole store: what asks often should name its tenant.
    """
    parts = (info.key.split("/", 2) for info in store.list())
    return tuple(sorted({part[0] for part in parts if part[1:2] == ["features"]}))


def _prefix(tenant: str, kind: AssetKind) -> str:
    return f"{tenant}/features/{kind}/"


def _files(store: ObjectStore, tenant: str, kind: AssetKind, day: str = "") -> list[str]:
    prefix = _prefix(tenant, kind) + day
    return [info.key for info in store.list(prefix) if info.key.endswith(".parquet")]


def _day(key: str) -> date:
    return date.fromisoformat(key.rsplit("/", 2)[-2])


def _assets_of(store: ObjectStore, tenant: str, kind: AssetKind, day: date) -> set[str]:
    known: set[str] = set()
    for key in _files(store, tenant, kind, f"{day}/"):
        known.update(read_table(store.get(key), kind, key)["asset"].to_pylist())
    return known
