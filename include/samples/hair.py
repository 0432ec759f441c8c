"""The head's outline, and hair of other colours and shapes."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import sources, warp
from include.samples.warp import Image

Mask = npt.NDArray[np.float32]

# All coordinates below are pixels of the enlarged astronaut portrait.
SKULL = ((675, 275), (262, 262))
"""An ellipse well outside her hair."""
JAW_AND_NECK = [
    (360, 0),
    (990, 0),
    (990, 330),
    (900, 372),
    (840, 380),
    (828, 405),
    (810, 409),
    (800, 412),
    (797, 427),
    (786, 454),
    (772, 481),
    (764, 512),
    (760, 535),
    (754, 552),
    (731, 562),
    (704, 565),
    (669, 561),
    (627, 555),
    (585, 548),
    (566, 535),
    (560, 517),
    (560, 477),
    (558, 450),
    (551, 419),
    (548, 397),
    (542, 394),
    (525, 383),
    (515, 365),
    (511, 352),
    (490, 340),
    (360, 320),
]
"""What of the portrait is head: above the helmet's ring and the black collar."""
FACE_OPENING = [
    (508, 354),
    (527, 358),
    (538, 371),
    (542, 350),
    (543, 319),
    (548, 288),
    (554, 254),
    (558, 228),
    (567, 228),
    (587, 232),
    (601, 243),
    (627, 240),
    (654, 245),
    (685, 248),
    (715, 251),
    (738, 249),
    (758, 257),
    (777, 265),
    (804, 268),
    (808, 281),
    (810, 312),
    (814, 342),
    (812, 373),
    (821, 389),
    (844, 377),
    (900, 640),
    (440, 640),
    (440, 350),
]
"""What of the head is not hair."""


def _lab(rgb: Image) -> Image:
    u8 = np.clip(rgb, 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(u8, cv2.COLOR_RGB2LAB), np.float32)


