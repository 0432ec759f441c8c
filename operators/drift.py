"""What the tasks of ``drift_validation`` do: validate, tell, ask, settle.

Plain functions and the operators that need a class; ``dags/drift_validation.py`` wires them. Great
Expectations is imported inside tasks only.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Asset, BaseOperator, BaseOperatorLink

from include.errors import BadInput
from operators.config import task_settings
from operators.review import review_hours

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.contracts.plan import CampaignPlan
    from include.drift.records import GateState, KindVerdict
    from include.settings import Settings

log = logging.getLogger(__name__)

FEATURE_ROWS = Asset(name="understudy_feature_rows", uri="understudy://features")
"""Rows of features were added: a campaign was rendered."""
VERDICTS = Asset(name="understudy_drift_verdicts", uri="understudy://drift/verdicts")
"""A tenant's rows were judged."""
GATE_CLOSED = Asset(name="understudy_gate_closed", uri="understudy://drift/gates")
"""A gate is over: campaigns that waited for it may begin."""

POLICY_VARIABLE = "understudy_drift_policy"
"""``warn``, ``review`` or ``stop``, and ``tenant=policy`` for single tenants, by commas."""

# As include.drift.settle has them, which needs pandas; a test compares.
ACCEPT = "Accept as the new reference"
RESUME = "The data was repaired"
KEEP = "Keep the alarm"


def with_drift_policy(settings: Settings) -> Settings:
    """Settings whose drift policy is the environment's, else the Airflow variable's."""
    import os
    from dataclasses import replace

    from airflow.sdk import Variable

    if os.environ.get("UNDERSTUDY_DRIFT_POLICY"):
        return settings
    policy = str(Variable.get(POLICY_VARIABLE, default="") or "")
    return replace(settings, drift_policy=policy) if policy else settings


def collect_rows(plan: CampaignPlan, run_id: str, settings: Settings) -> int:
    """Write a campaign's feature rows; returns how many its assets have."""
    if settings.noop:
        return 0
    from include.drift.collect import collect_rows as collect

    return collect(plan, run_id, settings)


