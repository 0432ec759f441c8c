"""From a brief to a plan, in three steps that hand each other references in the store.

``read_brief`` checks the brief and copies the template into the store; ``validate_rows`` checks
every row, its files and its consent; ``plan_shards`` computes every key and cuts the rows into
shards. Nothing is rendered. Consent is checked here, uncached, and again at signing and
publishing.
"""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from typing import Any

import yaml
from pydantic import ValidationError

from include.consent import load_consent, verify_consent
from include.contracts.base import Contract, digest_json
from include.contracts.brief import Brief
from include.contracts.plan import (
    TEMPLATE_UNIT,
    CampaignPlan,
    Reject,
    ShardPlan,
    ShardRef,
    SourceRef,
    UnitPlan,
)
from include.errors import BadBrief, BadInput, ConsentError, Refused
from include.inputs import Inputs, open_inputs
from include.keys import row_materials, template_materials
from include.settings import Settings
from include.store import ObjectStore, open_store
from include.table import Row, read_table

MAX_SHARD = 16
"""Most recipients in one shard: what one retry can cost."""
MAX_SHARDS = 1000
"""Below Airflow's limit on mapped tasks (``core.max_map_length``, 1024)."""


class Draft(Contract):
    """What ``read_brief`` and ``validate_rows`` leave in the store for the next step."""

    brief_uri: str
    brief: Brief
    brief_sha256: str
    template: UnitPlan
    rows: tuple[UnitPlan, ...] = ()
    rejects: tuple[Reject, ...] = ()


def plan_campaign(
    brief_uri: str,
    settings: Settings,
    *,
    overrides: dict[str, Any] | None = None,
    now: datetime | None = None,
) -> CampaignPlan:
    """Plan a campaign in one call.

    Args:
        brief_uri: a path under a configured root, or ``s3://``.
        settings: the environment's settings.
        overrides: ``tier`` or ``only`` (recipient ids), put over the brief's own.
        now: the time that consent is judged at; default now.

    Raises:
        BadBrief: the brief or its table cannot be used.
        Refused: the presenter's consent does not hold.
        StoreUnavailable: the store cannot be used.
    """
    draft = read_brief(brief_uri, settings, overrides, now=now)
    checked = validate_rows(draft, settings, now=now, only=(overrides or {}).get("only"))
    return plan_shards(checked, settings)


