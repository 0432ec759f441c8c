"""What renders are measured against: the template's own figures, once for a shard's rows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from include.features.frames import FrameViews, spread
from include.media.decode import VideoReader
from include.media.pixels import U8
from include.media.preview import PreviewMark
from include.stages.clips import clip_name
from include.stages.context import StageContext
from include.stages.segments import load_points
from include.stages.timeline import Gop, gops_of, template_size
from models.face.roi import Window
from models.identity import Embedding, embed_points
from models.lip_sync.sync import measure

F32 = NDArray[np.float32]

MOST_GOPS, HEAD = 4, 16
"""Changed GOPs that are watched, evenly spread, and how many of their first frames: what comes
before a frame in its GOP must be decoded for it."""
LOOK_AT = 2
"""Frames after a GOP's first one at which it is looked at closely."""
GRID = (16, 16)
"""A face's window in so many blocks, for flicker and for frames shown twice."""
WIDE_PERCENTILE = 95
"""Of the template's lip gap: what a command of 1 stands for (see ``MouthCurves``)."""


@dataclass(frozen=True)
class Scene:
    """Consecutive frames of a changed GOP that are watched."""

    gop: Gop
    stop: int
    """Exclusive; they begin where the GOP does."""

    @property
    def start(self) -> int:
        """The first of them."""
        return self.gop.start

    @property
    def look(self) -> int:
        """The one that is looked at closely."""
        return self.start + min(LOOK_AT, self.stop - self.start - 1)


@dataclass
class Reference(AbstractContextManager["Reference"]):
    """What is known of the template once it was watched."""

    scenes: list[Scene]
    blocks: list[F32] = field(default_factory=list)
    """By scene: float32 [n, *GRID], the template's own face window."""
    plate: dict[int, U8] = field(default_factory=dict)
    """By frame looked at: the plate's luma at delivery size, preview mark included."""
    actor: list[Embedding] = field(default_factory=list)
    wide: float = 0.0
    """Lip gap of the presenter's own wide opening, in eye distances."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is open."""


def reference_of(ctx: StageContext) -> Reference:
    """The reference of the unit's template, made once for all rows of the process."""
    if ctx.common is None:
        return _watch_template(ctx)
    return ctx.common.keep("measure_render reference", lambda: _watch_template(ctx))


def _watch_template(ctx: StageContext) -> Reference:
    scenes = scenes_of([gop for gop in gops_of(ctx) if gop.segment is not None])
    points = load_points(ctx.fetch("track_face", "track"))
    gap, _ = measure(points)
    found = Reference(scenes, wide=float(np.nanpercentile(gap, WIDE_PERCENTILE)))
    with FrameViews(ctx.fetch("ingest_template", "video"), threads=ctx.threads) as reader:
        for scene in scenes:
            window = scene.gop.window.slice()
            views = reader.views(scene.start, scene.stop)
            found.blocks.append(np.stack([in_blocks(planes.y[window]) for planes in views]))
            frame = next(reader.frames(scene.look, scene.look + 1))
            found.actor.append(embed_points(frame, points[scene.look]))
            found.plate[scene.look] = _plate(ctx, scene)
    return found


def scenes_of(changed: list[Gop]) -> list[Scene]:
    """The beginnings of some of the changed GOPs."""
    chosen = [changed[k] for k in spread(len(changed), MOST_GOPS)]
    return [Scene(gop, min(gop.stop, gop.start + HEAD)) for gop in chosen]


def in_blocks(luma: U8) -> F32:
    """Mean luma of each block of a window, of every other pixel: float32 ``GRID``."""
    thin = np.ascontiguousarray(luma[::2, ::2])
    small = cv2.resize(thin, GRID[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def delivered_window(ctx: StageContext, window: Window) -> Window:
    """A window of the template in pixels of the delivered picture."""
    return window.scaled(delivery_scale(ctx))


def delivery_scale(ctx: StageContext) -> int:
    """How much larger the delivered picture is than the template."""
    return int(ctx.unit.materials["compose"].params["scale"])


def _plate(ctx: StageContext, scene: Scene) -> U8:
    at = scene.look - scene.start
    with VideoReader(ctx.fetch("upscale_plate", clip_name("plate", scene.gop))) as reader:
        planes = next(reader.yuv_frames(at, at + 1))
    if ctx.unit.materials["compose"].params["tier"] == "preview":
        width, height = template_size(ctx)
        scale = delivery_scale(ctx)
        PreviewMark((width * scale, height * scale)).draw(planes)
    return planes.y
