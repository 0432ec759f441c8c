"""How far an upscaler looks in practice: its effective radius, measured.

The theoretical radius of a deep network (349 pixels for 23 residual-in-residual blocks) is far more
than the distance over which one pixel moves another by anything visible (Luo et al., "Understanding
the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS 2016). What a delta
render needs is the distance beyond which it does not matter whether the picture goes on, ends, or
is another one:

A window is cut from the middle of real pictures, and upscaled five times: as it is cut out, and
inside its picture with the surroundings as they are, black, white and as noise. For every output
pixel the spread of the five results, before rounding, is its sensitivity to what lies beyond the
window; the margin is the smallest distance from the window's edge at which, on all pictures, no
spread exceeds `TOLERANCE` from there on. Half a code value would keep rounded results within one
code value of each other; a quarter leaves a factor of two for pictures that were not measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch

from models.upscale.images import HELD_OUT, read

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from models.upscale.rrdb import Rrdb

    Image = npt.NDArray[np.uint8]

TOLERANCE: Final = 0.25
"""Largest spread in code values."""
REACHES: Final = (32, 64, 128)
"""Distances from the window's edge to look at, until half of one is quiet."""


def measure_margin(upscaler: Rrdb, pictures: Sequence[Image] | None = None) -> int:
    """Measure the effective radius of a network.

    Args:
        upscaler: the network with its weights.
        pictures: uint8 [h, w, 3]; default three photographs that ship with scikit-image.

    Returns:
        Input pixels, even, at most the theoretical radius.
    """
    pictures = default_pictures() if pictures is None else pictures
    for wanted in REACHES:
        reach = min(wanted, upscaler.radius)
        profile = np.max([spread_by_distance(upscaler, each, reach) for each in pictures], axis=0)
        loud = np.flatnonzero(profile > TOLERANCE)
        margin = int(loud[-1]) + 1 if loud.size else 1
        # As much again beyond the margin has to be quiet, or the measurement ends too early.
        if 2 * margin <= reach or reach == upscaler.radius:
            return min(margin + margin % 2, upscaler.radius)
    return upscaler.radius


def spread_by_distance(upscaler: Rrdb, picture: Image, reach: int) -> npt.NDArray[np.float64]:
    """Spread of a window's results over what may surround it, by distance from its edge.

    Args:
        upscaler: the network with its weights.
        picture: uint8 [h, w, 3]; a part of it is used, or repeats of it where it is too small.
        reach: distances to look at, input pixels.

    Returns:
        Float [reach]: the largest spread in code values among output pixels of input pixels at
        distance 0, 1, … from the window's edge.
    """
    around = min(reach, upscaler.radius) // 2 * 2
    side = 2 * reach + 2 * around
    picture = _fitted(picture, side)
    inside = slice(around, side - around)
    window = np.ascontiguousarray(picture[inside, inside])
    scale = upscaler.scale
    least = _codes(upscaler, window)
    most = least.copy()
    for frame in _surroundings(picture, inside):
        found = _codes(upscaler, frame)
        part = found[around * scale : -around * scale, around * scale : -around * scale]
        np.minimum(least, part, out=least)
        np.maximum(most, part, out=most)
    spread = (most - least).max(axis=2)
    ramp = np.minimum(np.arange(2 * reach), np.arange(2 * reach)[::-1]).repeat(scale)
    distance = np.minimum(ramp[:, None], ramp[None, :])
    return np.array([spread[distance == d].max() for d in range(reach)], np.float64)


def default_pictures() -> list[Image]:
    """Photographs with fine texture, faces of things and smooth parts."""
    chosen = [read(image) for image in HELD_OUT]
    chosen.sort(key=lambda rgb: -float(cv2.Laplacian(rgb, cv2.CV_32F).std()))
    return [chosen[0], chosen[len(chosen) // 2], chosen[-1]]


def _surroundings(picture: Image, inside: slice) -> Iterable[Image]:
    noise = np.random.default_rng(0).integers(0, 2, picture.shape, np.uint8) * np.uint8(255)
    for outside in (picture, np.zeros_like(picture), np.full_like(picture, 255), noise):
        frame = outside.copy()
        frame[inside, inside] = picture[inside, inside]
        yield frame


def _codes(upscaler: Rrdb, rgb: Image) -> npt.NDArray[np.float32]:
    """All code values, clipped as a picture is."""
    found: npt.NDArray[np.float32] = torch.cat(list(upscaler.codes(rgb))).clip(0, 255).cpu().numpy()
    return found


def _fitted(picture: Image, side: int) -> Image:
    """The middle of a picture as a square, mirrored on where it is too small."""
    short = [max(0, side - length) for length in picture.shape[:2]]
    if any(short):
        widths = [(0, short[0]), (0, short[1]), (0, 0)]
        picture = np.pad(picture, widths, mode="symmetric")
    top, left = ((length - side) // 2 for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + side, left : left + side])