def read_brief(
    brief_uri: str,
    settings: Settings,
    overrides: dict[str, Any] | None = None,
    *,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Check the brief and take in the template.

    Returns:
        A reference ``{"store", "tenant", "draft"}`` for ``validate_rows``.
    """
    inputs = open_inputs(brief_uri, settings)
    brief, digest = parse_brief(inputs, overrides)
    store = open_store(settings.store)
    sources = {"video": _keep(inputs, brief.template.video, store, brief.tenant)}
    if brief.template.bed:
        sources["bed"] = _keep(inputs, brief.template.bed, store, brief.tenant)
    if brief.template.consent:
        sources["consent"] = _keep(inputs, brief.template.consent, store, brief.tenant)
    _check_presenter(inputs, brief, sources["video"], settings, now or datetime.now(UTC))
    unit = UnitPlan(id=TEMPLATE_UNIT, sources=sources)
    unit = unit.model_copy(update={"materials": template_materials(brief, sources)})
    draft = Draft(brief_uri=brief_uri, brief=brief, brief_sha256=digest, template=unit)
    return _save_draft(store, draft, settings)


def parse_brief(inputs: Inputs, overrides: dict[str, Any] | None = None) -> tuple[Brief, str]:
    """Read and check the brief itself.

    Returns:
        The brief and a digest of it with the overrides.

    Raises:
        BadBrief: ``brief.missing``, ``brief.yaml`` or ``brief.field``; the message names the
            field.
    """
    try:
        data = yaml.safe_load(inputs.read(inputs.brief))
    except BadInput as error:
        raise BadBrief(f"brief {inputs.origin}: {error.message}", code="brief.missing") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise BadBrief(f"brief {inputs.origin} is not YAML: {text}", code="brief.yaml") from error
    if not isinstance(data, dict):
        raise BadBrief(f"brief {inputs.origin} is not a YAML mapping", code="brief.yaml")
    if overrides and overrides.get("tier"):
        data["tier"] = overrides["tier"]
    try:
        brief = Brief.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'brief'}: {item['msg']}"
            for item in error.errors()
        )
        raise BadBrief(f"brief {inputs.origin}: {problems}", code="brief.field") from error
    return brief, digest_json(brief.model_dump(mode="json"))


def _keep(inputs: Inputs, name: str, store: ObjectStore, tenant: str) -> SourceRef:
    try:
        return SourceRef(blob=inputs.keep(name, store, tenant), origin=name)
    except BadInput as error:
        raise BadBrief(f"brief {inputs.origin}: {error.message}", code=error.code) from error


def _check_presenter(
    inputs: Inputs, brief: Brief, video: SourceRef, settings: Settings, now: datetime
) -> None:
    if brief.template.consent is None:
        if "consent" not in brief.policy.required:
            return
        raise ConsentError(
            f"brief {inputs.origin}: template.consent is missing; name the presenter's consent "
            "record, or take 'consent' out of policy.required",
            code="consent.missing",
        )
    verify_consent(
        load_consent(inputs.read(brief.template.consent)),
        tenant=brief.tenant,
        campaign=brief.campaign,
        now=now,
        scope={"template"},
        face_sha256=video.blob.sha256,
        revoked=settings.revoked_records(),
        keys=settings.consent_keys,
    )


def validate_rows(
    ref: dict[str, Any],
    settings: Settings,
    *,
    now: datetime | None = None,
    only: list[str] | None = None,
) -> dict[str, Any]:
    """Check every row of the table: its cells, files and consent.

    Args:
        ref: what ``read_brief`` returned.
        settings: the environment's settings.
        now: the time that consent is judged at; default now.
        only: recipient ids to keep; others are left out silently.

    Returns:
        The reference for ``plan_shards``, with ``accepted`` and ``rejected`` counts.
    """
    store = open_store(settings.store)
    draft = Draft.model_validate_json(store.get(ref["draft"]))
    inputs = open_inputs(draft.brief_uri, settings)
    name = draft.brief.recipients
    try:
        table = read_table(inputs.read(name), name)
    except BadBrief:
        raise
    except BadInput as error:
        raise BadBrief(f"brief {draft.brief_uri}: {error.message}", code=error.code) from error
    rows: list[UnitPlan] = []
    rejects = list(table.rejects)
    for row in table.rows:
        if only and row.id not in only:
            continue
        try:
            rows.append(_take_row(row, draft, inputs, store, settings, now or datetime.now(UTC)))
        except (BadInput, Refused) as error:
            message = f"{name} line {row.line} ({row.id}): {error.message}"
            rejects.append(
                Reject(line=row.line, recipient=row.id, code=error.code, message=message)
            )
    rejects.sort(key=lambda reject: reject.line)
    draft = draft.model_copy(update={"rows": tuple(rows), "rejects": tuple(rejects)})
    return {
        **_save_draft(store, draft, settings),
        "accepted": len(rows),
        "rejected": sum(1 for reject in rejects if reject.line > 1),
    }


def _take_row(
    row: Row, draft: Draft, inputs: Inputs, store: ObjectStore, settings: Settings, now: datetime
) -> UnitPlan:
    tenant = draft.brief.tenant
    sources = {"face": _source(row.face, "photo", inputs, store, tenant)}
    if row.audio:
        sources["audio"] = _source(row.audio, "audio", inputs, store, tenant)
    sources["consent"] = _source(row.consent, "consent", inputs, store, tenant)
    speaks = bool(row.audio or row.script)
    verify_consent(
        load_consent(inputs.read(row.consent)),
        tenant=tenant,
        campaign=draft.brief.campaign,
        now=now,
        scope={"face_swap", "lip_sync"} if speaks else {"face_swap"},
        face_sha256=sources["face"].blob.sha256,
        audio_sha256=sources["audio"].blob.sha256 if row.audio else None,
        revoked=settings.revoked_records(),
        keys=settings.consent_keys,
    )
    unit = UnitPlan(
        id=row.id,
        line=row.line,
        sources=sources,
        script=row.script,
        locale=row.locale,
        voice=row.voice,
        lip_sync=speaks,
    )
    materials = row_materials(draft.brief, draft.template, unit)
    return unit.model_copy(update={"materials": materials})


def _source(name: str, what: str, inputs: Inputs, store: ObjectStore, tenant: str) -> SourceRef:
    try:
        return SourceRef(blob=inputs.keep(name, store, tenant), origin=name)
    except BadInput as error:
        code = f"{what}.missing" if error.code == "file.missing" else error.code
        raise BadInput(f"{what}: {error.message}", code=code) from error


def plan_shards(ref: dict[str, Any], settings: Settings) -> CampaignPlan:
    """Cut the accepted rows into shards and write one plan for each.

    Args:
        ref: what ``validate_rows`` returned.
        settings: the environment's settings.

    Raises:
        BadBrief: ``table.no_usable_row``: every row was rejected.
    """
    store = open_store(settings.store)
    draft = Draft.model_validate_json(store.get(ref["draft"]))
    brief = draft.brief
    plan_id = digest_json(draft.model_dump(mode="json", exclude={"brief_uri"}))
    prefix = f"{brief.tenant}/plan/{plan_id}"
    store.put(f"{prefix}/rejects.csv", rejects_csv(draft.rejects))
    if not draft.rows:
        reasons = "; ".join(reject.message for reject in draft.rejects[:3])
        raise BadBrief(
            f"{brief.recipients}: no row can be rendered ({reasons}); all reasons are in "
            f"{settings.store}/{prefix}/rejects.csv",
            code="table.no_usable_row",
        )
    size = shard_size(len(draft.rows), settings)
    groups = [draft.rows[i : i + size] for i in range(0, len(draft.rows), size)]
    shards = tuple(
        _save_shard(store, settings, draft, f"{prefix}/shard-{i:04}.json", rows)
        for i, rows in enumerate(groups)
    )
    shared_by = tuple(shard.plan for shard in shards)
    template = _save_shard(store, settings, draft, f"{prefix}/template.json", (), shared_by)
    plan = CampaignPlan(
        store=settings.store,
        tenant=brief.tenant,
        campaign=brief.campaign,
        plan_id=plan_id,
        template=template,
        shards=shards,
        rejects=draft.rejects,
        accepted=len(draft.rows),
        min_success_ratio=brief.policy.min_success_ratio,
        rejects_csv=f"{prefix}/rejects.csv",
    )
    store.put(f"{prefix}/plan.json", plan.model_dump_json().encode())
    return plan


def shard_size(rows: int, settings: Settings) -> int:
    """Recipients per shard: all slots busy, no shard over MAX_SHARD, under Airflow's limit."""
    chosen = settings.shard_size or min(MAX_SHARD, math.ceil(rows / settings.slots))
    return max(1, chosen, math.ceil(rows / MAX_SHARDS))


def rejects_csv(rejects: tuple[Reject, ...]) -> bytes:
    """``rejects.csv``: line, recipient, code, message; UTF-8 with a byte-order mark for Excel."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("line", "recipient", "code", "message"))
    for reject in rejects:
        cells = (str(reject.line), reject.recipient, reject.code, reject.message)
        writer.writerow([safe_cell(cell) for cell in cells])
    return text.getvalue().encode("utf-8-sig")


def safe_cell(cell: str) -> str:
    """Keep a spreadsheet from running a cell as a formula (OWASP CSV injection)."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell


def _save_draft(store: ObjectStore, draft: Draft, settings: Settings) -> dict[str, Any]:
    body = draft.model_dump_json().encode()
    key = f"{draft.brief.tenant}/draft/{digest_json(draft.model_dump(mode='json'))}.json"
    store.put(key, body)
    return {"store": settings.store, "tenant": draft.brief.tenant, "draft": key}


def _save_shard(
    store: ObjectStore,
    settings: Settings,
    draft: Draft,
    key: str,
    rows: tuple[UnitPlan, ...],
    shared_by: tuple[str, ...] = (),
) -> ShardRef:
    label = "template"
    if rows:
        first, last = rows[0], rows[-1]
        names = first.id if first is last else f"{first.id} … {last.id}"
        label = f"{names} ({len(rows)})" if len(rows) > 1 else names
    shard = ShardPlan(
        brief=draft.brief,
        brief_sha256=draft.brief_sha256,
        label=label,
        template=draft.template,
        rows=rows,
        shared_by=shared_by,
    )
    store.put(key, shard.model_dump_json().encode())
    return ShardRef(
        store=settings.store,
        tenant=draft.brief.tenant,
        plan=key,
        label=label,
        rows=len(rows),
    )
