"""Scheduled runs: which brief is next, so that each is rendered once."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from operators.drift import GATE_CLOSED

if TYPE_CHECKING:
    from include.settings import Settings

log = logging.getLogger(__name__)


def campaign_schedule(cron: str | None) -> Any:
    """When campaigns are rendered: by cron, and when drift that held them back is settled.

    Args:
        cron: cron expression, UTC; None or empty for runs by hand only.
    """
    from airflow.sdk import AssetOrTimeSchedule, CronTriggerTimetable

    if not cron:
        return None
    times = CronTriggerTimetable(cron, timezone="UTC")
    return AssetOrTimeSchedule(timetable=times, assets=[GATE_CLOSED])


BRIEFS_VARIABLE = "understudy_briefs"
"""A folder under a configured root, or ``s3://bucket/prefix``, whose ``*.yaml`` are briefs."""


def next_brief(settings: Settings, run_id: str) -> str | None:
    """Take the first brief, by name, that no scheduled run has taken as it is written now.

    A changed brief or table counts as new. A brief that cannot be read is left to a run by hand:
    it would otherwise block all others.

    Args:
        settings: the environment's settings.
        run_id: a retry of the same run gets the same brief again.
    """
    from airflow.sdk import Variable

    place = str(Variable.get(BRIEFS_VARIABLE, default="") or "")
    if not place:
        return None
    for brief in list_briefs(place):
        if _take(brief, settings, run_id):
            return brief
    return None


def list_briefs(place: str) -> list[str]:
    """The briefs under a folder or an ``s3://`` prefix, sorted."""
    if place.startswith("s3://"):
        from include.store import open_store

        store = open_store(place)
        keys = (info.key for info in store.list())
        return [f"{place.rstrip('/')}/{key}" for key in keys if key.endswith((".yaml", ".yml"))]
    folder = Path(place)
    return sorted(str(path) for path in folder.rglob("*.y*ml") if path.suffix in (".yaml", ".yml"))


def _take(brief: str, settings: Settings, run_id: str) -> bool:
    from include.drift.gates import gates_of
    from include.errors import BadInput
    from include.inputs import open_inputs
    from include.planning import parse_brief
    from include.store import open_store

    try:
        inputs = open_inputs(brief, settings)
        parsed, digest = parse_brief(inputs)
        table = hashlib.sha256(inputs.read(parsed.recipients)).hexdigest()
    except BadInput as error:
        log.warning("%s is passed over: %s", brief, error.message)
        return False
    store = open_store(settings.store)
    gates = gates_of(store, parsed.tenant, settings.drift_policy)
    if gates.open and gates.policy == "stop":
        log.warning("%s waits until drift is settled: %s", brief, gates.said)
        return False
    marker = f"{parsed.tenant}/scheduled/{digest}-{table}"
    return store.put_if_absent(marker, run_id.encode()) or store.get(marker) == run_id.encode()
