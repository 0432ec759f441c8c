"""``encode_plate``: what no recipient changes, encoded for delivery once for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.media.gops import GopRange, GopWriter, join_gops
from include.media.preview import PreviewMark
from include.stages.chunked import Part, merge
from include.stages.context import Output, StageContext
from include.stages.timeline import Gop, gops_in, spans_of, template_fps, template_size
from include.stages.upscale_plate import plate_frames
from include.stages.upscaling import upscaler_for
from models.upscale.base import Upscaler

spans = spans_of


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Upscale, mark and encode every GOP without the face.

    Outputs: ``plate-NNNN`` (MP4 of the chunk's unchanged GOPs, one after the other), none when
    all of it can change. Facts: ``gops``: where in which output each GOP is.
    """
    material = ctx.owner(artifact).materials[artifact]
    upscaler = upscaler_for(material, ctx.threads)
    gops = gops_in(ctx, changed=False)
    if not gops:
        return Output({}, {"gops": []})
    name = f"plate-{ctx.span.index:04}"
    facts: list[dict[str, Any]] = []
    done, total = 0, sum(gop.frames for gop in gops)
    paths: list[Path] = []
    for gop in gops:
        paths.append(_encode(ctx, gop, upscaler, material.params))
        facts.append({"gop": gop.index, "output": name, "first": done, "frames": gop.frames})
        done += gop.frames
        ctx.progress(done, total)
    whole = join_gops(paths, template_fps(ctx), ctx.scratch / f"{name}.mp4")
    return Output({name: (whole, "video/mp4")}, {"gops": facts})


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """All chunks' GOPs."""
    return merge(parts, ("gops",))


def _encode(ctx: StageContext, gop: Gop, upscaler: Upscaler | None, params: dict[str, Any]) -> Path:
    width, height = template_size(ctx)
    size = (width * int(params["scale"]), height * int(params["scale"]))
    mark = PreviewMark(size) if params["tier"] == "preview" else None
    path = ctx.scratch / f"gop-{gop.index:05}.mp4"
    with GopWriter(path, size, template_fps(ctx), crf=int(params["crf"])) as writer:
        for planes in plate_frames(ctx, gop, upscaler):
            if mark is not None:
                mark.draw(planes)
            writer.write(planes)
    return path


def encoded_gop(ctx: StageContext, gop: Gop) -> GopRange:
    """A GOP of the plate as it was encoded for delivery."""
    fact = next(f for f in ctx.facts("encode_plate")["gops"] if f["gop"] == gop.index)
    path = ctx.fetch("encode_plate", fact["output"])
    return GopRange(path, int(fact["first"]), int(fact["frames"]))
