"""Media that arrive are measured without rendering anything, so that inputs can recover.

A tenant whose policy is to stop renders nothing while a gate is open, so no campaign would bring
the rows by which the gate could close. Here a brief's template, photos and voices go through the
stages up to their measurement and no further; what is made is the cache's, and the campaign finds
it when it is let through. Gates are not asked, because nothing is rendered, signed or published;
consent and every check of a row are. A gate on *renders* is a person's to close.
"""

from __future__ import annotations

import logging

from include.drift.collect import collect_rows
from include.errors import Usage
from include.features.catalogue import AssetKind
from include.local_run import Run, Start, run_stage
from include.planning import plan_campaign
from include.settings import Settings
from include.stages.specs import STAGES

log = logging.getLogger(__name__)

MEASURING = (
    "ingest_template",
    "track_face",
    "measure_template",
    "ingest_recipients",
    "measure_inputs",
)
"""Stages that lead to the figures of what comes in, in the order of the flow."""
INPUTS: tuple[AssetKind, ...] = ("template", "photo", "audio")


def measure_incoming(
    brief: str,
    settings: Settings,
    run_id: str,
    start: Start | None = None,
    *,
    tenant: str | None = None,
) -> tuple[str, int]:
    """Measure a brief's media and store their feature rows; what is known is not measured again.

    Args:
        brief: a path under a configured root, or ``s3://``.
        settings: store, interpreters, price of a core hour.
        run_id: the run that the rows are from.
        start: where stages run; see ``include.local_run``.
        tenant: whose the brief has to be, if that matters.

    Returns:
        The tenant, and how many assets have a row; those that a hard rule refused are among them.

    Raises:
        BadBrief: the brief or its table cannot be used.
        Refused: the presenter's consent does not hold.
        Usage: it is another tenant's.
    """
    plan = plan_campaign(brief, settings, gated=False)
    if tenant not in (None, plan.tenant):
        raise Usage(f"{brief} is a brief of {plan.tenant}, not of {tenant}")
    run = Run(start)
    for name in MEASURING:
        spec = STAGES[name]
        for ref in [plan.template] if spec.scope == "template" else plan.shards:
            run_stage(spec, ref, settings, run, run_id, settings.threads)
    for found in run.results.values():
        for unit in found.units:
            if unit.status == "failed":
                log.warning("%s: %s: %s", plan.tenant, found.stage, unit.message)
    return plan.tenant, collect_rows(plan, run_id, settings, INPUTS)