@cache
def head() -> tuple[Image, Mask]:
    """Separate the astronaut's head from her grey background.

    Returns:
        The portrait with the background's light taken out of half-transparent strands, float32
        [h, w, 3], and its alpha, float32 [h, w].
    """
    rgb = sources.astronaut().image
    rough = np.zeros(rgb.shape[:2], np.uint8)
    cv2.ellipse(rough, *SKULL, 0, 0, 360, 255, -1)
    rough[300:620, 520:830] = 255
    bg = warp.masked_blur(rgb, (rough == 0).astype(np.float32), 70.0)
    d = _lab(rgb) - _lab(bg)
    far = np.sqrt((0.8 * d[..., 0]) ** 2 + (2.2 * d[..., 1]) ** 2 + (2.2 * d[..., 2]) ** 2)
    far = cv2.GaussianBlur(far, (0, 0), 1.0)
    solid = ((far > 30) & (rough > 0)).astype(np.uint8)
    solid = cv2.morphologyEx(solid, cv2.MORPH_CLOSE, np.ones((25, 25), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid)
    solid = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    core = cv2.erode(solid, np.ones((17, 17), np.uint8)).astype(np.float32)
    near = cv2.dilate(solid, np.ones((9, 9), np.uint8)).astype(np.float32)
    alpha = np.maximum(np.clip((far - 24) / 46, 0, 1) * near, core).astype(np.float32)
    alpha *= warp.polygon(JAW_AND_NECK, (rgb.shape[0], rgb.shape[1]), 2.0)
    # at the outline the colour is the hair's from further in: nothing of the backdrop stays
    inner = warp.masked_blur(rgb, core, 5.0)
    keep = np.clip((cv2.GaussianBlur(alpha, (0, 0), 2.0) - 0.80) / 0.18, 0, 1)
    return warp.over(inner, rgb, keep.astype(np.float32)), alpha


@cache
def hair_mask() -> Mask:
    """Which part of `head` is hair, float32 [h, w] of the enlarged portrait."""
    rgb, _ = head()
    size = (rgb.shape[0], rgb.shape[1])
    light = cv2.GaussianBlur(_lab(rgb)[..., 0], (0, 0), 1.2)
    opening = warp.polygon(FACE_OPENING, size, 0)
    # at the hairline single strands decide, by being darker than the skin beside them
    dark = 1 / (1 + np.exp((light - 168) / 9))
    near = warp.blur(opening, 5.0)
    hair = np.where(near > 0.93, 0.0, np.where(near < 0.07, 1.0, dark))
    soft = np.clip((1 - near) * 0.5 + hair * 0.5, 0, 1) * 0.6 + hair * 0.4
    return warp.blur(soft.astype(np.float32), 1.2)


def lengthen(
    layer: Image, alpha: Mask, eyes: tuple[float, float], reach: float
) -> tuple[Image, Mask]:
    """Draw out the hair beside a face, straight down.

    Args:
        layer: float32 [h, w, 3].
        alpha: float32 [h, w], the hair in it.
        eyes: the point between the eyes, in pixels.
        reach: how many times longer it becomes from the eyes' level downwards.

    Returns:
        The layer and its alpha after stretching.
    """
    h, w = alpha.shape
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    down = np.maximum(yy - (eyes[1] - 50), 0)
    ease = 1 - np.exp(-down / 60)
    stretched = (eyes[1] - 50) + down * (1 - ease * (1 - 1 / reach))
    read_y = np.where(down > 0, stretched, yy).astype(np.float32)
    taper = 1 + 0.20 * np.clip(down / 330, 0, 1.2) ** 1.5
    read_x = (eyes[0] + (xx - eyes[0]) * taper).astype(np.float32)
    # hair never falls as straight as a ruler
    read_x += (5 * np.sin(down / 47 + (xx > eyes[0]) * 1.3) * np.clip(down / 160, 0, 1)).astype(
        np.float32
    )
    return warp.sample(layer, (read_x, read_y)), warp.sample(alpha, (read_x, read_y), True).clip(
        0, 1
    )


def trim(alpha: Mask, eyes: tuple[float, float], drop: float) -> Mask:
    """Cut hair at a length, strand by strand."""
    h, w = alpha.shape
    rng = np.random.default_rng(8)
    uneven = cv2.GaussianBlur(rng.standard_normal((1, w)).astype(np.float32), (0, 0), sigmaX=4.5)
    uneven = uneven / uneven.std() * 5 + 10 * np.sin(np.arange(w, dtype=np.float32) / 33)
    yy = np.mgrid[0:h, 0:w][0].astype(np.float32)
    return np.asarray(alpha * np.clip((eyes[1] + drop + uneven - yy) / 26 + 0.5, 0, 1), np.float32)


def curtain(
    size: tuple[int, int], eyes: tuple[float, float], drop: float, colour: Image
) -> tuple[Image, Mask]:
    """Hair that hangs behind a neck, in shadow.

    Args:
        size: (height, width).
        eyes: the point between the eyes.
        drop: pixels from the eyes to its tips.
        colour: float32 [3].
    """
    h, w = size
    rng = np.random.default_rng(3)
    strands = rng.standard_normal((h // 8, w)).astype(np.float32)
    strands = cv2.resize(cv2.GaussianBlur(strands, (0, 0), sigmaX=1.1, sigmaY=6), (w, h))
    strands /= strands.std()
    x, y = eyes
    half = [(150, -60), (172, 40), (176, drop * 0.6), (150, drop * 0.93), (90, drop)]
    pts = [(x + a, y + b) for a, b in half] + [(x - a, y + b) for a, b in half[::-1]]
    mask = warp.polygon(pts, size, 2.5)
    yy = np.mgrid[0:h, 0:w][0]
    light = 0.42 + 0.25 * np.clip((yy - y) / max(drop, 1), 0, 1)
    return np.asarray(colour * (light * (1 + 0.16 * strands))[..., None], np.float32), mask
