"""``upscale``: the swapped face at delivery resolution, while the mouth is being made."""

from __future__ import annotations

from typing import Any

from include.media.lossless import LosslessYuvWriter
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
from include.stages.upscaling import Reach, reach_of, upscale_crops, upscaler_for
from models.face.roi import Window
from models.upscale.base import Upscaler

spans = spans_of


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Upscale what the swap changed, with the margin that makes it exact.

    For a row that speaks, the part below the mouth zone's upper edge is left to ``compose``: it
    has to upscale that again anyway when the mouth is there.

    Outputs: ``big-NNNNN`` per changed GOP (lossless yuv420p at ``scale`` times the size of its
    window), none where nothing is to be upscaled. Facts: ``clips`` with their windows in template
    pixels (what changed, dilated by the receptive field), ``left`` (by GOP, what is left to
    ``compose``), ``scale``.
    """
    material = ctx.owner(artifact).materials[artifact]
    upscaler = upscaler_for(material, ctx.threads)
    scale = int(material.params["scale"])
    clips: list[dict[str, Any]] = []
    left: list[dict[str, Any]] = []
    made: list[Gop] = []
    parts = [(gop, *share(ctx, gop)) for gop in gops_in(ctx)]
    done, total = 0, sum(gop.frames for gop, _, _ in parts)
    for gop, own, rest in parts:
        if rest is not None:
            left.append({"gop": gop.index, "window": as_list(rest)})
        reach = _reach(upscaler, own, rest, template_size(ctx)) if own else None
        if reach is not None:
            clips.append(_upscale_gop(ctx, gop, reach, upscaler, scale))
            made.append(gop)
        done += gop.frames
        ctx.progress(done, total)
    return Output(clip_files(ctx, "big", made), {"clips": clips, "left": left, "scale": scale})


def share(ctx: StageContext, gop: Gop) -> tuple[Window | None, Window | None]:
    """What of a GOP's change is upscaled here, and what is left to ``compose``."""
    changed = changed_window(ctx, "face_swap", gop)
    zone = ctx.facts("analyse_face")["mouth_zones"].get(str(gop.index))
    if changed is None or zone is None or not ctx.unit.lip_sync:
        return changed, None
    x, y, w, h = zone
    left, top, right, bottom = changed.box
    if x > left or x + w < right or y + h < bottom or y >= bottom:
        return changed, None  # the zone does not reach from side to side and down to the chin
    above = Window(left, top, right - left, y - top) if y > top else None
    return above, Window(*zone).intersection(changed)


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """All chunks' clips."""
    return merge(parts, ("clips", "left"))


def _reach(
    upscaler: Upscaler | None, own: Window, rest: Window | None, size: tuple[int, int]
) -> Reach | None:
    """As far as ``own`` reaches, but no rows that ``compose`` pastes over with ``rest`` anyway."""
    reach = reach_of(upscaler, own, size)
    if rest is None or upscaler is None:
        return reach
    x, y, w, _ = as_list(reach.output)
    height = reach_of(upscaler, rest, size).output.y - y
    if height <= 0:
        return None
    output = Window(x, y, w, height)
    return Reach(own, output, output.dilate(upscaler.receptive_field, size))


def _upscale_gop(
    ctx: StageContext, gop: Gop, reach: Reach, upscaler: Upscaler | None, scale: int
) -> dict[str, Any]:
    size = (reach.output.w * scale, reach.output.h * scale)
    with LosslessYuvWriter(clip_path(ctx, "big", gop), size, template_fps(ctx)) as writer:
        crops = recipient_frames(ctx, gop, reach.input, SWAPPED)
        for pixels in upscale_crops(upscaler, crops, reach):
            writer.write(rgb_to_yuv420(pixels))
    return {"gop": gop.index, "clip": as_list(reach.output)}
