"""``face_swap``: the recipient's face onto the presenter, as clips of the ROI."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from include.devices.current import device_for, failures_of_the_device
from include.media.images import save_png
from include.stages.analysis import colour_reference, mouth_frame, occlusions
from include.stages.chunked import Part, merge
from include.stages.clips import (
    Changed,
    Image,
    clip_fact,
    clip_files,
    clip_writer,
    face_clip_window,
    face_frames,
)
from include.stages.context import Output, StageContext
from include.stages.segments import Points, Segment, load_points
from include.stages.timeline import Gop, gops_in, gops_of, spans_of, template_size
from models.face.occlusion import keep_occluders
from models.face.roi import Window
from models.face_swap import load_swapper, runs_on_a_gpu
from models.face_swap.mesh import MeshSwapper

spans = spans_of


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Swap the face in every frame that shows it.

    Outputs: ``roi-NNNNN`` per changed GOP (lossless RGB: the segment's window and CLIP_MARGIN
    around it; pixels that the swap leaves alone are the template's, bit for bit), ``open-NNN``
    per segment (PNG of its window: the frame whose mouth ``lip_sync`` borrows).
    Facts: ``clips``, each with its window and the window of what changed.
    """
    swapper = _swapper(ctx, artifact)
    points = load_points(ctx.fetch("track_face", "track"))
    gops = gops_in(ctx)
    files: dict[str, tuple[Path, str]] = clip_files(ctx, "roi", gops)
    clips = []
    done, total = 0, sum(gop.frames for gop in gops)
    for gop in gops:
        clips.append(_swap_gop(ctx, gop, swapper, points))
        done += gop.frames
        ctx.progress(done, total)
    for segment in {gop.segment.index: gop.segment for gop in gops if gop.segment}.values():
        name = f"open-{segment.index:03}"
        files[name] = (_open_mouth(ctx, segment, swapper, points, name), "image/png")
    return Output(files, {"clips": clips})


def _swapper(ctx: StageContext, artifact: str) -> MeshSwapper:
    backend = ctx.unit.materials[artifact].backend
    name = backend.name if backend else "mesh"
    device = device_for(ctx.spec.name, ctx.spec.gpu_memory_mib if runs_on_a_gpu(name) else 0)
    photo = _rgb(ctx.fetch("ingest_recipients/face", "photo"))
    with (
        np.load(ctx.fetch("ingest_recipients/face", "points"), allow_pickle=False) as stored,
        failures_of_the_device(),
    ):
        return load_swapper(
            name,
            photo,
            stored["points"],
            device=device.name,
            memory_mib=device.memory_mib or None,
        )


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """All chunks' clips."""
    return merge(parts, ("clips",))


def _swap_gop(ctx: StageContext, gop: Gop, swapper: MeshSwapper, points: Points) -> dict[str, Any]:
    clip = face_clip_window(ctx, gop)
    inner = gop.window.relative_to(clip).slice()
    changed = Changed()
    with clip_writer(ctx, "roi", gop, clip) as writer:
        for frame, roi, swapped in _swapped(ctx, gop, gop.start, gop.stop, swapper, points):
            changed.add(roi, swapped)
            frame[inner] = swapped
            writer.write(frame)
    return clip_fact(gop, clip, changed.window(gop.window, template_size(ctx)))


def _swapped(
    ctx: StageContext, gop: Gop, start: int, stop: int, swapper: MeshSwapper, points: Points
) -> Iterator[tuple[Image, Image, Image]]:
    """Yield (the template around the ROI, its ROI, the swapped ROI) for some frames of a GOP."""
    if gop.segment is None:
        raise ValueError(f"GOP {gop.index} has no face")
    inner = gop.window.relative_to(face_clip_window(ctx, gop)).slice()
    reference = colour_reference(ctx, gop.segment)
    masks = occlusions(ctx, gop.segment, start, stop)
    pairs = zip(range(start, stop), face_frames(ctx, gop, start, stop), masks, strict=True)
    most = swapper.batch(gop.window.h, gop.window.w)
    while batch := list(islice(pairs, most)):
        rois = [np.ascontiguousarray(frame[inner]) for _, frame, _ in batch]
        marks = [gop.window.to_local(points[index]) for index, _, _ in batch]
        with failures_of_the_device():
            made = swapper.swap_many(rois, marks, reference)
        for (_, frame, mask), roi, (swapped, _) in zip(batch, rois, made, strict=True):
            yield frame, roi, swapped if mask is None else keep_occluders(roi, swapped, mask)


def _open_mouth(
    ctx: StageContext, segment: Segment, swapper: MeshSwapper, points: Points, name: str
) -> Path:
    """One swapped frame of a segment, wherever in it: chunks need not wait for each other."""
    index = mouth_frame(ctx, segment)
    gop = next(gop for gop in gops_of(ctx) if gop.start <= index < gop.stop)
    ((_, _, swapped),) = _swapped(ctx, gop, index, index + 1, swapper, points)
    path = ctx.scratch / f"{name}.png"
    save_png(swapped, path, small=True)
    return path


def open_mouth(ctx: StageContext, segment: Segment) -> tuple[Image, Window]:
    """The swapped frame that a segment's mouth is learned from, and where it lies."""
    return _rgb(ctx.fetch("face_swap", f"open-{segment.index:03}")), segment.window


def _rgb(path: Path) -> Image:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    rgb: Image = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    return rgb
