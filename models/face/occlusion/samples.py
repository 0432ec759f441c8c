"""Which frames of a segment its face is learned from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from models.face import geometry, topology
from models.face.occlusion.arrays import Points

SAMPLES = 24
"""Frames of a segment to learn from."""


def sample_numbers(points_per_frame: Sequence[Points]) -> list[int]:
    """Pick the frames of a segment to learn its face from.

    In each of `SAMPLES` / 2 stretches of equal length the middle frame and the one whose expression
    and pose differ most from it: what is in front for a while stays a minority.

    Args:
        points_per_frame: float32 [478, 2 or 3] pixels of every frame of the segment.
    """
    count = len(points_per_frame)
    if count <= SAMPLES:
        return list(range(count))
    edges = np.round(np.linspace(0, count, SAMPLES // 2 + 1)).astype(int)
    picks: set[int] = set()
    for start, stop in itertools.pairwise(edges):
        middle = int(start + stop - 1) // 2
        usual = points_per_frame[middle][:, :2]
        apart = [_apart(points_per_frame[i][:, :2], usual) for i in range(start, stop)]
        picks |= {middle, int(start) + int(np.argmax(apart))}
    return sorted(picks)


def _apart(points: Points, usual: Points) -> float:
    fitted = geometry.umeyama(points[topology.RIGID], usual[topology.RIGID]).apply(points)
    return float(np.square(fitted - usual).sum())
