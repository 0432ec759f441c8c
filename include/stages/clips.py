"""A recipient's clips: one lossless RGB file per segment and output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from include.media.decode import VideoReader
from include.media.encode import LosslessRgbWriter
from include.stages.context import StageContext
from include.stages.segments import Segment, read_segments
from models.face.roi import Window

Image = NDArray[np.uint8]


def clip_name(kind: str, index: int) -> str:
    """Output name of a segment's clip, such as ``roi-000``."""
    return f"{kind}-{index:03}"


def clip_writer(
    ctx: StageContext, kind: str, segment: Segment, window: Window, fps: Fraction
) -> LosslessRgbWriter:
    """A writer of a segment's clip of that window's size, in the unit's scratch folder."""
    path = ctx.scratch / f"{clip_name(kind, segment.index)}.mkv"
    return LosslessRgbWriter(path, (window.w, window.h), fps)


def clip_files(
    ctx: StageContext, kind: str, segments: list[Segment]
) -> dict[str, tuple[Path, str]]:
    """The clips that were written, as a stage's output files."""
    names = [clip_name(kind, segment.index) for segment in segments]
    return {name: (ctx.scratch / f"{name}.mkv", "video/x-matroska") for name in names}


def template_fps(ctx: StageContext) -> Fraction:
    """The template's constant frame rate."""
    numerator, denominator = ctx.facts("ingest_template")["fps"]
    return Fraction(numerator, denominator)


def segment_frames(
    ctx: StageContext, segment: Segment, layers: tuple[tuple[str, str], ...] = ()
) -> Iterator[tuple[int, Image]]:
    """Whole template frames of a segment, with a recipient's clips pasted over them in order.

    Args:
        ctx: the unit.
        segment: of ``track_face``.
        layers: (artifact, kind) of clips, such as ``("face_swap", "roi")``; a layer without a
            clip for this segment is passed over.

    Yields:
        The frame's index in the template, and uint8 [h, w, 3] RGB that the caller may change.
    """
    with ExitStack() as stack:
        video = ctx.fetch("ingest_template", "video")
        reader = stack.enter_context(VideoReader(video, threads=ctx.threads))
        clips: list[tuple[Window, Iterator[Image]]] = []
        for artifact, kind in layers:
            window = layer_window(ctx, artifact, segment)
            if window is None:
                continue
            path = ctx.fetch(artifact, clip_name(kind, segment.index))
            clip = stack.enter_context(VideoReader(path, threads=ctx.threads))
            clips.append((window, clip.frames()))
        frames = reader.frames(segment.start, segment.stop)
        for index, frame in enumerate(frames, segment.start):
            for window, clip_frames in clips:
                frame[window.slice()] = next(clip_frames)
            yield index, frame


def layer_window(ctx: StageContext, artifact: str, segment: Segment) -> Window | None:
    """The window of an artifact's clip for a segment, or None when it has none."""
    for other in read_segments(ctx.facts(artifact)):
        if other.index == segment.index:
            return other.window
    return None
