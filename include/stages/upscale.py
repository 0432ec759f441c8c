"""``upscale``: the swapped face at delivery resolution, while the mouth is being made."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from include.stages.clips import clip_files, clip_writer, segment_frames, template_fps
from include.stages.context import Output, StageContext
from include.stages.segments import Segment, read_segments
from include.stages.upscaling import upscale_window, upscaler_for


def run(ctx: StageContext, artifact: str) -> Output:
    """Upscale the ROI of every face frame, with the margin that makes it exact.

    Outputs: ``big-NNN`` per segment (lossless RGB). Facts: ``segments`` with the output window
    in template pixels (the ROI dilated by the receptive field), ``scale``.
    """
    material = ctx.owner(artifact).materials[artifact]
    upscaler = upscaler_for(material, ctx.threads)
    scale = int(material.params["scale"])
    fps = template_fps(ctx)
    segments = read_segments(ctx.facts("face_swap"))
    total = sum(segment.frames for segment in segments)
    done = 0
    written: list[Segment] = []
    for segment in segments:
        with ExitStack() as stack:
            writer = None
            for _, frame in segment_frames(ctx, segment, (("face_swap", "roi"),)):
                big, reach = upscale_window(upscaler, frame, segment.window)
                if writer is None:
                    written.append(replace(segment, window=reach))
                    writer = stack.enter_context(
                        clip_writer(ctx, "big", segment, reach.scaled(scale), fps)
                    )
                writer.write(big)
                done += 1
                ctx.progress(done, total)
    return Output(
        clip_files(ctx, "big", written),
        {"segments": [segment.as_fact() for segment in written], "scale": scale},
    )
