"""Joining a warped face with the frame below it, without a seam."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face_swap.warp import Map

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
Points = NDArray[np.float32]

SMALL_CELLS_PER_EYE = 20
"""Resolution of the low-frequency steps, in cells per eye distance."""

OCCLUDED = (38.0, 80.0)
"""Difference in grey levels on forehead and cheeks: skin still, and surely something in front."""

LIKE_SKIN = 28.0
"""Difference in grey levels at which the frame at the face's edge is hardly its skin."""

TRUST = 0.03
"""Weight of leaving a cell as it is, where the best cell of the edge has 1."""

DARK = 8.0
"""Grey levels added before a ratio is taken, so that black has one."""

GAIN_RANGE = (0.8, 1.3)
"""Limits to the factor that meets the frame's colour."""

SUBPIXEL_BITS = 4


def small_size(width: int, height: int, eye: float) -> tuple[int, int]:
    """Size of the low-frequency pictures for a face of that eye distance."""
    cell = max(2.0, eye / SMALL_CELLS_PER_EYE)
    return max(4, round(width / cell)), max(4, round(height / cell))


def sample_small(plane: Image, seen: Map, eye: float) -> Image:
    """Sample a texture plane on the low-frequency grid only."""
    size = small_size(seen.x.shape[1], seen.x.shape[0], eye)
    x = cv2.resize(seen.x, size, interpolation=cv2.INTER_NEAREST)
    y = cv2.resize(seen.y, size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(cv2.remap(plane, x, y, cv2.INTER_LINEAR), np.uint8)


def match_edges(
    frame: Image, warped: Image, alpha: Image, zones: Image, cover: Image
) -> tuple[Image, Image]:
    """Shift the warped face's colours so that it meets the frame at its edge.

    A membrane: the ratio to the frame along the fading edge is diffused inwards (Perez et al.,
    "Poisson Image Editing", SIGGRAPH 2003, solved by pull-push as in Gortler et al., "The
    Lumigraph", SIGGRAPH 1996) at low resolution. Where forehead or cheek differ too much from the
    frame, hair, a hand or a microphone is in front, and the frame stays.

    Args:
        frame: uint8 [h, w, 3].
        warped: uint8 [h, w, 3].
        alpha: uint8 [h, w] opacity of the warped face.
        zones: uint8 [h', w', 3] low-resolution masks: where only skin is expected; how far inside
            the face's edge; where the warped face has skin.
        cover: uint8 [h, w] where the warped face is defined.

    Returns:
        The shifted face and the reduced opacity.
    """
    height, width = alpha.shape
    size = zones.shape[1], zones.shape[0]
    smooth, inside, skin = np.moveaxis(zones.astype(np.float32) / 255, 2, 0)
    low = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (frame, warped)]
    gap = low[0].astype(np.float32) - low[1].astype(np.float32)
    valid = (cv2.resize(cover, size, interpolation=cv2.INTER_AREA) > 250).astype(np.float32)
    amount = np.abs(gap).mean(2)
    hidden = np.clip((amount - OCCLUDED[0]) / (OCCLUDED[1] - OCCLUDED[0]), 0, 1)
    hidden = cv2.GaussianBlur(hidden * smooth, (0, 0), 0.8)
    # Hair or a wall beyond the edge is not the colour to meet.
    weight = valid * skin * (1 - inside) ** 2 * np.exp(-np.square(amount / LIKE_SKIN))
    # A factor, not a difference: it leaves brows and pupils dark.
    ratio = (low[0].astype(np.float32) + DARK) / (low[1].astype(np.float32) + DARK)
    # Far from the edge the texture's own match holds: edges flicker with what passes behind them.
    mean = (np.clip(ratio, *GAIN_RANGE) * weight[..., None] + TRUST) / (weight + TRUST)[..., None]
    factor = _diffuse(mean, (weight + TRUST).astype(np.float32))
    shifted = cv2.multiply(warped, cv2.resize(factor, (width, height)), dtype=cv2.CV_8U)
    if hidden.max() > 0.01:
        shown = cv2.resize((255 * (1 - hidden)).astype(np.uint8), (width, height))
        alpha = np.asarray(cv2.multiply(alpha, shown, scale=1 / 255), np.uint8)
    return np.asarray(shifted, np.uint8), alpha


def _diffuse(values: Float, weight: Float) -> Float:
    """Fill in values [h, w, 3] from where their weight is high, smoothly (pull-push)."""
    stack = [(values * weight[..., None], weight)]
    while min(stack[-1][1].shape) > 2:
        v, w = stack[-1]
        halved = np.asarray(cv2.pyrDown(v), np.float32), np.asarray(cv2.pyrDown(w), np.float32)
        stack.append(halved)
    v, w = stack[-1]
    filled = v / (w[..., None] + 1e-6)
    for v, w in reversed(stack[:-1]):
        up = cv2.resize(filled, (w.shape[1], w.shape[0]))
        own = np.clip(w * 4, 0, 1)[..., None]
        filled = own * v / (w[..., None] + 1e-6) + (1 - own) * up
    return np.asarray(cv2.GaussianBlur(filled, (0, 0), 1.5), np.float32)


def cut(
    keep: Image, outline: Points, softness: float, rim: float = 0.0, amount: float = 1.0
) -> None:
    """Take a polygon out of a mask, in place.

    Args:
        keep: uint8 [h, w], reduced.
        outline: float32 [n, 2 or more] pixels.
        softness: blur of its edge, pixels.
        rim: how far beyond the outline to cut, pixels; what is closed to a line is cut that wide.
        amount: 1 takes it out wholly.
    """
    height, width = keep.shape
    marks = outline[:, :2]
    pad = int(3 * softness + rim) + 2
    low, high = np.floor(marks.min(0)) - pad, np.ceil(marks.max(0)) + pad + 1
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), width), min(int(high[1]), height)
    if x0 >= x1 or y0 >= y1:
        return
    hole = np.zeros((y1 - y0, x1 - x0), np.uint8)
    fixed = np.round((marks - [x0, y0]) * (1 << SUBPIXEL_BITS)).astype(np.int32)
    level = (round(255 * amount),)
    cv2.fillPoly(hole, [fixed], level, cv2.LINE_AA, SUBPIXEL_BITS)
    if rim > 0:
        thick = max(1, round(2 * rim))
        cv2.polylines(hole, [fixed], True, level, thick, cv2.LINE_AA, SUBPIXEL_BITS)
    hole = np.asarray(cv2.GaussianBlur(hole, (0, 0), max(softness, 0.7)), np.uint8)
    part = keep[y0:y1, x0:x1]
    cv2.multiply(part, 255 - hole, part, 1 / 255)


def ramp(value: float, low: float, high: float) -> float:
    """0 up to ``low``, 1 from ``high`` on, smooth between."""
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


def over(frame: Image, face: Image, alpha: Image) -> Image:
    """Lay a face over a frame by its opacity: uint8 [h, w, 3]."""
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    return np.asarray(cv2.blendLinear(face, frame, share, 1 - share), np.uint8)
