"""From a brief to a plan, in three steps that hand each other references in the store.

``read_brief`` checks the brief and copies the template into the store; ``validate_rows`` checks
every row, its files and its consent; ``plan_shards`` computes every key and cuts the rows into
shards. Nothing is rendered. Consent is checked here, uncached, and again at signing and
publishing.
"""

from __future__ import annotations

import csv
import hashlib
import io
import logging
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import yaml
from pydantic import Field, ValidationError

from include.consent import MAX_BYTES, load_consent, verify_consent
from include.contracts.base import Contract, digest_json
from include.contracts.brief import Brief, FaceLike
from include.contracts.live import LiveState
from include.contracts.manifest import BackendRef
from include.contracts.plan import (
    TEMPLATE_UNIT,
    CampaignPlan,
    Reject,
    ShardPlan,
    ShardRef,
    SourceRef,
    UnitPlan,
)
from include.drift.gates import gates_of
from include.errors import BadBrief, BadInput, ConsentError
from include.garbage import uncollected
from include.inputs import Inputs, keep_again, open_inputs
from include.keys import Chosen, row_materials, template_materials
from include.live import chosen_for, live_states
from include.provenance.identity import anchors_digest
from include.rows import RowCheck
from include.settings import Settings
from include.sharding import MAX_SHARDS, choose_shard_size, load_times
from include.store import ObjectStore, open_store
from include.store.bulk import in_parallel
from include.store.notice import await_quiet, settled
from include.table import read_table

log = logging.getLogger(__name__)


class Draft(Contract):
    """What ``read_brief`` and ``validate_rows`` leave in the store for the next step."""

    brief_uri: str
    brief: Brief
    brief_sha256: str
    template: UnitPlan
    rows: tuple[UnitPlan, ...] = ()
    rejects: tuple[Reject, ...] = ()
    live: tuple[LiveState, ...] = ()
    """Pointers as they were found."""
    backends: dict[str, BackendRef] = Field(default_factory=dict)
    """By stage, whatever is live: for trying a backend."""
    collected: int | None = None
    """Number of the garbage collector's last batch before anything was looked up; None when one
    was going on."""

    def chosen(self, unit: str) -> dict[str, BackendRef]:
        """The backends of a recipient, by stage, where they are not the defaults."""
        return self.backends or chosen_for(self.live, self.brief, unit)


@dataclass
class _Arm:
    """Rows that use the same backends, and the template made for them."""

    backends: dict[str, BackendRef]
    template: UnitPlan
    rows: list[UnitPlan] = field(default_factory=list)


def plan_campaign(
    brief_uri: str,
    settings: Settings,
    *,
    overrides: dict[str, Any] | None = None,
    backends: dict[str, BackendRef] | None = None,
    gated: bool = True,
    now: datetime | None = None,
) -> CampaignPlan:
    """Plan a campaign in one call.

    Args:
        brief_uri: a path under a configured root, or ``s3://``.
        settings: the environment's settings.
        overrides: ``tier``, ``review`` or ``only`` (recipient ids), put over the brief's own.
        backends: by stage, used whatever the brief says and whatever is live.
        gated: whether open drift gates are minded; see ``read_brief``.
        now: the time that consent is judged at; default now.

    Raises:
        BadBrief: the brief or its table cannot be used.
        Refused: the presenter's consent does not hold, or drift is not settled and the tenant's
            policy is to stop (``drift.gate``).
        StoreUnavailable: the store cannot be used.
    """
    draft = read_brief(brief_uri, settings, overrides, backends=backends, gated=gated, now=now)
    checked = validate_rows(draft, settings, now=now, only=(overrides or {}).get("only"))
    return plan_shards(checked, settings)


