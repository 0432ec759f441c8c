"""``upscale_plate``: the template at delivery resolution, once for all recipients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from include.media.decode import VideoReader
from include.media.encode import LosslessYuvWriter
from include.media.pixels import Yuv420, rgb_to_yuv420
from include.stages.context import Output, StageContext
from include.stages.upscaling import upscaler_for
from models.upscale.base import Upscaler


def run(ctx: StageContext, artifact: str) -> Output:
    """Upscale every frame of the template.

    Outputs: ``plate`` (lossless yuv420p at ``scale`` times the template's size).
    Facts: width, height, scale, frames.
    """
    material = ctx.owner(artifact).materials[artifact]
    upscaler = upscaler_for(material, ctx.threads)
    scale = int(material.params["scale"])
    path = ctx.scratch / "plate.mkv"
    with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        facts = reader.facts
        size = (facts.width * scale, facts.height * scale)
        with LosslessYuvWriter(path, size, facts.fps) as writer:
            if upscaler is None:
                for index, planes in enumerate(reader.yuv_frames(), 1):
                    writer.write(planes)
                    ctx.progress(index, facts.frames)
            else:
                for index, planes in enumerate(_upscaled(reader, upscaler), 1):
                    writer.write(planes)
                    ctx.progress(index, facts.frames)
    return Output(
        {"plate": (path, "video/x-matroska")},
        {"width": size[0], "height": size[1], "scale": scale, "frames": facts.frames},
    )


def _upscaled(reader: VideoReader, upscaler: Upscaler) -> Iterator[Yuv420]:
    """The template's frames, upscaled; one that repeats the last (a held card) costs nothing."""
    last, made = None, None
    for frame in reader.frames():
        if made is None or last is None or not np.array_equal(frame, last):
            made = rgb_to_yuv420(upscaler.upscale(frame))
        last = frame
        yield made
