"""What became of a campaign: results.csv, report.html and the export to a folder."""

from __future__ import annotations

import csv
import io
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.contracts.manifest import Manifest
from include.contracts.plan import TEMPLATE_UNIT, CampaignPlan, ShardPlan, UnitPlan
from include.contracts.stage import StageResult, StageResultRef, UnitResult
from include.errors import StoreUnavailable
from include.planning import safe_cell
from include.remote.budget import Ledger
from include.remote.fallback import Fall, falls_of, rows_of
from include.report_page import render_page
from include.settings import Settings
from include.sharding import record_times
from include.stages.specs import STAGES
from include.store import ObjectStore, open_store
from include.store.bulk import in_parallel
from include.store.cache import ArtifactCache

COLUMNS = (
    *("line", "recipient", "status", "stage", "code", "message", "verdict", "video", "sha256"),
    "instead",
)


@dataclass
class RowOutcome:
    """What became of one row of the table."""

    line: int
    recipient: str
    status: str
    """``delivered``, ``waiting`` (for a person), ``failed`` or ``rejected`` (not planned)."""
    stage: str = ""
    code: str = ""
    message: str = ""
    verdict: str = ""
    video: str = ""
    """Object key of the published video."""
    sha256: str = ""
    instead: str = ""
    """What it was made with instead of what was planned, and why; see include.remote.fallback."""
    files: dict[str, str] = field(default_factory=dict)
    """Published object keys by file name."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Of the composed video."""


@dataclass
class StageTotals:
    """One stage, all shards of a run together."""

    made: int = 0
    hit: int = 0
    failed: int = 0
    held: int = 0
    processes: int = 0
    remote: int = 0
    """Processes that had model APIs do the work."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    io_seconds: float = 0.0
    """Of the seconds, what was spent waiting for the object store."""


@dataclass
class Outcome:
    """What became of a campaign."""

    plan: CampaignPlan
    run_id: str
    rows: list[RowOutcome]
    stages: dict[str, StageTotals]
    core_hour: float
    currency: str = "USD"
    remote_cost: float = 0.0
    """What the campaign's calls of model APIs cost so far, those of earlier runs included."""

    @property
    def delivered(self) -> list[RowOutcome]:
        """Rows whose video is published."""
        return [row for row in self.rows if row.status == "delivered"]

    @property
    def success_ratio(self) -> float:
        """Delivered rows over all rows of the table, those rejected in planning included."""
        return len(self.delivered) / len(self.rows) if self.rows else 0.0

    @property
    def processes(self) -> int:
        """Stage processes that were started."""
        return sum(stage.processes for stage in self.stages.values())

    @property
    def said(self) -> str:
        """How much had to be done, in words."""
        planned = [row for row in self.rows if row.status != "rejected"]
        if self.processes == 0 and planned and len(self.delivered) == len(planned):
            return "everything was rendered before: no stage process was started"
        return f"{self.processes} stage processes were started"

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of all stage processes of this run."""
        return sum(stage.cpu_seconds for stage in self.stages.values())

    @property
    def io_seconds(self) -> float:
        """Seconds that the stage processes of this run waited for the object store."""
        return sum(stage.io_seconds for stage in self.stages.values())

    @property
    def cost(self) -> float:
        """Processor time at the configured price."""
        return self.cpu_seconds / 3600 * self.core_hour

    def totals(self) -> dict[str, Any]:
        """Small figures, fit for an XCom."""
        missing = [
            {"recipient": row.recipient, "line": row.line, "status": row.status, "code": row.code}
            for row in self.rows
            if row.status != "delivered"
        ]
        return {
            "campaign": self.plan.campaign,
            "rows": len(self.rows),
            "delivered": len(self.delivered),
            "waiting": sum(row.status == "waiting" for row in self.rows),
            "success_ratio": round(self.success_ratio, 4),
            "missing": missing[:50],
            "cpu_seconds": round(self.cpu_seconds, 1),
            "io_seconds": round(self.io_seconds, 1),
            "cost": round(self.cost, 4),
            "remote_cost": round(self.remote_cost, 4),
            "instead": [
                {"recipient": row.recipient, "instead": row.instead}
                for row in self.rows
                if row.instead
            ][:50],
            "currency": self.currency,
            "stage_processes": self.processes,
            "said": self.said,
        }


def report_prefix(tenant: str, campaign: str, run_id: str) -> str:
    """Object prefix of a run's report."""
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in run_id)
    return f"{tenant}/report/{campaign}/{safe}"