def find_tenants(
    params: Mapping[str, Any], context: Context, measured: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Whose rows are to be judged: the one asked for, those with new rows, or all.

    Args:
        params: the run's.
        context: the task's.
        measured: tenants of whom this run has just measured something.

    Returns:
        ``{"store", "tenant", "label"}`` for each, for mapping.
    """
    from include.drift.rows import tenants
    from include.store import open_store

    settings = task_settings()
    wanted = params.get("tenant")
    if wanted:
        found = {str(wanted)}
    elif params.get("media"):
        found = set(measured)
        if not found:
            return []  # it could not be measured, and nobody else was asked for
    else:
        found = {
            str(event.extra["tenant"])
            for events in (context.get("triggering_asset_events") or {}).values()
            for event in events
            if (event.extra or {}).get("tenant")
        }
        found |= set(measured) if found else set()  # nobody in particular: everybody
    names = sorted(found) or tenants(open_store(settings.store))
    return [{"store": settings.store, "tenant": name, "label": name} for name in names]


class DriftReportLink(BaseOperatorLink):
    """Leads from a validation task to the page that explains it."""

    name = "Drift report"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The page's address; empty before the task has run."""
        from airflow.sdk.execution_time.xcom import XCom

        found = XCom.get_value(ti_key=ti_key, key="return_value")
        return str(found["link"]) if found else ""


class DataDocsLink(BaseOperatorLink):
    """Leads from a validation task to Great Expectations' own report."""

    name = "Data Docs"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The page's address; empty before the task has run, and where there were no rows."""
        from airflow.sdk.execution_time.xcom import XCom

        found = XCom.get_value(ti_key=ti_key, key="return_value")
        return str(found.get("docs") or "") if found else ""


class ValidateOperator(BaseOperator):
    """Validates one tenant's feature rows through Great Expectations.

    Args:
        item: from ``find_tenants`` (templated).
        since: ISO date or time, or a span such as ``7d``; templated. Empty: rows not judged yet.

    Returns (XCom): ``store``, ``tenant``, ``label``, ``verdict`` and ``report`` (object keys),
        ``link``, ``docs``, ``said``, ``outcomes`` by kind of asset, and ``events`` to be told.
    """

    template_fields = ("item", "since")
    operator_extra_links = (DriftReportLink(), DataDocsLink())
    ui_color = "#e8edf5"

    def __init__(
        self, *, item: Mapping[str, Any], since: str = "{{ params.since }}", **kwargs: Any
    ) -> None:
        super().__init__(**{"map_index_template": "{{ task.item['label'] }}", **kwargs})
        self.item = item
        self.since = since

    def execute(self, context: Context) -> dict[str, Any]:
        """See the class."""
        from include.drift.since import parse_since
        from include.drift.validate import validate_tenant
        from include.store import open_store

        store = open_store(self.item["store"])
        tenant = self.item["tenant"]
        since = None if self.since in ("", "None") else parse_since(self.since)
        done = validate_tenant(store, tenant, context["run_id"], since=since)
        link = report_link(done.verdict.report)
        said = "; ".join(kind.said for kind in done.verdict.kinds)
        context["outlet_events"][VERDICTS].extra = {"tenant": tenant, "verdict": done.key}
        return {
            **{name: self.item[name] for name in ("store", "tenant", "label")},
            "verdict": done.key,
            "report": done.verdict.report,
            "link": link,
            "docs": docs_link(done.verdict.docs) if done.verdict.docs else "",
            "said": said,
            "outcomes": {kind.kind: kind.outcome for kind in done.verdict.kinds},
            "events": [
                *(gate_event(self.item["store"], state, link) for state in done.changed),
                *(
                    broken_event(self.item["store"], tenant, kind, link)
                    for kind in done.verdict.kinds
                    if kind.breaches
                ),
            ],
        }


def report_link(report: str) -> str:
    """Where the plugin serves a drift report."""
    from urllib.parse import quote

    return f"{_base_url()}/understudy/drift?key={quote(report)}"


def docs_link(first: str) -> str:
    """Where the plugin serves Data Docs, by the object key of their first page."""
    from urllib.parse import quote

    return f"{_base_url()}/understudy/docs/{quote(first)}"


def _base_url() -> str:
    from airflow.sdk.configuration import conf

    return (conf.get("api", "base_url", fallback="") or "").rstrip("/")


def gate_event(store: str, state: GateState, link: str) -> dict[str, Any]:
    """What is told when a gate opens or closes."""
    subject = {
        "drift": f"Drift in {state.kind} assets of {state.tenant}",
        "recovered": f"{state.kind.capitalize()} assets of {state.tenant} are as expected again",
        "accepted": f"A new reference for {state.kind} assets of {state.tenant}",
        "resumed": f"Campaigns of {state.tenant} go on: {state.kind} assets were repaired",
    }[state.reason]
    return {
        "id": f"{state.kind}-gate-{state.number:06d}",
        "store": store,
        "tenant": state.tenant,
        "subject": subject,
        "text": f"{state.said} (by {state.by})",
        "link": link,
        "label": subject,
        "closed": state.state == "closed",
    }


def broken_event(store: str, tenant: str, verdict: KindVerdict, link: str) -> dict[str, Any]:
    """What is told when stored rows break hard rules: once for the same rows and rules."""
    from include.contracts.base import digest_json

    subject = f"Hard rules are broken by {verdict.kind} assets of {tenant}"
    broken = [[one.rule, one.rows, sorted(one.worst)] for one in verdict.breaches]
    return {
        "id": f"{verdict.kind}-broken-{digest_json(broken)[:16]}",
        "store": store,
        "tenant": tenant,
        "subject": subject,
        "text": "; ".join(f"{one.rule}: {one.rows} rows" for one in verdict.breaches),
        "link": link,
        "label": subject,
        "closed": False,
    }


def questions(
    found: Iterable[Mapping[str, Any]], params: Mapping[str, Any], run_id: str
) -> list[dict[str, Any]]:
    """What a person is asked: about gates that this run opened, and about first references.

    With ``ask: always`` about every open gate and every kind without a reference; a first
    reference is otherwise asked about once a day. ``never`` asks nothing.

    Args:
        found: what ``validate`` returned.
        params: the run's.
        run_id: another try of the same run asks the same.

    Returns:
        Per question ``store``, ``tenant``, ``kind``, ``verdict``, ``link`` and ``label``.
    """
    from include.drift.verdicts import to_settle
    from include.features.catalogue import FEATURES
    from include.store import open_store

    if params.get("ask") == "never":
        return []
    asked = []
    for ref in found:
        store, tenant = open_store(ref["store"]), ref["tenant"]
        opened = {event["id"] for event in ref["events"]}
        for kind in FEATURES:
            waiting = to_settle(store, tenant, kind)
            if waiting is None:
                continue
            key, verdict = waiting
            ask = _Ask(opened, params.get("ask") == "always", run_id)
            if _due(store, tenant, verdict, ask):
                link = report_link(key.replace("/verdict/", "/report/").replace(".json", ".html"))
                asked.append(
                    {"store": ref["store"], "tenant": tenant, "verdict": key, "link": link}
                    | {"kind": kind, "label": f"{tenant}: {kind}"}
                )
    return asked


class _Ask(NamedTuple):
    """What this run may ask about."""

    opened: set[str]
    """Ids of the events of gates that it moved."""
    always: bool
    run_id: str


def _due(store: Any, tenant: str, verdict: KindVerdict, ask: _Ask) -> bool:
    """Whether a person is asked now about rows that could become a reference."""
    from datetime import UTC, datetime

    from include.drift.gates import current
    from include.drift.reference import newest

    window = newest(store, tenant, verdict.kind)
    if (window.version if window else None) != verdict.version:
        return False  # somebody accepted another reference since
    if verdict.outcome == "no_reference":
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        marker, mine = f"{tenant}/drift/asked/{verdict.kind}/{day}", ask.run_id.encode()
        return store.put_if_absent(marker, mine) or store.get(marker) == mine or ask.always
    gate = current(store, tenant, verdict.kind)
    if gate is None or gate.state != "open":
        return False
    return ask.always or f"{verdict.kind}-gate-{gate.number:06d}" in ask.opened


class DriftReviewOperator(HITLOperator):
    """Asks what to do about drift; without an answer in time the alarm stays.

    Args:
        item: from ``questions`` (templated).
        hours: time limit; see ``operators.review.review_hours``.
    """

    template_fields = ("item", "hours")

    def __init__(
        self, *, item: Mapping[str, Any], hours: str = "{{ params.review_hours }}", **kwargs: Any
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.item['label'] }}")
        super().__init__(subject="", options=[ACCEPT, RESUME, KEEP], defaults=KEEP, **kwargs)
        self.item = item
        self.hours = hours

    def execute(self, context: Context) -> Any:
        """Put the question; the task then waits without a process of its own."""
        verdict = load_verdict(self.item)
        self.subject, self.body = question_text(self.item, verdict)
        self.response_timeout = timedelta(hours=review_hours(self.hours))
        return super().execute(context)


