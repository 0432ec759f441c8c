"""The render graph that ``campaign_render`` and ``render_ad`` share. Wiring only."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator, Param, get_current_context, task, task_group

from include.stages.specs import STAGES, stage_edges
from operators import campaign
from operators.drift import FEATURE_ROWS
from operators.review import NOTE, ReviewOperator
from operators.stage import StageOperator, stage_defaults

TEMPLATE_STAGES = tuple(spec.name for spec in STAGES.values() if spec.scope == "template")
BY_CHUNK = ("upscale_plate", "encode_plate")
"""Stages of the template whose chunks are tasks of their own: those that take long."""
ROW_STAGES = tuple(spec.name for spec in STAGES.values() if spec.scope == "row")

COMMON_PARAMS = {
    "tier": Param(
        "brief",
        type="string",
        enum=["brief", "preview", "final"],
        values_display={"brief": "as the brief says"},
        title="Tier",
        description_md="`preview` is cheap and marked as such.",
        section="Rendering",
    ),
    "shard_size": Param(
        0,
        type="integer",
        minimum=0,
        maximum=500,
        title="Recipients per shard",
        description_md="0 chooses by the campaign's size.",
        section="Rendering",
    ),
    "review": Param(
        "ask",
        type="string",
        enum=["ask", "hold"],
        title="Borderline rows",
        description_md="`ask` puts a question to a person under *Required Actions*; `hold` leaves "
        "them unpublished for a later run.",
        section="Review",
    ),
    "review_hours": Param(
        None,
        type=["null", "number"],
        exclusiveMinimum=0,
        title="Time limit for an answer, in hours",
        description_md="Without an answer in time the row is not published. Empty: the variable "
        "`understudy_review_hours`, else 72.",
        section="Review",
    ),
}


def render_graph(draft: Any) -> None:
    """Everything after the brief was read.

    Args:
        draft: the output of the task that read it.
    """
    checked = validate_rows(draft)
    shards = plan(checked)
    stages = _stages(shards)
    items = collect_reviews()
    [stages["classify"], stages["measure_render"]] >> items
    reviewed = review_row.expand(item=items)
    collected = collect_features()
    [stages["publish"], reviewed] >> collected >> report()


def _stages(shards: Any) -> dict[str, Any]:
    stages: dict[str, Any] = {}

    @task_group(group_id="compile_template", tooltip="Once per template; cached for ever.")
    def compile_template(shard: Any) -> None:
        for name in TEMPLATE_STAGES:
            stages[name] = StageOperator(stage=name, shard=shard)
        _template_chunks(shard, stages)

    @task_group(group_id="render_shard", tooltip="Once per shard of recipients.")
    def render_shard(shard: Any) -> None:
        for name in ROW_STAGES:
            stages[name] = StageOperator(stage=name, shard=shard)

    compile_template(shards["template"])
    render_shard.expand(shard=shards)
    for made, name in stage_edges():
        stages[made] >> stages[name]
    _row_chunks(shards, stages)
    return stages


def _template_chunks(shard: Any, stages: dict[str, Any]) -> None:
    """Chunks of a long template side by side; the stages after them only join what is there."""
    made: list[BaseOperator] = []

    @task_group(group_id="template_chunk", tooltip="Once per chunk of a long template.")
    def template_chunk(chunk: Any) -> None:
        made.extend(StageOperator(stage=n, shard=chunk, by_chunk=True) for n in BY_CHUNK)

    chunks = template_chunks(shard)
    stages["track_face"] >> chunks
    template_chunk.expand(chunk=chunks)
    stages["measure_template"] >> made
    ready = chunks_done.override(task_id="template_chunks_done")()
    made >> ready >> [stages[name] for name in BY_CHUNK]


def _row_chunks(shards: Any, stages: dict[str, Any]) -> None:
    """Where there are fewer shards than workers, chunks of a long video side by side.

    What a mapped group of no chunks waits for, the shards wait for as well: so each step waits
    only for what its stage needs anyway.
    """
    made: dict[str, BaseOperator] = {}

    @task_group(group_id="row_chunk", tooltip="Once per shard and chunk of a long template.")
    def row_chunk(chunk: Any) -> None:
        for name in ("face_swap", "lip_sync", "upscale"):
            made[name] = StageOperator(stage=name, shard=chunk, by_chunk=True)
        made["face_swap"] >> [made["lip_sync"], made["upscale"]]

    chunks = row_chunks(shards)
    stages["track_face"] >> chunks
    rows = StageOperator.partial(
        task_id="ingest_for_chunks", **stage_defaults("ingest_recipients")
    ).expand(shard=chunks)
    measured = StageOperator.partial(
        task_id="measure_for_chunks", **stage_defaults("measure_inputs")
    ).expand(shard=chunks)
    row_chunk.expand(chunk=chunks)
    rows >> measured
    [measured, stages["analyse_face"]] >> made["face_swap"]
    ready = chunks_done.override(task_id="row_chunks_done")()
    [made["lip_sync"], made["upscale"]] >> ready >> stages["face_swap"]
    composed = StageOperator.partial(
        task_id="compose_chunk", by_chunk=True, **stage_defaults("compose")
    ).expand(shard=chunks)
    [made["lip_sync"], made["upscale"], stages["upscale_plate"]] >> composed
    ready = chunks_done.override(task_id="compose_chunks_done")()
    composed >> ready >> stages["compose"]


@task(multiple_outputs=False, pool="io")
def template_chunks(shard: Any) -> list[dict[str, Any]]:
    """The chunks of a long template that is not compiled yet; none for a short one."""
    return campaign.template_chunks(shard)


@task(multiple_outputs=False, pool="io")
def row_chunks(shards: Any) -> list[dict[str, Any]]:
    """Every shard's chunks where that keeps more workers busy; else none."""
    return campaign.row_chunks(list(shards))


