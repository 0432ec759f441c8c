"""``classify_template``: the safety checks that are the same for every recipient."""

from __future__ import annotations

from include.media.decode import Picture
from include.stages.context import Output, StageContext
from include.stages.safety import (
    as_checks,
    as_facts,
    look_through,
    sample_indices,
    write_evidence,
)
from include.stages.timeline import template_fps
from models.safety.flash import FlashCounter, check_badness


def run(ctx: StageContext, artifact: str) -> Output:
    """Look at the template as it is.

    Outputs: ``contact_sheet`` and crops. Facts: ``findings``, ``checks``. The verdict itself is
    reached per row, because the policy belongs to the brief.
    """
    facts = ctx.facts("ingest_template")
    fps = float(template_fps(ctx))
    video = ctx.fetch("ingest_template", "video")
    indices = sample_indices(facts["frames"], fps, facts["shots"], [(0, facts["frames"])])
    counter = FlashCounter()

    def seen(picture: Picture) -> None:
        counter.add(picture.index / fps, picture.rgb())
        ctx.progress(picture.index + 1, facts["frames"])

    looked = look_through(ctx, video, indices, seen)
    findings = [*looked.findings, *check_badness(looked.flashes)]
    findings += counter.findings()
    return Output(
        write_evidence(ctx.scratch, video, looked, findings),
        {"findings": as_facts(findings), "checks": as_checks(findings)},
    )
