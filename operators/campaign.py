"""What the tasks around the stages do: plan, ask, record, report.

Plain functions; ``dags/flow.py`` turns them into tasks. Heavy imports stay inside.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.errors import BadBrief, Refused, Transient
from operators.config import task_settings
from operators.drift import FEATURE_ROWS, collect_rows, with_drift_policy

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.contracts.plan import CampaignPlan

log = logging.getLogger(__name__)

MAX_REVIEWS = 1000
"""Reviews asked in one run: below Airflow's limit on mapped tasks (``core.max_map_length``)."""


def read_brief(params: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Check the brief that the run was started with; take in its template.

    Without a brief (a scheduled run) the first one under the variable ``understudy_briefs`` that
    has not been taken yet is rendered; when there is none, everything is skipped.
    """
    from include.planning import read_brief as read
    from operators.schedule import next_brief

    settings = with_drift_policy(task_settings())
    brief = params.get("brief") or next_brief(settings, context["run_id"])
    if not brief:
        from airflow.sdk.exceptions import AirflowSkipException

        context["ti"].xcom_push("idle", True)
        raise AirflowSkipException("no brief was given and none is waiting")
    return read(brief, settings, _overrides(params, params.get("only")))


def write_ad(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check one ad's form fields: a row of an existing brief, or a new row of its own."""
    from include.planning import read_brief as read
    from operators.one_row import one_row_brief

    settings = with_drift_policy(task_settings())
    if params.get("recipient") and not params.get("face"):
        brief, only = str(params["brief"]), [str(params["recipient"])]
    else:
        brief, only = one_row_brief(params, settings), None
    return {**read(brief, settings, _overrides(params, only)), "only": only}


def _overrides(params: Mapping[str, Any], only: list[str] | None) -> dict[str, Any]:
    tier = params.get("tier")
    overrides = {"tier": None if tier == "brief" else tier, "only": only}
    return {name: value for name, value in overrides.items() if value}


def validate_rows(draft: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Check every row; log how many were taken."""
    from include.planning import validate_rows as validate

    only = draft.get("only") or params.get("only") or None
    ref = {name: value for name, value in draft.items() if name != "only"}
    checked = validate(ref, task_settings(store=ref["store"]), only=only)
    log.info("Rows accepted: %s, rejected: %s", checked["accepted"], checked["rejected"])
    return checked


def plan_shards(
    checked: Mapping[str, Any], params: Mapping[str, Any], context: Context
) -> list[dict[str, Any]]:
    """Cut the rows into shards.

    Returns:
        The shards' references, for mapping. The template's reference and the plan's go to the
        XCom keys ``template`` and ``campaign``.
    """
    from include.planning import plan_shards as plan

    settings = task_settings(store=checked["store"], shard_size=params.get("shard_size") or None)
    campaign = plan(dict(checked), settings)
    ti = context["ti"]
    ti.xcom_push("template", campaign.template.model_dump(mode="json"))
    ti.xcom_push(
        "campaign",
        {
            "store": campaign.store,
            "tenant": campaign.tenant,
            "plan": f"{campaign.tenant}/plan/{campaign.plan_id}/plan.json",
        },
    )
    for reject in campaign.rejects:
        log.warning("Rejected: %s", reject.message)
    return [shard.model_dump(mode="json") for shard in campaign.shards]


def template_chunks(shard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The chunks that a long template's stages can be worked through in side by side.

    Returns:
        The template's ``ShardRef`` for each chunk, with ``chunk`` and a label of its own. Empty
        when one process does it all, or when nothing is left to do.
    """
    from include.chunks import chunk_refs, chunks_of, unfinished

    if not unfinished(shard, ("upscale_plate", "encode_plate")):
        return []
    return chunk_refs([shard], chunks_of(shard))


def row_chunks(shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every shard's chunks, when there are fewer shards than slots.

    Returns:
        A ``ShardRef`` for each shard and chunk, with ``chunk`` and a label of its own.
    """
    from include.chunks import chunk_refs, chunks_of, unfinished

    if len(shards) >= task_settings(store=shards[0]["store"]).slots:
        return []
    left = [shard for shard in shards if unfinished(shard, ("compose",))]
    return chunk_refs(left, chunks_of(shards[0])) if left else []


def load_campaign(ref: Mapping[str, Any]) -> CampaignPlan:
    """The plan that ``plan_shards`` stored."""
    from include.contracts.plan import CampaignPlan
    from include.store import open_store

    return CampaignPlan.model_validate_json(open_store(ref["store"]).get(ref["plan"]))


def collect_reviews(
    campaign_ref: Mapping[str, Any] | None, params: Mapping[str, Any], context: Context
) -> list[dict[str, Any]]:
    """The rows that a person has to look at, each by reference.

    Returns:
        For each a ``ShardRef`` with ``units`` (the one row) and ``item`` (object key of its
        ``ReviewItem``). Empty when nobody is to be asked (``review: hold``).
    """
    from include.contracts.plan import ShardRef
    from include.review import collect_reviews as collect
    from include.runs import run_prefix
    from include.store import open_store

    if campaign_ref is None or params.get("review") == "hold":
        return []
    plan = load_campaign(campaign_ref)
    settings = task_settings(store=plan.store)
    items = collect(plan.shards, settings)
    if len(items) > MAX_REVIEWS:
        log.warning("%d rows need a person; the first %d are asked now", len(items), MAX_REVIEWS)
    store = open_store(plan.store)
    prefix = run_prefix(plan.tenant, context["ti"].dag_id, context["run_id"])
    refs = []
    for item in items[:MAX_REVIEWS]:
        key = f"{prefix}/review/{item.unit}.json"
        store.put(key, item.model_dump_json().encode())
        shard = ShardRef(
            store=item.store, tenant=item.tenant, plan=item.plan, label=item.label, rows=1
        )
        refs.append({**shard.model_dump(mode="json"), "units": [item.unit], "item": key})
    return refs


def record_decision(item: Mapping[str, Any], answer: Mapping[str, Any]) -> bool:
    """Store a person's answer as an artifact.

    An answer that nobody gave (the time limit passed) rejects the row for this run and is not
    stored: the next run asks again.

    Returns:
        Whether the row was approved.
    """
    from include.review import record_decision as record
    from operators.review import APPROVE, load_item

    user = answer.get("responded_by_user")
    if not user:
        log.warning("%s: nobody answered in time; not published in this run", item["label"])
        return False
    approved = bool(answer["chosen_options"] == [APPROVE])
    note = str((answer.get("params_input") or {}).get("note") or "")
    record(
        load_item(item),
        approved=approved,
        by=str(user.get("name") or user.get("id")),
        note=note,
        settings=task_settings(store=item["store"]),
    )
    return approved


def collect_features(campaign_ref: Mapping[str, Any] | None, context: Context) -> int:
    """Write the campaign's feature rows and tell ``drift_validation``; returns how many there are.

    Raises:
        AirflowSkipException: nothing was planned, so that nobody is told.
    """
    if campaign_ref is None:
        from airflow.sdk.exceptions import AirflowSkipException

        raise AirflowSkipException("nothing was planned")
    plan = load_campaign(campaign_ref)
    rows = collect_rows(plan, context["run_id"], task_settings(store=plan.store))
    context["outlet_events"][FEATURE_ROWS].extra = {"tenant": plan.tenant, "rows": rows}
    return rows


def report(
    campaign_ref: Mapping[str, Any] | None,
    nothing_to_do: bool,
    feature_rows: int | None,
    context: Context,
) -> Any:
    """Write results.csv, report.html and totals; then judge the run.

    Args:
        campaign_ref: the plan's reference, None where nothing was planned.
        nothing_to_do: no brief was waiting.
        feature_rows: what ``collect_features`` returned, None where it failed.
        context: the task's.

    Raises:
        BadBrief: nothing was planned.
        Transient: ``features.missing``: the feature rows were not stored.
        Refused: fewer rows were delivered than the brief's ``min_success_ratio`` asks for.
    """
    from include.report import write_report
    from include.runs import latest_results

    if campaign_ref is None:
        if nothing_to_do:
            from airflow.sdk.exceptions import AirflowSkipException

            raise AirflowSkipException("no brief was waiting")
        raise BadBrief("nothing was planned; see the tasks read_brief, validate_rows and plan")
    plan = load_campaign(campaign_ref)
    settings = task_settings(store=plan.store)
    run_id = context["run_id"]
    refs = latest_results(plan, context["ti"].dag_id, run_id)
    totals = write_report(plan, run_id, refs, settings)
    totals["feature_rows"] = feature_rows
    log.info("Delivered %.0f%% of the rows; %s", 100 * totals["success_ratio"], totals["said"])
    if totals["success_ratio"] < plan.min_success_ratio:
        raise Refused(
            f"{plan.campaign}: {totals['success_ratio']:.0%} of the rows were delivered, the brief "
            f"asks for {plan.min_success_ratio:.0%}; who is missing and why is in the report",
            code="campaign.min_success_ratio",
        )
    if feature_rows is None:
        raise Transient(
            "what was measured could not be stored for drift; see the task collect_features, and "
            "run it again",
            code="features.missing",
        )
    return totals