@task(pool="io", trigger_rule="all_done")
def chunks_done() -> None:
    """Go on whatever became of the chunks: the stage itself makes what is missing."""


@task(multiple_outputs=False, pool="io")
def validate_rows(draft: Any) -> dict[str, Any]:
    """Check every row: its cells, its files and its consent."""
    return campaign.validate_rows(draft, get_current_context()["params"])


@task(multiple_outputs=False, pool="io")
def plan(checked: Any) -> list[dict[str, Any]]:
    """Compute every key and cut the rows into shards."""
    context = get_current_context()
    return campaign.plan_shards(checked, context["params"], context)


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def collect_reviews() -> list[dict[str, Any]]:
    """Gather the rows that a person has to look at; the others have gone on."""
    context = get_current_context()
    ref = context["ti"].xcom_pull(task_ids="plan", key="campaign")
    return campaign.collect_reviews(ref, context["params"], context)


@task_group(group_id="reviewed", tooltip="Once per row that needs a person.")
def review_row(item: Any) -> None:
    """One row: the question, its answer as an artifact, then signing and publishing."""
    answer = ReviewOperator(task_id="review", item=item, pool="io", params=NOTE)
    decision = record_decision(item, answer.output)
    sign = StageOperator(task_id="sign_reviewed", stage="sign", shard=item)
    publish = StageOperator(task_id="publish_reviewed", stage="publish", shard=item)
    decision >> sign >> publish


@task(pool="io", map_index_template="{{ task.op_args[0]['label'] }}")
def record_decision(item: Any, answer: Any) -> bool:
    """Store the answer; the stages after it look it up themselves."""
    return campaign.record_decision(item, answer)


@task(multiple_outputs=False, pool="io", trigger_rule="all_done", outlets=[FEATURE_ROWS])
def collect_features() -> int:
    """Store what was measured, and have it judged: also where too little was delivered."""
    context = get_current_context()
    ref = context["ti"].xcom_pull(task_ids="plan", key="campaign")
    return campaign.collect_features(ref, context)


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def report() -> dict[str, Any]:
    """Write results.csv, report.html and totals; fail below the brief's success ratio."""
    context = get_current_context()
    pull = context["ti"].xcom_pull
    ref = pull(task_ids="plan", key="campaign")
    idle = bool(pull(task_ids="read_brief", key="idle"))
    collected = pull(task_ids="collect_features")
    totals: dict[str, Any] = campaign.report(ref, idle, collected, context)
    return totals
