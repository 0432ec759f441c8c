"""``upscale``: the swapped face at delivery resolution, while the mouth is being made."""

from __future__ import annotations

from typing import Any

from include.media.encode import LosslessYuvWriter
from include.media.pixels import rgb_to_yuv420
from include.stages.chunked import Part, merge
from include.stages.clips import (
    SWAPPED,
    as_list,
    changed_window,
    clip_files,
    clip_path,
    recipient_frames,
)
from include.stages.context import Output, StageContext
from include.stages.timeline import Gop, gops_in, spans_of, template_fps, template_size
from include.stages.upscaling import reach_of, upscale_crop, upscaler_for
from models.upscale.base import Upscaler

spans = spans_of


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Upscale what the swap changed, with the margin that makes it exact.

    Outputs: ``big-NNNNN`` per changed GOP (lossless yuv420p at ``scale`` times the size of its
    window), none where the swap changed nothing. Facts: ``clips`` with their windows in template
    pixels (what changed, dilated by the receptive field), ``scale``.
    """
    material = ctx.owner(artifact).materials[artifact]
    upscaler = upscaler_for(material, ctx.threads)
    scale = int(material.params["scale"])
    gops = [gop for gop in gops_in(ctx) if changed_window(ctx, "face_swap", gop)]
    clips: list[dict[str, Any]] = []
    done, total = 0, sum(gop.frames for gop in gops)
    for gop in gops:
        clips.append(_upscale_gop(ctx, gop, upscaler, scale))
        done += gop.frames
        ctx.progress(done, total)
    return Output(clip_files(ctx, "big", gops), {"clips": clips, "scale": scale})


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """All chunks' clips."""
    return merge(parts, ("clips",))


def _upscale_gop(
    ctx: StageContext, gop: Gop, upscaler: Upscaler | None, scale: int
) -> dict[str, Any]:
    changed = changed_window(ctx, "face_swap", gop)
    if changed is None:
        raise ValueError(f"GOP {gop.index}: nothing was changed")
    reach = reach_of(upscaler, changed, template_size(ctx))
    size = (reach.output.w * scale, reach.output.h * scale)
    with LosslessYuvWriter(clip_path(ctx, "big", gop), size, template_fps(ctx)) as writer:
        for crop in recipient_frames(ctx, gop, reach.input, SWAPPED):
            writer.write(rgb_to_yuv420(upscale_crop(upscaler, crop, reach)))
    return {"gop": gop.index, "clip": as_list(reach.output)}
