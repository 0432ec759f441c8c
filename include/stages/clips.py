"""A recipient's clips: one lossless file per changed GOP and output, and how they are layered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from include.media.decode import VideoReader
from include.media.lossless import LosslessRgbWriter
from include.stages.context import StageContext
from include.stages.timeline import Gop, template_fps, template_size
from models.face.roi import Window

Image = NDArray[np.uint8]

CLIP_MARGIN = 28
"""Pixels around what may change that a clip carries along, so that who doubles its size needs no
other pixels: twice the receptive field of the built-in networks."""

_FILES = {
    "face": (".avi", "video/x-msvideo"),
    "roi": (".avi", "video/x-msvideo"),
    "mouth": (".avi", "video/x-msvideo"),
    "plate": (".avi", "video/x-msvideo"),
    "big": (".avi", "video/x-msvideo"),
}
"""Suffix and media type of each kind of clip."""

Layers = tuple[tuple[str, str], ...]
"""(artifact, kind) of clips that lie over the template, from the lowest up."""

SWAPPED: Layers = (("face_swap", "roi"),)
SPOKEN: Layers = (("face_swap", "roi"), ("lip_sync", "mouth"))


def clip_name(kind: str, gop: Gop) -> str:
    """Output name of a GOP's clip, such as ``roi-00003``."""
    return f"{kind}-{gop.index:05}"


def clip_path(ctx: StageContext, kind: str, gop: Gop) -> Path:
    """Where the current chunk writes a GOP's clip."""
    return ctx.scratch / f"{clip_name(kind, gop)}{_FILES[kind][0]}"


def clip_writer(ctx: StageContext, kind: str, gop: Gop, window: Window) -> LosslessRgbWriter:
    """A writer of a GOP's RGB clip of that window's size."""
    size = (window.w, window.h)
    return LosslessRgbWriter(clip_path(ctx, kind, gop), size, template_fps(ctx))


def clip_files(ctx: StageContext, kind: str, gops: list[Gop]) -> dict[str, tuple[Path, str]]:
    """The clips that were written, as a stage's output files."""
    media_type = _FILES[kind][1]
    return {clip_name(kind, gop): (clip_path(ctx, kind, gop), media_type) for gop in gops}


def clip_fact(gop: Gop, clip: Window, changed: Window | None) -> dict[str, Any]:
    """What a manifest says of a clip: its own window, and what differs inside it."""
    return {"gop": gop.index, "clip": as_list(clip), "changed": changed and as_list(changed)}


def as_list(window: Window) -> list[int]:
    """x, y, width, height."""
    return [window.x, window.y, window.w, window.h]


def clip_facts(ctx: StageContext, artifact: str, gop: Gop) -> Mapping[str, Any] | None:
    """What an artifact says of a GOP's clip; None when it has none there."""
    return next((c for c in ctx.facts(artifact)["clips"] if c["gop"] == gop.index), None)


def changed_window(ctx: StageContext, artifact: str, gop: Gop) -> Window | None:
    """Where an artifact's clip differs from what lies below it, over all of the GOP."""
    fact = clip_facts(ctx, artifact, gop)
    return Window(*fact["changed"]) if fact and fact["changed"] else None


def template_frames(ctx: StageContext, start: int, stop: int) -> Iterator[Image]:
    """The template's frames, uint8 [h, w, 3] RGB, the caller's to change."""
    with VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        yield from reader.frames(start, stop)


def face_clip_window(ctx: StageContext, gop: Gop) -> Window:
    """What the clips of a changed GOP show that come before the recipient's changes are known."""
    return gop.window.dilate(CLIP_MARGIN, template_size(ctx))


def face_frames(ctx: StageContext, gop: Gop, start: int, stop: int) -> Iterator[Image]:
    """Frames of the template in the window of ``face_clip_window``, as ``analyse_face`` kept them.

    Args:
        ctx: the unit.
        gop: a changed one.
        start: first of the GOP's frames, in the template's numbers.
        stop: exclusive.

    Yields:
        uint8 [h, w, 3] RGB, the caller's to change.
    """
    with VideoReader(ctx.fetch("analyse_face", clip_name("face", gop))) as reader:
        yield from reader.frames(start - gop.start, stop - gop.start)


def recipient_frames(
    ctx: StageContext, gop: Gop, window: Window, layers: Layers
) -> Iterator[Image]:
    """A window of a recipient's frames at template size.

    Clips show everything below them as well, so only those are read that the window needs: where
    one clip holds all of it, neither the template nor lower clips are.

    Args:
        ctx: the unit.
        gop: which frames.
        window: which part of them.
        layers: from the lowest up; one without a clip for this GOP is passed over.

    Yields:
        uint8 [h, w, 3] RGB of the window, the caller's to change.
    """
    with ExitStack() as stack:
        sources: list[tuple[Window, Iterator[Image]]] = []
        for artifact, kind in reversed(layers):
            fact = clip_facts(ctx, artifact, gop)
            if fact is None:
                continue
            path = ctx.fetch(artifact, clip_name(kind, gop))
            reader = stack.enter_context(VideoReader(path, threads=ctx.threads))
            sources.insert(0, (Window(*fact["clip"]), reader.frames()))
            if sources[0][0].contains(window):
                break
        else:
            whole = Window(0, 0, *template_size(ctx))
            sources.insert(0, (whole, template_frames(ctx, gop.start, gop.stop)))
        for _ in range(gop.frames):
            yield _layered(window, [(place, next(frames)) for place, frames in sources])


def _layered(window: Window, layers: list[tuple[Window, Image]]) -> Image:
    base, pixels = layers[0]
    out = np.ascontiguousarray(pixels[window.relative_to(base).slice()])
    for place, pixels in layers[1:]:
        both = place.intersection(window)
        if both is not None:
            inside = both.relative_to(window).slice()
            out[inside] = pixels[both.relative_to(place).slice()]
    return out


class Changed:
    """Finds the smallest window that holds every difference between pairs of pictures."""

    def __init__(self) -> None:
        self._most: Image | None = None

    def add(self, before: Image, after: Image) -> None:
        """Take a pair of uint8 [h, w, 3], all pairs of the same size."""
        apart = np.asarray(cv2.absdiff(before, after), np.uint8)
        if self._most is None:
            self._most = apart
        else:
            cv2.max(self._most, apart, dst=self._most)

    def window(self, place: Window, size: tuple[int, int]) -> Window | None:
        """The window in the frame's pixels; None when nothing differed.

        Args:
            place: where the pictures lie in the frame.
            size: (width, height) of the frame.
        """
        if self._most is None or not self._most.any():
            return None
        rows = np.flatnonzero(self._most.any(axis=(1, 2)))
        columns = np.flatnonzero(self._most.any(axis=(0, 2)))
        x0, x1 = place.x + int(columns[0]), place.x + int(columns[-1]) + 1
        y0, y1 = place.y + int(rows[0]), place.y + int(rows[-1]) + 1
        return Window.around(x0, y0, x1, y1, size)
