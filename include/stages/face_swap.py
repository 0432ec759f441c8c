"""``face_swap``: the recipient's face onto the presenter, as a clip of the ROI."""

from __future__ import annotations

import cv2
import numpy as np

from include.media.decode import VideoReader
from include.stages.clips import (
    Image,
    clip_files,
    clip_writer,
    segment_frames,
    template_fps,
)
from include.stages.context import Output, StageContext
from include.stages.segments import Points, Segment, load_points, read_segments
from models.face_swap import load_swapper
from models.face_swap.reference import ColourReference, sample_frames


def run(ctx: StageContext, artifact: str) -> Output:
    """Swap the face in every frame that shows it.

    Outputs: ``roi-NNN`` per segment (lossless RGB, the segment's window; pixels that the swap
    leaves alone are the template's, bit for bit). Facts: ``segments``.
    """
    backend = ctx.unit.materials[artifact].backend
    photo = _rgb(ctx.fetch("ingest_recipients/face", "photo"))
    with np.load(ctx.fetch("ingest_recipients/face", "points"), allow_pickle=False) as stored:
        swapper = load_swapper(backend.name if backend else "mesh", photo, stored["points"])
    points = load_points(ctx.fetch("track_face", "track"))
    segments = read_segments(ctx.facts("track_face"))
    fps = template_fps(ctx)
    total = sum(segment.frames for segment in segments)
    done = 0
    for segment in segments:
        reference = colour_reference(ctx, segment, points)
        window = segment.window
        with clip_writer(ctx, "roi", segment, window, fps) as writer:
            for index, frame in segment_frames(ctx, segment):
                part = np.ascontiguousarray(frame[window.slice()])
                swapped, _ = swapper.swap(part, window.to_local(points[index]), reference)
                writer.write(swapped)
                done += 1
                ctx.progress(done, total)
    return Output(
        clip_files(ctx, "roi", segments),
        {"segments": [segment.as_fact() for segment in segments]},
    )


def _rgb(path: object) -> Image:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    rgb: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return rgb


_REFERENCES: dict[tuple[str, int], ColourReference] = {}
"""What depends on the template alone, measured once per process and kept for the shard."""


def colour_reference(ctx: StageContext, segment: Segment, points: Points) -> ColourReference:
    """The presenter's own colours and light in a segment, measured on a few of its frames."""
    key = (ctx.owner("track_face").key("track_face"), segment.index)
    if key not in _REFERENCES:
        span = range(segment.start, segment.stop)
        picks = [segment.start + i for i in sample_frames([points[i] for i in span])]
        window = segment.window
        samples = []
        with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
            for pick in picks:
                frame = next(reader.frames(pick, pick + 1))
                part = np.ascontiguousarray(frame[window.slice()])
                samples.append((part, window.to_local(points[pick])))
        _REFERENCES[key] = ColourReference.measure(samples)
    return _REFERENCES[key]
