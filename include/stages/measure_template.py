"""``measure_template``: the template as it came, in figures; refused where it breaks a rule."""

from __future__ import annotations

from include.features.assets import template_features
from include.media.audio import read_own_wav
from include.stages.bed import read_bed
from include.stages.context import Output, StageContext
from include.stages.measure_common import feature_output
from include.stages.segments import load_points


def run(ctx: StageContext, artifact: str) -> Output:
    """Measure container, picture, sound and the presenter's face; see that the bed can be used.

    The bed is mixed in last, for every row: one that does not decode is better told of here.

    Outputs and facts: see ``feature_output``.

    Raises:
        BadInput: ``rule.<name>``: a hard rule for templates is broken.
        BadMedia: the brief's ``template.bed`` cannot be used.
    """
    read_bed(ctx)
    has_sound = "audio" in ctx.manifest("ingest_template").outputs
    points = load_points(ctx.fetch("track_face", "track"))
    values = template_features(
        ctx.source("video", of_template=True),
        ctx.fetch("ingest_template", "video"),
        read_own_wav(ctx.fetch("ingest_template", "audio")) if has_sound else None,
        points,
    )
    ctx.progress(len(points), len(points))
    name = ctx.shard.template.sources["video"].origin
    return feature_output(ctx, artifact, "ingest_template", values, f"template {name}")
