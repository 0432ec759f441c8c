"""Boxes, and square crops of a picture at several scales."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels."""

SMALLEST_TILE = 160
"""Smaller tiles only enlarge blur: a face in them would have under about 20 pixels."""


def window(box: Box, factor: float) -> tuple[int, int, int]:
    """Square window (x, y, side) around a box's centre, possibly beyond the picture."""
    x0, y0, x1, y1 = box
    side = max(8, round(max(x1 - x0, y1 - y0) * factor))
    return round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2), side


def square(rgb: Image, x: int, y: int, side: int, size: int) -> Image:
    """Cut a square window, black beyond the picture, resampled to ``size``."""
    h, w = rgb.shape[:2]
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + side, w), min(y + side, h)
    if x0 >= x1 or y0 >= y1:
        return np.zeros((size, size, 3), np.uint8)
    cut: NDArray[Any] = rgb[y0:y1, x0:x1]
    pads = (y0 - y, y + side - y1, x0 - x, x + side - x1)
    if any(pads):
        cut = cv2.copyMakeBorder(cut, *pads, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (size, size), interpolation=how), np.uint8)


def tiles(width: int, height: int, levels: int) -> Iterator[tuple[int, int, int]]:
    """Square tiles (x, y, side): the whole picture, then halves that overlap by half."""
    side = max(width, height)
    yield (width - side) // 2, (height - side) // 2, side
    side = min(width, height) if width != height else side // 2
    for _ in range(levels - 1):
        if side < SMALLEST_TILE:
            return
        for x, y in itertools.product(_starts(width, side), _starts(height, side)):
            yield x, y, side
        side //= 2


def _starts(length: int, side: int) -> list[int]:
    steps = max(0, -(-(length - side) // (side // 2)))
    return [round(i * (length - side) / max(steps, 1)) for i in range(steps + 1)]


def size(box: Box) -> float:
    """Area of a box, 0 where it is turned inside out."""
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def shared(a: Box, b: Box) -> float:
    """Area that two boxes have in common."""
    return size((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


def iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    common = shared(a, b)
    return common / max(size(a) + size(b) - common, 1e-6)
