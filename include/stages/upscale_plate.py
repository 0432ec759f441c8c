"""``upscale_plate``: the frames that a recipient can change, at delivery size, once for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from include.media.decode import VideoReader
from include.media.lossless import LosslessYuvWriter
from include.media.pixels import Yuv420, rgb_to_yuv420
from include.stages.chunked import Part, merge
from include.stages.clips import clip_name, clip_path
from include.stages.context import Output, StageContext
from include.stages.timeline import Gop, gops_in, spans_of, template_fps, template_size
from include.stages.upscaling import upscale_frames, upscaler_for
from models.upscale.base import Upscaler

spans = spans_of


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Upscale every frame of the changed GOPs; the others are ``encode_plate``'s.

    Outputs: ``plate-NNNNN`` per changed GOP (lossless yuv420p at ``scale`` times the template's
    size). Facts: width, height, scale, ``gops``.
    """
    material = ctx.owner(artifact).materials[artifact]
    upscaler = upscaler_for(material, ctx.threads)
    scale = int(material.params["scale"])
    width, height = template_size(ctx)
    size = (width * scale, height * scale)
    gops = gops_in(ctx)
    files: dict[str, tuple[Path, str]] = {}
    done, total = 0, sum(gop.frames for gop in gops)
    for gop in gops:
        path = clip_path(ctx, "plate", gop)
        with LosslessYuvWriter(path, size, template_fps(ctx)) as writer:
            for planes in plate_frames(ctx, gop, upscaler):
                writer.write(planes)
                done += 1
                ctx.progress(done, total)
        files[clip_name("plate", gop)] = (path, "video/x-msvideo")
    facts = {"width": size[0], "height": size[1], "scale": scale}
    return Output(files, {**facts, "gops": [gop.index for gop in gops]})


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """All chunks' clips."""
    return merge(parts, ("gops",))


def plate_frames(ctx: StageContext, gop: Gop, upscaler: Upscaler | None) -> Iterator[Yuv420]:
    """The template's frames at delivery size, before any mark; each the caller's to change.

    A frame that repeats the last one, as title cards do, costs a copy.
    """
    with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        if upscaler is None:
            yield from reader.yuv_frames(gop.start, gop.stop)
            return
        for pixels, count in upscale_frames(upscaler, reader.frames(gop.start, gop.stop)):
            made = rgb_to_yuv420(pixels)
            for _ in range(count - 1):
                yield made.copy()
            yield made