def read_brief(
    brief_uri: str,
    settings: Settings,
    overrides: dict[str, Any] | None = None,
    *,
    backends: dict[str, BackendRef] | None = None,
    gated: bool = True,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Check the brief, take in the template, and find out what is live.

    While a drift gate of the tenant is open, its policy decides: go on, have every render looked
    at, or refuse. Only what publishes nothing is planned with ``gated=False``: the golden campaign
    of a rollout, and media that are measured so that a gate can close.

    Returns:
        A reference ``{"store", "tenant", "draft"}`` for ``validate_rows``.
    """
    inputs = open_inputs(brief_uri, settings)
    brief, digest = parse_brief(inputs, overrides)
    store = open_store(settings.store)
    collected = settled(store, brief.tenant)
    if gated and _check_gates(store, brief.tenant, settings):
        brief, digest = parse_brief(inputs, {**(overrides or {}), "review": "all"})
    files = {"video": brief.template.video, "bed": brief.template.bed}
    files["consent"] = brief.template.consent
    if isinstance(brief.template.face, FaceLike):
        files["like"] = brief.template.face.like
    sources = {n: _keep(inputs, path, store, brief.tenant) for n, path in files.items() if path}
    _check_presenter(inputs, brief, sources["video"], settings, now or datetime.now(UTC))
    draft = Draft(
        brief_uri=brief_uri,
        brief=brief,
        brief_sha256=digest,
        template=UnitPlan(id=TEMPLATE_UNIT, sources=sources),
        live=() if backends else live_states(store, brief.tenant),
        backends=backends or {},
        collected=collected,
    )
    champions = tuple(state.model_copy(update={"canary": None}) for state in draft.live)
    chosen = draft.backends or chosen_for(champions, brief, TEMPLATE_UNIT)
    template = _template(draft, chosen, settings)
    return _save_draft(store, draft.model_copy(update={"template": template}), settings)


def _check_gates(store: ObjectStore, tenant: str, settings: Settings) -> bool:
    """Refuse while drift stops the tenant; returns whether every render has to be looked at."""
    gates = gates_of(store, tenant, settings.drift_policy)
    gates.check()
    if gates.open:
        log.warning("%s: drift is not settled (%s): %s", tenant, gates.policy, gates.said)
    return gates.review_all


def _template(draft: Draft, chosen: Chosen, settings: Settings) -> UnitPlan:
    """The template with its key material for these backends."""
    unit = draft.template
    materials = template_materials(draft.brief, unit.sources, settings.chunk_s, chosen)
    return unit.model_copy(update={"materials": materials})


def parse_brief(inputs: Inputs, overrides: dict[str, Any] | None = None) -> tuple[Brief, str]:
    """Read and check the brief itself.

    Returns:
        The brief and a digest of it with the overrides.

    Raises:
        BadBrief: ``brief.missing``, ``brief.yaml`` or ``brief.field``; the message names the
            field.
    """
    try:
        text = inputs.read(inputs.brief)
    except BadInput as error:
        raise BadBrief(f"brief {inputs.origin}: {error.message}", code="brief.missing") from error
    data = _load_yaml(text, inputs.origin)
    if not isinstance(data, dict):
        raise BadBrief(f"brief {inputs.origin} is not a YAML mapping", code="brief.yaml")
    if overrides and overrides.get("tier"):
        data["tier"] = overrides["tier"]
    if overrides and overrides.get("review") and isinstance(data.get("policy", {}), dict):
        data["policy"] = {**data.get("policy", {}), "review": overrides["review"]}
    try:
        brief = Brief.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'brief'}: {item['msg']}"
            for item in error.errors()
        )
        raise BadBrief(f"brief {inputs.origin}: {problems}", code="brief.field") from error
    try:
        return brief, digest_json(brief.model_dump(mode="json"))
    except ValueError as error:
        raise BadBrief(
            f"brief {inputs.origin}: it holds a number or text that JSON cannot ({error}); write "
            "finite numbers and valid Unicode",
            code="brief.field",
        ) from error


def _load_yaml(text: bytes, origin: str) -> Any:
    """What a brief's YAML says; whatever the loader trips over is the brief's fault.

    A value that is no date, number or boolean ends in any of its conversions' own errors.
    """
    try:
        return yaml.safe_load(text)
    except RecursionError as error:
        raise BadBrief(
            f"brief {origin} is not YAML: it is nested too deep", code="brief.yaml"
        ) from error
    except (yaml.YAMLError, ValueError, ArithmeticError, AttributeError, LookupError) as error:
        said = " ".join(str(error).split())
        raise BadBrief(f"brief {origin} is not YAML: {said}", code="brief.yaml") from error


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
    try:
        record = inputs.read(brief.template.consent, most=MAX_BYTES)
    except BadInput as error:
        raise BadBrief(f"brief {inputs.origin}: {error.message}", code=error.code) from error
    verify_consent(
        load_consent(record),
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

    The media of the rows that were taken are copied into the store, those of others are not.

    Args:
        ref: what ``read_brief`` returned.
        settings: the environment's settings.
        now: the time that consent is judged at; default now.
        only: recipient ids to keep; others are left out silently, also those that would be
            rejected.

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
    chosen = [row for row in table.rows if not only or row.id in only]
    check = RowCheck(draft.brief, inputs, settings, now or datetime.now(UTC))
    with uncollected():
        taken, refused = check.rows(chosen, store)
    # What is wrong with the header concerns every row.
    rejects = [r for r in table.rejects if not only or r.line == 1 or r.recipient in only]
    for row, problem in refused:
        message = f"{name} line {row.line} ({row.id}): {problem.message}"
        reject = Reject(line=row.line, recipient=row.id, code=problem.code, message=message)
        rejects.append(reject)
    rejects.sort(key=lambda reject: reject.line)
    draft = draft.model_copy(update={"rows": tuple(taken), "rejects": tuple(rejects)})
    return {
        **_save_draft(store, draft, settings),
        "accepted": len(taken),
        "rejected": sum(1 for reject in rejects if reject.line > 1),
    }


def plan_shards(ref: dict[str, Any], settings: Settings) -> CampaignPlan:
    """Compute every key, cut the accepted rows into shards and write one plan for each.

    Args:
        ref: what ``validate_rows`` returned.
        settings: the environment's settings.

    Raises:
        BadBrief: ``table.no_usable_row``: every row was rejected.
        Usage: the configured trust anchors cannot be read.
    """
    store = open_store(settings.store)
    draft = Draft.model_validate_json(store.get(ref["draft"]))
    brief, template = draft.brief, draft.template
    rejects = rejects_csv(draft.rejects)
    size = shard_size(len(draft.rows), brief, template, settings)
    anchors = anchors_digest()
    with uncollected():
        shards = [
            _shard(draft, arm, tuple(arm.rows[i : i + size]), settings, anchors)
            for arm in _arms(draft, settings)
            for i in range(0, len(arm.rows), size)
        ]
        bodies = [shard.model_dump_json().encode() for shard in shards]
    plan_id = digest_json([draft.brief_sha256, *map(_sha256, (rejects, *bodies))])
    prefix = f"{brief.tenant}/plan/{plan_id}"
    store.put(f"{prefix}/rejects.csv", rejects)
    if not draft.rows:
        reasons = "; ".join(reject.message for reject in draft.rejects[:3])
        reasons = reasons or "there is no row that was asked for"
        raise BadBrief(
            f"{brief.recipients}: no row can be rendered ({reasons}); all reasons are in "
            f"{settings.store}/{prefix}/rejects.csv",
            code="table.no_usable_row",
        )
    own_ref, refs = _write_plans(store, settings, prefix, shards, bodies)
    plan = CampaignPlan(
        store=settings.store,
        tenant=brief.tenant,
        campaign=brief.campaign,
        plan_id=plan_id,
        template=own_ref,
        shards=tuple(refs),
        rejects=draft.rejects,
        accepted=len(draft.rows),
        min_success_ratio=brief.policy.min_success_ratio,
        rejects_csv=f"{prefix}/rejects.csv",
        live=draft.live,
    )
    store.put(f"{prefix}/plan.json", plan.model_dump_json().encode())
    if await_quiet(store, brief.tenant) != draft.collected:
        units = (draft.template, *draft.rows)
        keep_again(units, draft.brief_uri, brief.tenant, settings)
    return plan


def _write_plans(
    store: ObjectStore,
    settings: Settings,
    prefix: str,
    shards: list[ShardPlan],
    bodies: list[bytes],
) -> tuple[ShardRef, list[ShardRef]]:
    """Write the shards' plans, and the template's own with its variants.

    Returns:
        The template's reference, and the shards'.
    """
    refs = [_ref(settings, shard, f"{prefix}/shard-{i:04}.json") for i, shard in enumerate(shards)]
    own, *others = _own_plans(shards, refs)
    variants = [_ref(settings, o, f"{prefix}/template-{n}.json") for n, o in enumerate(others, 2)]
    own = own.model_copy(update={"variants": tuple(variants)})
    own_ref = _ref(settings, own, f"{prefix}/template.json")
    files = dict(zip((of.plan for of in refs), bodies, strict=True))
    for of, made in zip((own_ref, *variants), (own, *others), strict=True):
        files[of.plan] = made.model_dump_json().encode()
    in_parallel(lambda key: store.put(key, files[key]), files)
    return own_ref, refs


def shard_size(rows: int, brief: Brief, template: UnitPlan, settings: Settings) -> int:
    """Recipients per shard: as the settings say, or by measured times; under Airflow's limit."""
    if settings.shard_size:
        return max(settings.shard_size, math.ceil(rows / MAX_SHARDS))
    times = load_times(open_store(settings.store), brief.tenant, template)
    return choose_shard_size(rows, settings.slots, times)


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
    key = f"{draft.brief.tenant}/draft/{_sha256(body)}.json"
    store.put(key, body)
    return {"store": settings.store, "tenant": draft.brief.tenant, "draft": key}


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _arms(draft: Draft, settings: Settings) -> list[_Arm]:
    """Rows by the backends that they use; those that use what is live come first."""
    template, chunk_s = draft.template, settings.chunk_s
    arms: dict[str, _Arm] = {}
    for row in draft.rows:
        chosen = draft.chosen(row.id)
        name = ", ".join(f"{stage} {ref.name}" for stage, ref in sorted(chosen.items()))
        if name not in arms:
            made = template_materials(draft.brief, template.sources, chunk_s, chosen)
            same = made == template.materials
            unit = template if same else template.model_copy(update={"materials": made})
            arms[name] = _Arm(chosen, unit)
        arms[name].rows.append(row)
    return sorted(arms.values(), key=lambda arm: arm.template is not template)


def _shard(
    draft: Draft,
    arm: _Arm,
    rows: tuple[UnitPlan, ...],
    settings: Settings,
    anchors: str | None,
) -> ShardPlan:
    """A shard's plan, its rows with their key material."""
    brief, template = draft.brief, arm.template
    keyed = (
        row.model_copy(
            update={"materials": row_materials(brief, template, row, arm.backends, anchors)}
        )
        for row in rows
    )
    first, last = rows[0], rows[-1]
    names = first.id if first is last else f"{first.id} … {last.id}"
    return ShardPlan(
        brief=brief,
        brief_sha256=draft.brief_sha256,
        label=f"{names} ({len(rows)})" if len(rows) > 1 else names,
        template=template,
        chunk_s=settings.chunk_s,
        rows=tuple(keyed),
        backends=arm.backends,
    )


def _own_plans(shards: list[ShardPlan], refs: list[ShardRef]) -> list[ShardPlan]:
    """For each template of a campaign a plan without rows, which says whose template it is."""
    found: list[tuple[ShardPlan, list[str]]] = []
    for shard, ref in zip(shards, refs, strict=True):
        for known, users in found:
            if known.template is shard.template or known.template == shard.template:
                users.append(ref.plan)
                break
        else:
            found.append((shard, [ref.plan]))
    return [
        shard.model_copy(update={"rows": (), "label": "template", "shared_by": tuple(users)})
        for shard, users in found
    ]


def _ref(settings: Settings, shard: ShardPlan, key: str) -> ShardRef:
    return ShardRef(
        store=settings.store,
        tenant=shard.brief.tenant,
        plan=key,
        label=shard.label,
        rows=len(shard.rows),
    )
