"""A validation run of one tenant: rows against expectations and reference, and what follows.

Needs Great Expectations, pandas and pyarrow, which the Airflow side has: import this module inside
tasks only.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from include.drift import gates, reference
from include.drift.gx import Validator, findings_of
from include.drift.offenders import breaches_of, offenders_of
from include.drift.records import DriftVerdict, GateState, KindVerdict, Window
from include.drift.report import render_report
from include.drift.rows import read_rows
from include.drift.verdicts import earlier_verdicts, verdict_key
from include.errors import Bug
from include.expectations.suites import MINIMUM_ROWS, Suite, suite_of
from include.features.catalogue import FEATURES, AssetKind
from include.store import ObjectStore

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """What a run found, and which gates it moved."""

    verdict: DriftVerdict
    key: str
    """Object key of the verdict."""
    changed: tuple[GateState, ...]


def validate_tenant(
    store: ObjectStore,
    tenant: str,
    run_id: str,
    *,
    since: datetime | None = None,
    kinds: Iterable[AssetKind] = tuple(FEATURES),
    keep_docs: Path | None = None,
) -> Validation:
    """Validate a tenant's feature rows; store verdict, report and results; move its gates.

    Without ``since`` the rows that no verdict has seen yet are judged, with older ones where they
    are fewer than a comparison needs. Rows of the reference, and rows up to the last time that a
    gate moved, are never judged again.

    Args:
        store: where features, references and verdicts are.
        tenant: whose.
        run_id: the run's name; another try of the same run judges the same rows and reports the
            same changes of gates.
        since: judge every row measured since then.
        kinds: which kinds of asset.
        keep_docs: folder to leave Great Expectations' own report in; it is stored in any case.

    Raises:
        CorruptArtifact: rows or a reference are not what was stored.
        Bug: an expectation could not be evaluated.
    """
    # A verdict of this very run is that of a try that failed later: the same rows are judged again.
    past = [one for one in earlier_verdicts(store, tenant) if one.run_id != run_id]
    with tempfile.TemporaryDirectory(prefix="understudy-drift-") as scratch:
        docs = keep_docs or Path(scratch) / "docs"
        run = _Run(store, tenant, run_id, since, past, Validator(docs))
        prefix = f"{tenant}/drift"
        at = datetime.now(UTC)
        name = f"{at:%Y%m%dT%H%M%S%f}-{re.sub(r'[^A-Za-z0-9._-]', '_', run_id)[:100]}"
        found = []
        for kind in kinds:
            judged, result = _judge(run, kind)
            found.append(judged)
            if result is not None:
                store.put(f"{prefix}/result/{name}/{kind}.json", _as_json(result))
        verdict = DriftVerdict(
            tenant=tenant,
            run_id=run_id,
            at=at,
            kinds=tuple(found),
            report=f"{prefix}/report/{name}.html",
            docs=_store_docs(store, docs, f"{prefix}/docs/{name}"),
        )
    key = verdict_key(tenant, name)
    store.put(key, verdict.model_dump_json(indent=1).encode())
    changed = gates.apply(store, tenant, found, run_id, verdict.report)
    states = gates.gates_of(store, tenant, "").open
    store.put(verdict.report, render_report(verdict, past, states, store).encode())
    for one in found:
        log.info("%s: %s", tenant, one.said)
    return Validation(verdict, key, tuple(changed))


@dataclass(frozen=True)
class _Run:
    """What a validation run is about."""

    store: ObjectStore
    tenant: str
    run_id: str
    since: datetime | None
    past: list[DriftVerdict]
    validator: Validator


def _judge(run: _Run, kind: AssetKind) -> tuple[KindVerdict, dict[str, Any] | None]:
    """One kind: which rows, which reference, what Great Expectations says about them."""
    store, tenant, suite = run.store, run.tenant, suite_of(kind)
    window = reference.newest(store, tenant, kind)
    accepted = reference.read_window(store, window) if window else None
    rows = _to_judge(run, kind, accepted)
    base: dict[str, Any] = {"kind": kind, "rows": len(rows), "suite": suite.digest}
    if window is not None:
        base |= {"window": window.rows_sha256, "version": window.version}
    if rows.empty:
        return KindVerdict(outcome="too_few", **base), None
    base |= {"since": rows["at"].min(), "until": rows["at"].max()}
    result = run.validator.run(rows, suite, window.rows_sha256 if window else None, accepted)
    _check_evaluated(result)
    findings, breaches = findings_of(result), breaches_of(rows, suite, result)
    verdict = KindVerdict(
        outcome=_outcome(len(rows), window, suite, findings, bool(breaches)),
        findings=findings,
        breaches=breaches,
        **base,
    )
    if verdict.outcome in ("drift", "no_reference") and len(rows) >= MINIMUM_ROWS:
        batch = reference.keep_batch(store, tenant, kind, rows)
        verdict = verdict.model_copy(update={"batch": batch})
    worst = offenders_of(store, tenant, verdict, rows, accepted)
    return verdict.model_copy(update={"offenders": worst}), result


def _to_judge(run: _Run, kind: AssetKind, accepted: pd.DataFrame | None) -> pd.DataFrame:
    gate = gates.current(run.store, run.tenant, kind)
    # Not where this very run moved the gate, and failed later.
    settled = gate.until if gate and gate.by != run.run_id else None
    start = max(filter(None, (run.since, settled)), default=None)
    rows = read_rows(run.store, run.tenant, kind, start)
    if settled is not None:
        rows = rows[rows["at"] > pd.Timestamp(settled)]
    if accepted is not None:
        rows = rows[~rows["asset"].isin(set(accepted["asset"]))]
    if run.since is None:
        seen = _seen_until(run.past, kind)
        fresh = len(rows) if seen is None else int((rows["at"] > pd.Timestamp(seen)).sum())
        rows = rows.tail(max(fresh, MINIMUM_ROWS))
    return rows.reset_index(drop=True)


def _seen_until(past: list[DriftVerdict], kind: AssetKind) -> datetime | None:
    times = (one.until for verdict in past for one in verdict.kinds if one.kind == kind)
    return max(filter(None, times), default=None)


def _outcome(
    rows: int, window: Window | None, suite: Suite, findings: Iterable[Any], broken: bool
) -> Any:
    states = [finding.state for finding in findings]
    if "drifted" in states:
        return "drift"
    if broken:
        return "broken"
    if window is None:
        return "no_reference"
    return "ok" if "steady" in states else "too_few"


def _check_evaluated(result: dict[str, Any]) -> None:
    for one in result["results"]:
        info = one.get("exception_info") or {}
        failed = info if "raised_exception" in info else next(iter(info.values()), {})
        if failed.get("raised_exception"):
            config = one["expectation_config"]
            raise Bug(
                f"{config['type']} on {config['kwargs'].get('column')} could not be evaluated: "
                f"{failed.get('exception_message')}",
                code="drift.expectation",
            )


def _as_json(result: dict[str, Any]) -> bytes:
    return json.dumps(result, indent=1, default=_plain).encode()


def _plain(value: Any) -> Any:
    """What NumPy and pandas leave in a result."""
    return value.item() if hasattr(value, "item") else str(value)


def _store_docs(store: ObjectStore, docs: Path, prefix: str) -> str | None:
    """Put Great Expectations' pages into the store, without its fonts and logos."""
    first = None
    for path in sorted(docs.rglob("*")):
        if path.suffix not in (".html", ".css"):
            continue
        data = path.read_bytes()
        key = f"{prefix}/{path.relative_to(docs).as_posix()}"
        if any(len(part.encode()) > 255 for part in key.split("/")) or len(key.encode()) > 1024:
            key = f"{prefix}/{hashlib.sha256(key.encode()).hexdigest()}{path.suffix}"
        store.put(key, data)
        first = key if path.name == "index.html" and path.parent == docs else first
    return first