def load_verdict(item: Mapping[str, Any]) -> KindVerdict:
    """The verdict that a question is about."""
    from include.drift.records import DriftVerdict
    from include.store import open_store

    found = DriftVerdict.model_validate_json(open_store(item["store"]).get(item["verdict"]))
    return next(kind for kind in found.kinds if kind.kind == item["kind"])


def question_text(item: Mapping[str, Any], verdict: KindVerdict) -> tuple[str, str]:
    """Subject and Markdown body of a question."""
    tenant = item["tenant"]
    if verdict.outcome == "no_reference":
        subject = f"Take {verdict.rows} {verdict.kind} assets of {tenant} as the first reference?"
        lines = [verdict.said]
    else:
        subject = f"{verdict.kind.capitalize()} assets of {tenant} have drifted. What now?"
        lines = [f"- `{finding.said}`" for finding in verdict.drifted]
    lines += [
        "",
        f"[Report with histograms and the worst assets]({item['link']})",
        "",
        f"*{ACCEPT}* freezes exactly the {verdict.rows} rows that were judged; *{RESUME}* closes "
        f"the gate and keeps the old reference; *{KEEP}* changes nothing.",
    ]
    return subject, "\n".join(lines)


def settle(
    item: Mapping[str, Any], answer: Mapping[str, Any], context: Context
) -> dict[str, Any] | None:
    """Act on an answer.

    Returns:
        The event to be told; None when nothing changed, or nobody answered in time.
    """
    from include.drift.settle import settle_answer
    from include.store import open_store

    user = answer.get("responded_by_user")
    if not user:
        log.warning("%s: nobody answered in time; the alarm stays", item["label"])
        return None
    note = str((answer.get("params_input") or {}).get("note") or "")
    (chosen,) = answer["chosen_options"]
    state = settle_answer(
        open_store(item["store"]),
        item["tenant"],
        load_verdict(item),
        chosen,
        by=str(user.get("name") or user.get("id")),
        note=note,
        run_id=context["run_id"],
    )
    return gate_event(item["store"], state, item["link"]) if state else None


def closed_gates(events: Iterable[Mapping[str, Any]], context: Context) -> list[str]:
    """Tenants for whom a gate closed in this run; nobody: nothing waits, so skip.

    Args:
        events: of ``validate`` and ``settle``.
        context: the task's.

    Raises:
        AirflowSkipException: no gate closed, so that no asset event goes out.
    """
    from airflow.sdk.exceptions import AirflowSkipException

    tenants = sorted({event["tenant"] for event in events if event["closed"]})
    if not tenants:
        raise AirflowSkipException("no gate closed in this run")
    context["outlet_events"][GATE_CLOSED].extra = {"tenants": tenants}
    return tenants


def report(
    tenants: Sequence[Mapping[str, Any]] | None,
    found: Iterable[Mapping[str, Any]],
    failed: Iterable[str] = (),
) -> dict[str, Any]:
    """What the run found, in one value; fails when anything could not be done.

    Args:
        tenants: as ``find_tenants`` returned them; None where it returned nothing.
        found: of ``validate``.
        failed: tasks of the run that failed.

    Raises:
        BadInput: ``drift.incomplete``: somebody was not validated, or somebody was not told.
    """
    refs = list(found)
    for ref in refs:
        log.info("%s: %s", ref["tenant"], ref["said"])
        log.info("Report: %s", ref["link"])
    missing = sorted({str(item["tenant"]) for item in tenants or ()} - {r["tenant"] for r in refs})
    tasks = ", ".join(sorted(failed))
    if tenants is None or missing or tasks:
        who = (
            "whose rows to validate is not known"
            if tenants is None
            else (
                f"{len(missing)} of {len(tenants)} tenants could not be validated"
                + (f" ({', '.join(missing)})" if missing else "")
            )
        )
        raise BadInput(f"{who}; see {tasks or 'the task validate'}", code="drift.incomplete")
    return {
        ref["tenant"]: {"outcomes": ref["outcomes"], "report": ref["report"], "link": ref["link"]}
        for ref in refs
    }
