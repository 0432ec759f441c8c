"""A validation run of one tenant: rows against expectations and reference, and what follows.

Needs Great Expectations, pandas and pyarrow, which the Airflow side has: import this module inside
tasks only.
"""

from __future__ import annotations

import json
import logging
import re
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from include.drift import gates, reference
from include.drift.choose import choose_rows, mark_judged
from include.drift.docs import store_docs
from include.drift.gx import Validator, findings_of
from include.drift.offenders import breaches_of, offenders_of
from include.drift.records import DriftVerdict, GateState, KindVerdict, Refusal, Window
from include.drift.report import render_report
from include.drift.verdicts import earlier_verdicts, note_waiting, verdict_key
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

    Without ``since`` the rows that no run has judged yet are judged, with older ones where they are
    fewer than a comparison needs; see ``include.drift.choose``.

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
            docs=store_docs(store, docs, f"{prefix}/docs/{name}"),
        )
    key = verdict_key(tenant, name)
    store.put(key, verdict.model_dump_json(indent=1).encode())
    note_waiting(store, verdict, key)
    changed = gates.apply(store, tenant, found, run_id, verdict.report)
    states = gates.gates_of(store, tenant, "").open
    store.put(verdict.report, render_report(verdict, past, states, store).encode())
    mark_judged(store, tenant, run_id, run.files)
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
    files: dict[AssetKind, tuple[str, ...]] = field(default_factory=dict)
    """Feature files that this run judges first."""


def _judge(run: _Run, kind: AssetKind) -> tuple[KindVerdict, dict[str, Any] | None]:
    """One kind: which rows, which reference, what Great Expectations says about them."""
    store, tenant, suite = run.store, run.tenant, suite_of(kind)
    window = reference.newest(store, tenant, kind)
    accepted = reference.read_window(store, window) if window else None
    chosen = choose_rows(store, tenant, kind, run.run_id, accepted, run.since)
    run.files[kind], rows = chosen.files, chosen.rows
    base: dict[str, Any] = {"kind": kind, "rows": len(rows), "suite": suite.digest}
    base |= {"gate": chosen.gate, "new": chosen.new, **_refused(chosen.refused)}
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


def _refused(rows: pd.DataFrame) -> dict[str, Any]:
    """How many assets hard rules refused, and which rules."""
    rules = Counter(rule for broken in rows["refused"] for rule in str(broken).split(","))
    found = tuple(Refusal(rule=rule, rows=count) for rule, count in rules.most_common())
    return {"refused": len(rows), "refusals": found}


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
