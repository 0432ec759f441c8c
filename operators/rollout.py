"""What the tasks of ``model_rollout`` do. Plain functions; heavy imports stay inside."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.errors import Refused
from operators.config import task_settings
from operators.runtimes.one_by_one import starter

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.rollout.steps import Rollout
    from include.store import ObjectStore

log = logging.getLogger(__name__)


def start(params: Mapping[str, Any], context: Context) -> dict[str, str]:
    """Begin a rollout, or go on with the one that this run began.

    Returns:
        ``{"store", "tenant", "rollout"}`` for the tasks after it.
    """
    from include.rollout import machine
    from include.rollout.rules import read_rules
    from include.store import open_store

    settings = task_settings()
    rules = read_rules(settings.rollout_rules, share=params.get("share"))
    rollout = machine.start(
        open_store(settings.store),
        str(params["tenant"]),
        str(params["stage"]),
        str(params["backend"]),
        rules=rules,
        golden=str(params.get("golden") or ""),
        by=_by(context),
        rollout=_id(context),
    )
    log.info("Rollout %s: %s", rollout.id, rollout.steps[0].said)
    return {"store": settings.store, "tenant": rollout.tenant, "rollout": rollout.id}


def _id(context: Context) -> str:
    """The rollout that belongs to a run, whatever its task is tried again."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", str(context["run_id"]))[-64:].lstrip("._-")


def _by(context: Context) -> str:
    return f"model_rollout/{context['run_id']}"


def golden(ref: Mapping[str, str], context: Context) -> str:
    """Render the golden set with both backends and judge it; returns the reason's code."""
    from include.rollout import machine
    from include.rollout.golden import GoldenSet

    store, rollout = _open(ref)
    settings = task_settings(store=ref["store"])
    work = GoldenSet(rollout.begin.golden)
    rollout = machine.measure(
        store,
        rollout,
        settings,
        golden=work,
        by=_by(context),
        start=starter(settings, context),
    )
    measured = rollout.step("measured") or rollout.last
    for one in measured.comparisons:
        log.info("%s %s", one.part, one.said)
    log.info("%s", measured.said)
    return measured.reason


def gate(ref: Mapping[str, str], context: Context) -> None:
    """Roll back what is not as good; what follows is skipped then."""
    from airflow.sdk.exceptions import AirflowSkipException

    from include.rollout import machine

    store, rollout = _open(ref)
    rollout = machine.gate(store, rollout, by=_by(context))
    if rollout.ended:
        raise AirflowSkipException(rollout.last.said)


def canary(ref: Mapping[str, str], context: Context) -> str:
    """Give the new backend its share; returns what was said."""
    from include.rollout import machine

    store, rollout = _open(ref)
    rollout = machine.begin_canary(store, rollout, by=_by(context))
    log.info("%s", rollout.last.said)
    return rollout.last.said


def watch(ref: Mapping[str, str], context: Context) -> tuple[bool, str]:
    """Look at the canary's renders; returns whether it is decided, and the verdict."""
    from include.rollout.watch import watch as look

    store, rollout = _open(ref)
    _, verdict, said = look(store, rollout, by=_by(context))
    log.info("%s: %s", verdict, said)
    return verdict != "unclear", verdict


def decide(ref: Mapping[str, str], context: Context) -> str:
    """Promote or roll back; returns which."""
    from include.rollout import machine

    store, rollout = _open(ref)
    return machine.decide(store, rollout, by=_by(context)).last.state


def report(ref: Mapping[str, str] | None, context: Context) -> dict[str, str]:
    """Say how it ended. A rollout that a failed task left undecided is rolled back first.

    Raises:
        Refused: ``rollout.failed``: it was not decided by its rules.
    """
    from include.rollout import machine

    if ref is None:
        raise Refused("no rollout was started; see the task start", code="rollout.failed")
    store, rollout = _open(ref)
    if not rollout.ended:
        said = "a task of the run failed before a decision; see its log"
        rollout = machine.roll_back(store, rollout, by=_by(context), reason="run.failed", said=said)
    last = rollout.last
    log.info("Rollout %s: %s (%s): %s", rollout.id, last.state, last.reason, last.said)
    if last.reason == "run.failed":
        raise Refused(f"rollout {rollout.id} was rolled back: {last.said}", code="rollout.failed")
    return {"rollout": rollout.id, "state": last.state, "reason": last.reason, "said": last.said}


def _open(ref: Mapping[str, str]) -> tuple[ObjectStore, Rollout]:
    from include.rollout.steps import load
    from include.store import open_store

    store = open_store(ref["store"])
    return store, load(store, ref["tenant"], ref["rollout"])
