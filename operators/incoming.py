"""Media that wait behind a closed gate are measured, so that the gate can open again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from operators.config import task_settings
from operators.drift import with_drift_policy
from operators.runtimes.one_by_one import starter

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.settings import Settings

log = logging.getLogger(__name__)

INPUTS = frozenset({"template", "photo", "audio"})


def measure_incoming(params: Mapping[str, Any], context: Context) -> list[str]:
    """Measure the media of the brief that the run names, or of those that drift holds back.

    Returns:
        Tenants of whom something was measured.

    Raises:
        UnderstudyError: the brief that the run names cannot be used. Of several that wait, one that
            cannot be used is passed over; what else went wrong with any of them is raised once
            all were tried.
    """
    from include.drift.incoming import measure_incoming as measure
    from include.errors import BadInput, Refused, UnderstudyError, Usage

    settings = with_drift_policy(task_settings())
    start = starter(settings, context)
    named, owner = params.get("media"), params.get("tenant")
    tenants: set[str] = set()
    problems: list[UnderstudyError] = []
    for brief in [str(named)] if named else waiting_briefs(owner, settings):
        try:
            tenant, rows = measure(brief, settings, context["run_id"], start, tenant=owner)
        except UnderstudyError as error:
            if named:
                raise
            log.warning("%s is passed over: %s", brief, error.message)
            if not isinstance(error, BadInput | Refused | Usage):
                problems.append(error)
            continue
        log.info("%s: %d assets of %s are measured", tenant, rows, brief)
        tenants.add(tenant)
    if problems:
        raise problems[0]
    return sorted(tenants)


def waiting_briefs(tenant: str | None, settings: Settings) -> Iterator[str]:
    """Briefs below the variable ``understudy_briefs`` that drift of inputs keeps from starting."""
    from airflow.sdk import Variable

    from include.drift.gates import gates_of
    from include.errors import BadInput
    from include.inputs import open_inputs
    from include.planning import parse_brief
    from include.store import open_store
    from operators.schedule import BRIEFS_VARIABLE, list_briefs

    place = str(Variable.get(BRIEFS_VARIABLE, default="") or "")
    store = open_store(settings.store)
    for brief in list_briefs(place) if place else ():
        try:
            parsed, _ = parse_brief(open_inputs(brief, settings))
        except BadInput as error:
            log.warning("%s is passed over: %s", brief, error.message)
            continue
        gates = gates_of(store, parsed.tenant, settings.drift_policy)
        held = gates.policy == "stop" and any(gate.kind in INPUTS for gate in gates.open)
        if held and tenant in (None, parsed.tenant):
            yield brief