def write_report(
    plan: CampaignPlan,
    run_id: str,
    result_refs: Iterable[StageResultRef | dict[str, Any]],
    settings: Settings,
) -> dict[str, Any]:
    """Write a run's report into the store.

    Args:
        plan: the campaign's plan.
        run_id: the run's name.
        result_refs: results of the stages that ran, those of failed tasks included.
        settings: says which store.

    Returns:
        Totals, and ``files``: object keys of results.csv, rejects.csv and report.html.
    """
    store = open_store(settings.store)
    outcome = gather(plan, run_id, result_refs, settings)
    prefix = report_prefix(plan.tenant, plan.campaign, run_id)
    files = {name: f"{prefix}/{name}" for name in ("results.csv", "rejects.csv", "report.html")}
    template = ShardPlan.model_validate_json(store.get(plan.template.plan)).template
    own = {name: total for name, total in outcome.stages.items() if not total.remote}
    record_times(store, plan.tenant, template, own)
    store.put(files["results.csv"], results_csv(outcome.rows))
    store.copy(plan.rejects_csv, files["rejects.csv"])
    store.put(files["report.html"], render_page(outcome, store).encode())
    return {**outcome.totals(), "files": files}


def gather(
    plan: CampaignPlan,
    run_id: str,
    result_refs: Iterable[StageResultRef | dict[str, Any]],
    settings: Settings,
) -> Outcome:
    """Find out what became of every row, from manifests first and from results for the reasons."""
    store = open_store(settings.store)
    cache = ArtifactCache(store, plan.tenant)
    keys = [StageResultRef.model_validate(ref).result for ref in result_refs]
    results = in_parallel(lambda key: StageResult.model_validate_json(store.get(key)), keys)
    failures = _failures(results)
    rows = [
        RowOutcome(reject.line, reject.recipient, "rejected", "plan", reject.code, reject.message)
        for reject in plan.rejects
        if reject.line > 1
    ]
    currency = "USD"
    for ref in plan.shards:
        falls = falls_of(store, ref)
        for part, units in rows_of(store, ref):
            budget = part.shard.brief.budget
            currency = budget.currency if budget else "USD"
            made = {name: _made(cache, name, units) for name in _REPORTED}
            rows += [_row(made, unit, failures, falls.get(unit.id, ())) for unit in units]
    rows.sort(key=lambda row: row.line)
    spent = Ledger(store, plan.tenant, plan.campaign).spent()
    totals = _stage_totals(results)
    return Outcome(plan, run_id, rows, totals, settings.core_hour, currency, spent)


_Failure = tuple[str, UnitResult]


def _failures(results: list[StageResult]) -> dict[str, _Failure]:
    """Per unit the failure that matters: the earliest stage's own, not what it took along."""
    order = {name: number for number, name in enumerate(STAGES)}
    weight = {"failed": 0, "held": 1, "skipped": 2}
    worst: dict[str, _Failure] = {}
    ranked = sorted(results, key=lambda result: order[result.stage])
    for result in ranked:
        if result.chunk is not None:  # whoever makes the whole tries the chunk again
            continue
        for unit in result.units:
            if unit.status not in weight:
                continue
            held = worst.get(unit.id)
            if held is None or weight[unit.status] < weight[held[1].status]:
                worst[unit.id] = (result.stage, unit)
    return worst


_REPORTED = ("publish", "sign", "compose", "classify")
_Made = dict[str, dict[str, Manifest]]
"""Manifests by artifact and key."""


def _made(cache: ArtifactCache, artifact: str, rows: Iterable[UnitPlan]) -> dict[str, Manifest]:
    return cache.lookup_many(artifact, [row.key(artifact) for row in rows])


