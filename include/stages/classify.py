"""``classify``: whether one recipient's video may be released."""

from __future__ import annotations

from include.gate import check_consents
from include.stages.context import Output, StageContext
from include.stages.safety import (
    as_checks,
    as_facts,
    as_reasons,
    judged,
    look_through,
    sample_indices,
    write_evidence,
)
from include.stages.segments import read_segments
from include.stages.timeline import template_fps
from models.safety.finding import Finding, combine, unavailable
from models.safety.flash import check_badness
from models.safety.policy import DEFAULT_POLICY
from models.safety.script import check_script


def run(ctx: StageContext, artifact: str) -> Output:
    """Check the changed frames, the script and the flashes; add the template's findings.

    Consent is checked too, so that nothing is shown to a reviewer without it, but it is no part
    of the result: it is asked again, uncached, at signing and publishing.

    Outputs: ``contact_sheet`` and crops. Facts: ``verdict`` (pass, review, block), ``reasons``,
    ``findings``, ``checks``, ``policy``.

    Raises:
        ConsentError: consent does not hold any more.
    """
    check_consents(ctx)
    fps = float(template_fps(ctx))
    composed = ctx.facts("compose")
    video = ctx.fetch("compose", "video")
    spans = [(s.start, s.stop) for s in read_segments(composed)]
    shots = ctx.facts("ingest_template")["shots"]
    indices = sample_indices(composed["frames"], fps, shots, spans)
    looked = look_through(ctx, video, indices)
    own = [*looked.findings, *check_badness(looked.flashes)]
    own += _script(ctx)
    findings = [*_of_template(ctx), *own]
    policy = ctx.shard.brief.policy
    required = set(policy.required) - {"consent"}
    verdict = judged(combine(findings, required), policy.review)
    reasons = as_reasons(findings, required)
    if verdict == "review" and not reasons:
        reasons = ["policy.review: the brief asks for a person to see every row"]
    return Output(
        write_evidence(ctx.scratch, video, looked, own),
        {
            "verdict": verdict,
            "reasons": reasons,
            "policy": DEFAULT_POLICY.id,
            "checks": as_checks(findings),
            "findings": as_facts(findings),
        },
    )


def _script(ctx: StageContext) -> list[Finding]:
    if ctx.unit.script is None and "audio" in ctx.unit.sources:
        why = "nobody wrote down what the recording says; put the words into the script column"
        return [unavailable("script", why)]
    return check_script(ctx.unit.script or "", ctx.unit.locale)


def _of_template(ctx: StageContext) -> list[Finding]:
    """The template's findings, marked as such."""
    found = []
    for fact in ctx.facts("classify_template")["findings"]:
        box = tuple(fact["box"]) if fact["box"] else None
        detail = f"in the template: {fact['detail']}" if fact["detail"] else "in the template"
        found.append(Finding(**{**fact, "box": box, "detail": detail}))
    return found
