"""``analyse_face``: what every recipient's face needs to know of the presenter's, learned once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.media.decode import VideoReader
from include.media.lossless import LosslessRgbWriter
from include.stages.chunked import Part, merge
from include.stages.clips import (
    Image,
    as_list,
    clip_files,
    clip_writer,
    face_clip_window,
    template_frames,
)
from include.stages.context import Output, StageContext
from include.stages.segments import Points, Segment, load_points, read_segments
from include.stages.timeline import Gop, gops_in, gops_of, spans_of, template_fps, template_size
from models.face.occlusion import (
    CONTEXT,
    FaceStatistics,
    HandFinder,
    occlusion_masks,
    sample_numbers,
)
from models.face_swap.reference import ColourReference, sample_frames
from models.lip_sync.curves import MouthCurves
from models.lip_sync.viseme import analyse_mouth, mouth_window

spans = spans_of

Sample = tuple[Image, NDArray[np.float32]]


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Cut out the face, and find what is in front of it.

    Outputs: ``face-NNNNN`` per changed GOP (lossless RGB: the window with a margin, so that who
    swaps the face need not decode the template); ``occlusion-SSS-NNNNNN`` (lossless, grey as RGB,
    of the segment's window, 255 where something covers the face), only for parts of a segment in
    which something does. Facts: ``occluded``: where these parts are.
    """
    points = load_points(ctx.fetch("track_face", "track"))
    gops = gops_in(ctx)
    for gop in gops:
        _cut_out(ctx, gop)
    files: dict[str, tuple[Path, str]] = clip_files(ctx, "face", gops)
    facts: list[dict[str, Any]] = []
    for segment in read_segments(ctx.facts("track_face")):
        start, stop = max(segment.start, ctx.span.start), min(segment.stop, ctx.span.stop)
        if start >= stop:
            continue
        name = f"occlusion-{segment.index:03}-{start:06}"
        path = ctx.scratch / f"{name}.avi"
        if _write_masks(ctx, segment, start, stop, points, path):
            files[name] = (path, "video/x-msvideo")
            facts.append({"segment": segment.index, "start": start, "stop": stop, "output": name})
    return Output(files, {"occluded": facts})


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """Add what looks at whole segments: colours and the mouth to borrow from.

    Outputs: the chunks', and ``colour-SSS`` per segment (npz, see ``ColourReference``).
    Facts: ``occluded``; ``mouth_frames``: the template's frame with a typical open mouth, by
    segment; ``mouth_zones``: where a mouth moves, by GOP.
    """
    points = load_points(ctx.fetch("track_face", "track"))
    made = merge(parts, ("occluded",))
    files = dict(made.files)
    mouths: dict[str, int] = {}
    for segment in read_segments(ctx.facts("track_face")):
        span = points[segment.start : segment.stop]
        reference = ColourReference.measure(
            _samples(ctx, segment, points, sample_frames(list(span)))
        )
        path = ctx.scratch / f"colour-{segment.index:03}.npz"
        np.savez_compressed(path, **reference.arrays())
        files[path.stem] = (path, "application/x-npz")
        mouths[str(segment.index)] = segment.start + analyse_mouth(span).reference_index
    zones = mouth_zones(ctx, points)
    return Output(files, {**made.facts, "mouth_frames": mouths, "mouth_zones": zones})


def _cut_out(ctx: StageContext, gop: Gop) -> None:
    window = face_clip_window(ctx, gop)
    with clip_writer(ctx, "face", gop, window) as writer:
        for frame in template_frames(ctx, gop.start, gop.stop):
            writer.write(np.ascontiguousarray(frame[window.slice()]))


def mouth_zones(ctx: StageContext, points: Points) -> dict[str, list[int]]:
    """Where a mouth moves, whatever is said: x, y, width, height by GOP.

    ``upscale`` leaves it to ``compose``, which has to upscale the mouth when it is there.
    """
    zones: dict[str, list[int]] = {}
    size, fps = template_size(ctx), template_fps(ctx)
    for gop in gops_of(ctx):
        if gop.segment is None:
            continue
        model = analyse_mouth(points[gop.start : gop.stop])
        found = None
        for opening, width in ((0.0, 0.0), (1.0, 1.0), (1.0, -1.0)):
            full = np.full(gop.frames, opening, np.float32), np.full(gop.frames, width, np.float32)
            window = mouth_window(model, MouthCurves(*full, fps), size)
            found = window if found is None or window is None else found.union(window)
        zone = found.intersection(gop.window) if found else None
        if zone is not None:
            zones[str(gop.index)] = as_list(zone)
    return zones


def _samples(
    ctx: StageContext, segment: Segment, points: Points, numbers: list[int]
) -> list[Sample]:
    """Some frames of a segment: pixels of its window and the landmarks in it."""
    window = segment.window
    samples: list[Sample] = []
    with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        for index in (segment.start + number for number in numbers):
            frame = next(reader.frames(index, index + 1))
            part = np.ascontiguousarray(frame[window.slice()])
            samples.append((part, window.to_local(points[index])))
    return samples


class _Kept(AbstractContextManager["_Kept"]):
    """What the parts of a segment share: the face as it was learned, and the network for hands."""

    def __init__(self) -> None:
        self.hands = HandFinder()
        self._last: tuple[int, FaceStatistics] | None = None

    def __exit__(self, *_: object) -> None:
        self.hands.__exit__()

    def statistics(self, ctx: StageContext, segment: Segment, points: Points) -> FaceStatistics:
        """The segment's face, learned when its first part asks; parts come in order."""
        if self._last is None or self._last[0] != segment.index:
            numbers = sample_numbers(list(points[segment.start : segment.stop]))
            samples = _samples(ctx, segment, points, numbers)
            self._last = segment.index, FaceStatistics.learn(samples, self.hands)
        return self._last[1]


def _write_masks(
    ctx: StageContext, segment: Segment, start: int, stop: int, points: Points, path: Path
) -> bool:
    """Write the masks of frames ``start`` to ``stop``; False, and no file, when all are empty."""
    kept = _Kept() if ctx.common is None else ctx.common.keep("occlusion", _Kept)
    statistics = kept.statistics(ctx, segment, points)
    first, last = max(segment.start, start - CONTEXT), min(segment.stop, stop + CONTEXT)
    masks = occlusion_masks(_crops(ctx, segment, points, first, last), statistics, kept.hands)
    covered = False
    size = (segment.window.w, segment.window.h)
    with LosslessRgbWriter(path, size, template_fps(ctx)) as writer:
        for index, mask in enumerate(islice(masks, start - first, stop - first)):
            covered |= bool(mask.any())
            writer.write(np.repeat(mask[..., None], 3, axis=2))
            ctx.progress(start + index + 1 - ctx.span.start, ctx.span.stop - ctx.span.start)
    if not covered:
        path.unlink()
    return covered


def _crops(
    ctx: StageContext, segment: Segment, points: Points, first: int, last: int
) -> Iterator[Sample]:
    window = segment.window
    for index, frame in enumerate(template_frames(ctx, first, last), first):
        yield np.ascontiguousarray(frame[window.slice()]), window.to_local(points[index])