def _row(
    made: _Made, unit: UnitPlan, failures: dict[str, _Failure], falls: Sequence[Fall]
) -> RowOutcome:
    found = _outcome(made, unit, failures)
    found.instead = "; ".join(f"{fall.said} ({fall.reason})" for fall in falls)
    return found


def _outcome(made: _Made, unit: UnitPlan, failures: dict[str, _Failure]) -> RowOutcome:
    published, signed, composed, classify = (made[name].get(unit.key(name)) for name in _REPORTED)
    verdict = classify.facts["verdict"] if classify else ""
    if published is not None:
        files = dict(published.facts["published"])
        return RowOutcome(
            unit.line,
            unit.id,
            "delivered",
            verdict=signed.facts["verdict"] if signed else verdict,
            video=files["video.mp4"],
            sha256=signed.outputs["video"].sha256 if signed else "",
            files=files,
            facts=dict(composed.facts) if composed else {},
        )
    stage, failed = failures.get(unit.id, ("", None))
    if failed is None or failed.status == "skipped":
        # The template's own failure, where there is one, says more than what it took along.
        stage, failed = failures.get(TEMPLATE_UNIT, (stage, failed))
    if failed is None:
        return RowOutcome(
            unit.line, unit.id, "failed", code="not_run", message="no stage got to this row"
        )
    status = "waiting" if failed.status == "held" else "failed"
    return RowOutcome(
        unit.line,
        unit.id,
        status,
        stage,
        failed.code or "",
        failed.message or "",
        verdict,
    )


def _stage_totals(results: list[StageResult]) -> dict[str, StageTotals]:
    totals = {name: StageTotals() for name in STAGES}
    for result in results:
        total = totals[result.stage]
        for unit in result.units if result.chunk is None else ():
            field_name = "failed" if unit.status == "skipped" else unit.status
            setattr(total, field_name, getattr(total, field_name) + 1)
        total.processes += result.started_process
        total.remote += result.remote
        total.seconds += result.seconds
        total.cpu_seconds += result.cpu_seconds
        total.io_seconds += result.io_seconds
    return totals


def results_csv(rows: Iterable[RowOutcome]) -> bytes:
    """``results.csv``: one line per row of the table; UTF-8 with a byte-order mark for Excel."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow([safe_cell(str(getattr(row, column))) for column in COLUMNS])
    return text.getvalue().encode("utf-8-sig")


def export(plan: CampaignPlan, run_id: str, out_dir: Path, settings: Settings) -> list[Path]:
    """Copy what was delivered, and the report, into a folder.

    Each recipient's folder appears whole or not at all.

    Args:
        plan: the campaign's plan.
        run_id: the run whose report is taken.
        out_dir: made if need be; folders of earlier runs are replaced recipient by recipient.
        settings: says which store.

    Returns:
        Paths of the videos.

    Raises:
        StoreUnavailable: the folder cannot be written (``out.unwritable``, ``disk.full``).
    """
    store = open_store(settings.store)
    outcome = gather(plan, run_id, [], settings)
    videos = []
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
        for row in outcome.delivered:
            _export_row(store, row, out_dir)
            videos.append(out_dir / row.recipient / "video.mp4")
        prefix = report_prefix(plan.tenant, plan.campaign, run_id)
        for name in ("results.csv", "rejects.csv", "report.html"):
            if store.head(f"{prefix}/{name}"):
                part = out_dir / f".{name}.part"
                store.get_file(f"{prefix}/{name}", part)
                os.replace(part, out_dir / name)
    except OSError as error:
        code = "disk.full" if error.errno == 28 else "out.unwritable"
        raise StoreUnavailable(
            f"cannot write to {out_dir}: {error.strerror}; free space or choose another folder, "
            "then run again (nothing is rendered twice)",
            code=code,
        ) from error
    return videos


def _export_row(store: ObjectStore, row: RowOutcome, out_dir: Path) -> None:
    part = out_dir / f".{row.recipient}.{uuid.uuid4().hex[:8]}.part"
    part.mkdir()
    try:
        for name, key in row.files.items():
            store.get_file(key, part / name)
        target = out_dir / row.recipient
        if target.exists():
            shutil.rmtree(target)
        os.replace(part, target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
