"""Opening card, product shot with its line, end card."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import product, typography, warp
from include.samples.warp import Image

UInt8 = npt.NDArray[np.uint8]
CREAM, PINE, SAND = (244.0, 239.0, 228.0), (24.0, 66.0, 58.0), (214.0, 178.0, 128.0)
BRAND = "TARNWELL"


def ease(x: float) -> float:
    """Slow in, slow out, clamped to 0..1."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def _paper(size: tuple[int, int], colour: tuple[float, float, float], drift: float) -> Image:
    """A sheet with light falling across it and large soft shapes, never flat."""
    h, w = size
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    light = 1.06 - 0.16 * ((xx / w - 0.3) ** 2 + (yy / h - 0.25) ** 2)
    sheet = np.array(colour, np.float32) * light[..., None]
    for k, (cx, cy, r) in enumerate(((0.84, 0.95, 0.42), (0.13, 0.05, 0.33))):
        d = np.sqrt((xx - (cx + 0.012 * drift * (-1) ** k) * w) ** 2 + (yy - cy * h) ** 2) - r * w
        ring = np.clip(0.5 - d / 2.0, 0, 1) * (0.045 if sum(colour) > 400 else 0.10)
        sheet = sheet + ring[..., None] * (np.array([255, 236, 200]) - sheet) * (
            1 if sum(colour) < 400 else -0.6
        )
    return np.asarray(sheet, np.float32)


def _dither(picture: Image, seed: int) -> UInt8:
    noise = np.random.default_rng(seed).standard_normal(picture.shape[:2]).astype(np.float32)
    return np.asarray(np.clip(picture + 1.1 * noise[..., None] + 0.5, 0, 255), np.uint8)


def opening(i: int, frames: int, size: tuple[int, int]) -> UInt8:
    """The brand's title on pine green; it settles, then a thin line draws itself."""
    h, w = size
    part = i / max(frames - 1, 1)
    sheet = _paper(size, PINE, part)
    come = ease((i + 4) / 11)
    mark = product.leaf(84)
    typography.place(sheet, mark, (w / 2, 0.335 * h + 10 * (1 - come)), SAND, come)
    tracking = round(0.30 - 0.05 * ease((i + 4) / 18), 3)
    word = typography.text(BRAND, typography.SANS, 54, tracking)
    typography.place(sheet, word, (w / 2, 0.535 * h + 8 * (1 - come)), CREAM, come)
    half = 150 * ease((i - 2) / 12)
    if half > 1:
        y = round(0.625 * h)
        sheet[y : y + 2, round(w / 2 - half) : round(w / 2 + half)] = (
            np.array(SAND, np.float32) * 0.9
        )
    line = typography.text("Spring, well kept.", typography.SERIF, 31, 0.01)
    typography.place(sheet, line, (w / 2, 0.70 * h), CREAM, 0.92 * ease((i - 5) / 9))
    return _dither(sheet, i)


def product_shot(i: int, frames: int, size: tuple[int, int]) -> UInt8:
    """The bottle, a slow push-in, and two lines of copy."""
    h, w = size
    scene = product.shot(i / max(frames - 1, 1), size)
    ink = (34.0, 52.0, 46.0)
    come = ease((i - 1) / 9)
    head = typography.text("The Tarn bottle", typography.SERIF, 52)
    sub = typography.text("COLD FOR A DAY", typography.SANS, 17, 0.22)
    sub2 = typography.text("WARM FOR A NIGHT", typography.SANS, 17, 0.22)
    typography.place(scene, head, (0.705 * w + 14 * (1 - come), 0.40 * h), ink, come)
    typography.place(
        scene, sub, (0.705 * w + 10 * (1 - come), 0.515 * h), ink, 0.85 * ease((i - 4) / 9)
    )
    typography.place(
        scene, sub2, (0.705 * w + 10 * (1 - come), 0.572 * h), ink, 0.85 * ease((i - 6) / 9)
    )
    return _dither(scene, 1000 + i)


def end(i: int, frames: int, size: tuple[int, int]) -> UInt8:
    """Logo, name, where to go; everything at rest in its second half."""
    h, w = size
    sheet = _paper(size, CREAM, i / max(frames - 1, 1))
    come = ease((i + 3) / 10)
    grow = 1.06 - 0.06 * come
    mark = product.leaf(round(112 * grow))
    typography.place(sheet, mark, (w / 2, 0.315 * h), PINE, come)
    word = typography.text(BRAND, typography.SANS, 58, 0.26)
    typography.place(sheet, word, (w / 2, 0.545 * h), PINE, come)
    line = typography.text("Find yours at tarnwell.example", typography.SERIF, 29, 0.01)
    typography.place(sheet, line, (w / 2, 0.665 * h), (60.0, 84.0, 76.0), ease((i - 4) / 9))
    button = ease((i - 7) / 9)
    if button > 0.01:
        pill = _pill(size, (w / 2, 0.80 * h), (106, 24))
        sheet = warp.over(sheet, np.full_like(sheet, 0) + np.array(PINE, np.float32), pill * button)
        call = typography.text("SEE THE SPRING RANGE", typography.SANS, 12.5, 0.10)
        typography.place(sheet, call, (w / 2, 0.804 * h), CREAM, button)
    return _dither(sheet, 2000 + i)


def _pill(
    size: tuple[int, int], centre: tuple[float, float], half: tuple[int, int]
) -> npt.NDArray[np.float32]:
    mask = np.zeros(size, np.uint8)
    (x, y), (a, b) = (round(centre[0]), round(centre[1])), half
    cv2.line(mask, (x - a + b, y), (x + a - b, y), 255, 2 * b, cv2.LINE_AA)
    return np.asarray(mask, np.float32) / 255
