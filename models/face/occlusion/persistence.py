"""What stays: parts that a neighbouring frame shows, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from models.face.occlusion.arrays import Mask, Points


@dataclass(frozen=True, eq=False)
class Found:
    """What one frame shows."""

    cover: Mask
    """[h, w] of the layout."""
    points: Points
    size: tuple[int, int]
    """(height, width) of the frame."""


def neighbours(items: Iterable[Found]) -> Iterator[tuple[Found | None, Found, Found | None]]:
    """Each item between the one before and the one after."""
    recent: deque[Found] = deque(maxlen=3)
    for item in items:
        recent.append(item)
        if len(recent) == 2:
            yield None, recent[0], recent[1]
        elif len(recent) == 3:
            yield recent[0], recent[1], recent[2]
    if recent:
        yield (recent[-2] if len(recent) > 1 else None), recent[-1], None


def keep_supported(before: Found | None, now: Found, after: Found | None) -> Found:
    """Leave out parts that neither neighbouring frame has nearby."""
    others = [found.cover for found in (before, after) if found is not None]
    if not others or not now.cover.any():
        return now
    count, labels = cv2.connectedComponents(now.cover.astype(np.uint8), connectivity=8)
    reach = max(3, now.cover.shape[1] // 20)
    element = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(np.logical_or.reduce(others).astype(np.uint8), element) > 0
    keep = np.bincount(labels[near], minlength=count) > 0
    keep[0] = False
    return Found(np.asarray(keep[labels]), now.points, now.size)
