"""Which rows a validation judges: those that no run has judged, and older ones to make up a sample.

A feature file never changes, so what was judged is remembered by file:
``<tenant>/drift/judged/<kind>/<digest>/<run>``. Times would not do: a long campaign collects
its rows hours after they were measured, and by then younger rows may have been judged.

Never judged again are rows of the reference, and rows up to the time of the newest row for which
the gate opened or a person settled it. Needs pandas and pyarrow: import this module inside tasks
only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath

import pandas as pd

from include.drift import gates
from include.drift.records import GateState
from include.drift.rows import files_of, let_through, read_files
from include.expectations.suites import MINIMUM_ROWS
from include.features.catalogue import AssetKind
from include.store import ObjectStore
from include.store.bulk import in_parallel

AT_A_TIME = 8
"""Older files that are read together while rows are made up."""


@dataclass(frozen=True)
class Chosen:
    """What a run judges of one kind."""

    rows: pd.DataFrame
    """Oldest first, columns as ``read_files`` gives them."""
    refused: pd.DataFrame
    """Rows of the same files that hard rules refused: counted, never compared."""
    files: tuple[str, ...]
    """Files that are judged with it; none where a time was given."""
    new: int
    """Of the rows those that no other run has judged."""
    gate: int
    """Number of the gate's state; 0 for none."""


def choose_rows(
    store: ObjectStore,
    tenant: str,
    kind: AssetKind,
    run_id: str,
    accepted: pd.DataFrame | None,
    since: datetime | None = None,
) -> Chosen:
    """Choose the rows of one kind.

    Args:
        store: where.
        tenant: whose.
        kind: of what.
        run_id: another try of the same run chooses the same rows.
        accepted: the reference's rows, None without one.
        since: every row measured since then, whether it was judged or not.
    """
    gate = gates.current(store, tenant, kind)
    number = gate.number if gate else 0
    if gate is not None and gate.by == run_id:  # this very run moved it, and failed later
        before = (state for state in gates.history(store, tenant, kind) if state.by != run_id)
        gate = max(before, key=lambda state: state.number, default=None)
    if since is not None:
        found = read_files(store, kind, files_of(store, tenant, kind, since))
        found = found[found["at"] >= pd.Timestamp(since)]
        kept = _unsettled(let_through(found), gate, accepted)
        return Chosen(kept, found[found["refused"].notna()], (), len(kept), number)
    judged = _judged(store, tenant, kind, run_id)
    fresh = [key for key in files_of(store, tenant, kind) if _name(key) not in judged]
    found = read_files(store, kind, fresh)
    late = gate is not None and gate.reason == "recovered"
    rows = _unsettled(let_through(found), None if late else gate, accepted)
    new = len(rows)
    if new < MINIMUM_ROWS:
        after = _last_settled(gate, accepted)
        older = [k for k in files_of(store, tenant, kind, after) if _name(k) in judged]
        rows = _made_up(rows, _newest_first(store, kind, older), after)
    return Chosen(rows, found[found["refused"].notna()], tuple(fresh), new, number)


def _last_settled(gate: GateState | None, accepted: pd.DataFrame | None) -> datetime | None:
    """Only rows after this time can make up a sample: those before are the reference, or over."""
    times = [gate.until] if gate and gate.until else []
    if accepted is not None and len(accepted):
        times.append(accepted["at"].max().to_pydatetime())
    return max(times, default=None)


def _unsettled(
    rows: pd.DataFrame, gate: GateState | None, accepted: pd.DataFrame | None
) -> pd.DataFrame:
    if gate is not None and gate.until is not None:
        rows = rows[rows["at"] > pd.Timestamp(gate.until)]
    if accepted is not None:
        rows = rows[~rows["asset"].isin(set(accepted["asset"]))]
    return rows.reset_index(drop=True)


def _newest_first(store: ObjectStore, kind: AssetKind, files: list[str]) -> Iterator[pd.DataFrame]:
    while files:
        files, part = files[:-AT_A_TIME], files[-AT_A_TIME:]
        yield let_through(read_files(store, kind, part))


def _made_up(
    rows: pd.DataFrame, older: Iterable[pd.DataFrame], after: datetime | None
) -> pd.DataFrame:
    """Rows with the newest of older ones before them, up to what a comparison needs."""
    for spare in older:
        if after is not None:
            spare = spare[spare["at"] > pd.Timestamp(after)]
        spare = spare[~spare["asset"].isin(set(rows["asset"]))].tail(MINIMUM_ROWS - len(rows))
        rows = pd.concat([spare, rows]) if len(spare) else rows
        if len(rows) >= MINIMUM_ROWS:
            break
    return rows.sort_values(["at", "asset"], kind="stable", ignore_index=True)


def mark_judged(
    store: ObjectStore, tenant: str, run_id: str, files: Mapping[AssetKind, Iterable[str]]
) -> None:
    """Remember that a run has judged these files."""
    keys = [
        f"{_prefix(tenant, kind)}{_name(key)}/{_run(run_id)}"
        for kind, found in files.items()
        for key in found
    ]
    in_parallel(lambda key: store.put_if_absent(key, run_id.encode()), keys)


def _judged(store: ObjectStore, tenant: str, kind: AssetKind, run_id: str) -> set[str]:
    """Names of the files that another run has judged."""
    prefix = _prefix(tenant, kind)
    marks = (info.key.removeprefix(prefix).split("/") for info in store.list(prefix))
    return {name for name, run in marks if run != _run(run_id)}


def _run(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def _prefix(tenant: str, kind: AssetKind) -> str:
    return f"{tenant}/drift/judged/{kind}/"


def _name(key: str) -> str:
    return PurePosixPath(key).stem
