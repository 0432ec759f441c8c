"""Windows: the part of the frame that a recipient changes, constant in size over a shot."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.face import topology

RING = 1.38
"""Ring around the face oval, about its centroid, that stays put when a warp moves the face."""


@dataclass(frozen=True)
class Window:
    """A rectangle of whole pixels inside a frame, aligned to the 4:2:0 chroma grid."""

    x: int
    y: int
    w: int
    h: int

    @classmethod
    def around(cls, x0: float, y0: float, x1: float, y1: float, size: tuple[int, int]) -> Window:
        """Smallest even-aligned window inside a frame that covers a box.

        Args:
            x0: left edge, pixels.
            y0: top edge.
            x1: right edge, exclusive.
            y1: bottom edge, exclusive.
            size: (width, height) of the frame. An odd frame's last column or row may be covered by
                a window that ends there.

        Raises:
            ValueError: the box lies outside the frame.
        """
        width, height = size
        left, top = max(0, _even_down(x0)), max(0, _even_down(y0))
        right, bottom = min(width, _even_up(x1)), min(height, _even_up(y1))
        if left >= right or top >= bottom:
            raise ValueError(f"box {(x0, y0, x1, y1)} lies outside the {width}x{height} frame")
        return cls(left, top, right - left, bottom - top)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), the last two exclusive."""
        return self.x, self.y, self.x + self.w, self.y + self.h

    def dilate(self, n: int, size: tuple[int, int]) -> Window:
        """Grow by ``n`` pixels on every side, even-aligned and clamped to the frame's size."""
        x0, y0, x1, y1 = self.box
        return Window.around(x0 - n, y0 - n, x1 + n, y1 + n, size)

    def union(self, other: Window) -> Window:
        """Smallest window that contains both."""
        x0, y0 = min(self.x, other.x), min(self.y, other.y)
        x1 = max(self.x + self.w, other.x + other.w)
        y1 = max(self.y + self.h, other.y + other.h)
        return Window(x0, y0, x1 - x0, y1 - y0)

    def intersection(self, other: Window) -> Window | None:
        """What both cover, or None."""
        x0, y0 = max(self.x, other.x), max(self.y, other.y)
        x1 = min(self.x + self.w, other.x + other.w)
        y1 = min(self.y + self.h, other.y + other.h)
        return Window(x0, y0, x1 - x0, y1 - y0) if x0 < x1 and y0 < y1 else None

    def relative_to(self, other: Window) -> Window:
        """The same window in the coordinates of another's top left corner."""
        return Window(self.x - other.x, self.y - other.y, self.w, self.h)

    def contains(self, other: Window) -> bool:
        """Whether the other window lies wholly inside."""
        a, b = self.box, other.box
        return a[0] <= b[0] and a[1] <= b[1] and a[2] >= b[2] and a[3] >= b[3]

    def scaled(self, factor: int) -> Window:
        """The same window of a frame enlarged by a whole factor."""
        return Window(self.x * factor, self.y * factor, self.w * factor, self.h * factor)

    def slice(self) -> tuple[slice, slice]:
        """(rows, columns) to index a frame with: ``frame[window.slice()]``."""
        return slice(self.y, self.y + self.h), slice(self.x, self.x + self.w)

    def to_local(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Points [n, 2 or 3] of the frame in the window's coordinates; z is left alone."""
        local = points.astype(np.float32)
        local[:, :2] -= np.array([self.x, self.y], np.float32)
        return local


def face_window(
    points_per_frame: Iterable[NDArray[np.float32] | None],
    frame_size: tuple[int, int],
    ring: float = RING,
) -> Window:
    """Find one window that holds, in every frame, all pixels that face stages may change.

    That is the face oval enlarged by ``ring`` about its centroid, and one pixel for interpolation.

    Args:
        points_per_frame: float32 [478, 2 or 3] pixels for each frame, ``None`` without a face.
        frame_size: (width, height).
        ring: enlargement of the oval.

    Raises:
        ValueError: no frame has a face, or the face is outside the frame.
    """
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    for points in points_per_frame:
        if points is None:
            continue
        edge = ring_points(points, ring)
        low, high = np.minimum(low, edge.min(0)), np.maximum(high, edge.max(0))
    if not np.isfinite(low).all():
        raise ValueError("no frame of the sequence has a face")
    return Window.around(low[0] - 1, low[1] - 1, high[0] + 2, high[1] + 2, frame_size)


def ring_points(points: NDArray[np.float32], ring: float = RING) -> NDArray[np.float32]:
    """Face oval enlarged about its centroid: float32 [36, 2], in the oval's order."""
    oval = points[topology.FACE_OVAL, :2].astype(np.float32)
    centre = oval.mean(0)
    return np.asarray(centre + (oval - centre) * ring, np.float32)


def _even_down(value: float) -> int:
    return math.floor(value / 2) * 2


def _even_up(value: float) -> int:
    return math.ceil(value / 2) * 2
