"""Where one shot ends and the next begins, from the pictures alone.

A cut is a frame that differs from the one before in both what is where (mean absolute difference of
a small picture) and what there is at all (colour histogram), much more than its neighbours differ
from each other. The first rules out noise, the second fast motion and camera pans, the third long
busy passages. A camera flash comes back to where it was, so it is no cut. Frames are compared as in
Boreczky and Rowe, "Comparison of video shot boundary detection techniques", 1996. Only hard cuts
are found: a dissolve stays inside one shot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from include.media.pixels import Yuv420, as_u8

_SIZE = (64, 36)
_BINS = 16
# Codes of mean absolute difference, and share of pixels that change their histogram bin.
_LEAST_DIFFERENCE = 10.0
_LEAST_HISTOGRAM = 0.25
_TIMES_NEIGHBOURS = 3.0
_NEIGHBOURHOOD = 4
# A flash is over after so many frames.
_FLASH_FRAMES = 3
# Two cuts closer than this are one.
_SHORTEST_SHOT = 3

_Small = npt.NDArray[np.uint8]


def _small(frame: Yuv420) -> _Small:
    planes = [
        cv2.resize(plane, _SIZE, interpolation=cv2.INTER_AREA)
        for plane in (frame.y, frame.u, frame.v)
    ]
    return as_u8(np.stack(planes))


def _difference(a: _Small, b: _Small) -> float:
    return float(np.abs(a.astype(np.int16) - b).mean(axis=(1, 2)) @ (0.6, 0.7, 0.7))


def _histogram_distance(a: _Small, b: _Small) -> float:
    """Half the L1 distance of the planes' histograms, averaged with luma counting double."""
    distances = []
    for plane_a, plane_b in zip(a, b, strict=True):
        # Smoothed over neighbouring bins: a slight change of exposure moves all pixels by one.
        histograms = [
            np.convolve(np.bincount(p.ravel() >> 4, minlength=_BINS), (0.25, 0.5, 0.25), "same")
            for p in (plane_a, plane_b)
        ]
        distances.append(np.abs(histograms[0] - histograms[1]).sum() / (2 * plane_a.size))
    return float(np.average(distances, weights=(2, 1, 1)))


def shot_starts(frames: Iterable[Yuv420]) -> list[int]:
    """Find the first frame of every shot; constant memory.

    Args:
        frames: all frames in order.

    Returns:
        Frame indices, ascending, the first always 0; empty without frames.
    """
    differences: list[float] = []
    candidates: dict[int, float] = {}
    recent: deque[_Small] = deque(maxlen=_FLASH_FRAMES + 1)
    for index, frame in enumerate(frames):
        small = _small(frame)
        if index:
            difference = _difference(recent[-1], small)
            differences.append(difference)
            if (
                difference >= _LEAST_DIFFERENCE
                and _histogram_distance(recent[-1], small) >= _LEAST_HISTOGRAM
            ):
                candidates[index] = difference
            _drop_flashes(candidates, recent, small, index, difference)
        recent.append(small)
    if not differences and not recent:
        return []
    return [0, *_peaks(candidates, differences)]


def _drop_flashes(
    candidates: dict[int, float], recent: deque[_Small], small: _Small, index: int, step: float
) -> None:
    """Forget a jump that this frame takes back: it looks like a frame before the jump."""
    for back in range(2, len(recent) + 1):
        before = index - back + 1
        if before in candidates and index in candidates:
            jump = candidates[before]
            if _difference(recent[-back], small) < 0.3 * min(jump, step):
                del candidates[before]
                del candidates[index]
                return


def _peaks(candidates: dict[int, float], differences: list[float]) -> list[int]:
    """Keep the candidates that stand out from their neighbours, the larger of two close ones."""
    kept: list[int] = []
    for index, difference in candidates.items():
        at = index - 1
        around = differences[max(0, at - _NEIGHBOURHOOD) : at]
        around += differences[at + 1 : at + 1 + _NEIGHBOURHOOD]
        if around and difference < _TIMES_NEIGHBOURS * float(np.median(around)):
            continue
        if kept and index - kept[-1] < _SHORTEST_SHOT:
            if difference > candidates[kept[-1]]:
                kept[-1] = index
            continue
        if index >= _SHORTEST_SHOT:
            kept.append(index)
    return kept
