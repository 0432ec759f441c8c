"""Judges what came in and what went out, and asks a person where it has drifted."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import (
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    dag,
    get_current_context,
    task,
    task_group,
)

from operators import drift, incoming, notify
from operators.drift import GATE_CLOSED, VERDICTS, DriftReviewOperator, ValidateOperator
from operators.retries import DEFAULT_ARGS
from operators.review import NOTE

DOC = """
### Drift validation

Compares the features of templates, photos, voices and finished videos with what is expected
(`include/expectations`): hard rules, and drift against a frozen **reference** that a person
accepted.

1. `measure_incoming`: measures the photos, voices and template of the brief that is given, or of
   scheduled briefs that drift holds back: nothing is rendered, but the data can recover.
   `find_tenants`: the tenant asked for; those with new rows; or all.
2. `validate`: Great Expectations checkpoints, a report, and the gates. *Drift report* on the task
   opens the page that explains it.
3. `send_webhook`, `send_email`: one message for each gate that opened or closed, where the
   connections `understudy_webhook` and `understudy_email` are set.
4. `drifted`: one question for each kind of asset that drifted, under *Required Actions*: accept the
   new data as the reference, say that it was repaired, or keep the alarm.
5. `gate_closed`: tells campaigns that waited.

While a gate is open, `campaign_render` warns, sends every render to review, or refuses to start, as
the variable `understudy_drift_policy` says. Runs when a campaign was rendered, and daily.
"""


@dag(
    dag_id="drift_validation",
    dag_display_name="Drift validation",
    description="Are today's assets like those of the reference? Gates rendering, explains itself.",
    doc_md=DOC,
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable(
            os.environ.get("UNDERSTUDY_DRIFT_SCHEDULE") or "30 5 * * *", timezone="UTC"
        ),
        assets=[drift.FEATURE_ROWS],
    ),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=8,
    tags=["understudy", "drift"],
    default_args=DEFAULT_ARGS,
    params={
        "tenant": Param(
            None,
            type=["null", "string"],
            pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
            title="Tenant",
            description_md="Empty: those with new rows, or all.",
            section="Rows",
        ),
        "since": Param(
            None,
            type=["null", "string"],
            title="Rows since",
            description_md="A date, a time or a span: `2026-03-01`, `24h`, `7d`. Empty: the rows "
            "that were not judged yet.",
            section="Rows",
        ),
        "media": Param(
            None,
            type=["null", "string"],
            title="Measure these media first",
            description_md="A brief: path under a configured root, or `s3://`. Its inputs are "
            "measured and judged, nothing is rendered. Empty: briefs that wait behind a gate.",
            section="Rows",
        ),
        "ask": Param(
            "new",
            type="string",
            enum=["new", "always", "never"],
            values_display={
                "new": "about what this run finds",
                "always": "about everything that is open",
                "never": "nothing",
            },
            title="Ask a person",
            section="Review",
        ),
        "review_hours": Param(
            None,
            type=["null", "number"],
            exclusiveMinimum=0,
            title="Time limit for an answer, in hours",
            description_md="Without an answer in time the alarm stays. Empty: the variable "
            "`understudy_review_hours`, else 72.",
            section="Review",
        ),
    },
)
def drift_validation() -> None:
    """Wire the graph."""
    tenants = find_tenants(measure_incoming())
    validated = ValidateOperator.partial(
        task_id="validate",
        pool="cpu",
        outlets=[VERDICTS],
        map_index_template="{{ task.item['label'] }}",
    ).expand(item=tenants)
    events = collect_events()
    asked = questions()
    validated >> [events, asked]
    settled = drifted.expand(item=asked)
    over = gate_closed(events)
    sent = [send_webhook.expand(event=events), send_email.expand(event=events)]
    told = collect_answers()
    settled >> told
    sent_answers = [
        send_webhook.override(task_id="webhook_answers").expand(event=told),
        send_email.override(task_id="email_answers").expand(event=told),
    ]
    over_by_answer = gate_closed.override(task_id="gate_closed_by_answer")(told)
    [*sent, *sent_answers, over, over_by_answer] >> report()


@task(multiple_outputs=False, pool="cpu", execution_timeout=timedelta(hours=2))
def measure_incoming() -> list[str]:
    """Measure what waits for a gate; returns whose it is."""
    context = get_current_context()
    return incoming.measure_incoming(context["params"], context)


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def find_tenants(measured: Any) -> list[dict[str, Any]]:
    """Whose rows are to be judged."""
    context = get_current_context()
    return drift.find_tenants(context["params"], context, list(measured or ()))


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def collect_events() -> list[dict[str, Any]]:
    """Gates that opened or recovered, and hard rules that stored rows break."""
    return [event for ref in _validated() for event in ref["events"]]


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def questions() -> list[dict[str, Any]]:
    """What a person has to decide."""
    context = get_current_context()
    return drift.questions(_validated(), context["params"], context["run_id"])


@task_group(group_id="drifted", tooltip="Once per kind of asset that drifted.")
def drifted(item: Any) -> None:
    """One kind of asset: the question, and what follows from the answer."""
    answer = DriftReviewOperator(task_id="ask", item=item, pool="io", params=NOTE)
    settle(item, answer.output)


@task(multiple_outputs=False, pool="io", map_index_template="{{ task.op_args[0]['label'] }}")
def settle(item: Any, answer: Any) -> dict[str, Any] | None:
    """Freeze the new reference, close the gate, or leave both."""
    return drift.settle(item, answer, get_current_context())


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def collect_answers() -> list[dict[str, Any]]:
    """Gates that a person closed."""
    return _answers()


@task(
    multiple_outputs=False, pool="io", map_index_template="{{ task.op_kwargs['event']['label'] }}"
)
def send_webhook(event: Any) -> str:
    """Post one event, where a webhook is set."""
    return notify.send_webhook(event, get_current_context())


@task(
    multiple_outputs=False, pool="io", map_index_template="{{ task.op_kwargs['event']['label'] }}"
)
def send_email(event: Any) -> str:
    """Mail one event, where a mail server is set."""
    return notify.send_email(event, get_current_context())


@task(multiple_outputs=False, pool="io", outlets=[GATE_CLOSED])
def gate_closed(found: Any) -> list[str]:
    """Tell what waits that a gate closed; skipped when none did."""
    return drift.closed_gates(list(found), get_current_context())


@task(multiple_outputs=False, pool="io", trigger_rule="all_done")
def report() -> dict[str, Any]:
    """What was found, tenant by tenant; fails where anything in this run failed."""
    ti = get_current_context()["ti"]
    states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id])[ti.run_id]
    failed = [task_id for task_id, state in states.items() if state == "failed"]
    return drift.report(ti.xcom_pull(task_ids="find_tenants"), _validated(), failed)


def _validated() -> list[dict[str, Any]]:
    return _pulled("validate")


def _answers() -> list[dict[str, Any]]:
    return _pulled("drifted.settle")


def _pulled(task_id: str) -> list[dict[str, Any]]:
    """What a mapped task returned, by index; Airflow gives the value alone where there is one."""
    found = get_current_context()["ti"].xcom_pull(task_ids=task_id) or []
    return [value for value in ([found] if isinstance(found, dict) else found) if value]


drift_validation()
