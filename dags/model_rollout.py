"""Puts a new backend live, or not: golden set, canary, promoted or rolled back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Param, PokeReturnValue, dag, get_current_context, task

from operators import rollout
from operators.retries import DEFAULT_ARGS

DOC = """
### Model rollout

Tries a **backend** (an upscaler with weights of your own, declared with
`./understudy backends declare`) beside the one that is live for a tenant, and decides.

1. `start`: one rollout of a stage at a time.
2. `golden`: both render the golden campaign; upscalers also enlarge pictures that they never
   learned from. Quality, safety, speed, memory and cost are compared, each with a confidence
   interval.
3. `gate`: what is not shown to be as good is rolled back; no customer has met it.
4. `canary`: a share of the recipients of campaigns planned from now on, always the same ones.
5. `watch`: their renders beside the others', until the rules decide or time is up.
6. `decide`: promoted, or rolled back. Keys are those of before then, so nothing is rendered twice.
7. `report`: how it ended. A run that fails rolls back what it began.

The rules are `include/rollout/rules.yaml`, or the file that `UNDERSTUDY_ROLLOUT_RULES` names. Every
step is in the audit log: `./understudy rollout log`.
"""


@dag(
    dag_id="model_rollout",
    dag_display_name="Model rollout",
    description="A new backend beside the live one: golden set, canary, promoted or rolled back.",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    tags=["understudy", "rollout"],
    default_args=DEFAULT_ARGS,
    params={
        "tenant": Param(
            type="string",
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            title="Tenant",
            description_md="Whose campaigns.",
            section="Rollout",
        ),
        "stage": Param(
            "upscale",
            type="string",
            enum=["upscale", "face_swap", "lip_sync"],
            title="Stage",
            section="Rollout",
        ),
        "backend": Param(
            type="string",
            minLength=1,
            title="New backend",
            description_md="As `./understudy backends list` shows it.",
            section="Rollout",
        ),
        "golden": Param(
            None,
            type=["null", "string"],
            title="Golden campaign",
            description_md="Path of a brief under a configured root, or `s3://`. Empty: one "
            "of the sample's people.",
            section="Judging",
        ),
        "share": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            exclusiveMaximum=1,
            title="Share of the recipients",
            description_md="Who tries it, between 0 and 1. Empty: as the rules say.",
            section="Judging",
        ),
    },
)
def model_rollout() -> None:
    """Wire the graph."""
    started = start()
    steps = [golden(started), gate(started), canary(started), watch(started), decide(started)]
    for before, after in zip(steps, [*steps[1:], report()], strict=True):
        before >> after


@task(multiple_outputs=False, pool="io")
def start() -> dict[str, str]:
    """Begin."""
    context = get_current_context()
    return rollout.start(context["params"], context)


@task(pool="cpu", execution_timeout=timedelta(hours=6))
def golden(ref: Any) -> str:
    """Render the golden set with both backends."""
    return rollout.golden(ref, get_current_context())


@task(pool="io")
def gate(ref: Any) -> None:
    """Roll back what is not as good."""
    rollout.gate(ref, get_current_context())


@task(pool="io")
def canary(ref: Any) -> str:
    """Give the new backend its share."""
    return rollout.canary(ref, get_current_context())


@task.sensor(pool="io", mode="reschedule", poke_interval=300, timeout=31 * 86400)
def watch(ref: Any) -> PokeReturnValue:
    """Wait for the canary's renders; the rules say for how long at most."""
    decided, verdict = rollout.watch(ref, get_current_context())
    return PokeReturnValue(is_done=decided, xcom_value=verdict)


@task(pool="io")
def decide(ref: Any) -> str:
    """Promote or roll back."""
    return rollout.decide(ref, get_current_context())


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def report() -> dict[str, str]:
    """Say how it ended; roll back what a failed task left behind."""
    context = get_current_context()
    return rollout.report(context["ti"].xcom_pull(task_ids="start"), context)


model_rollout()
