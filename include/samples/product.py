"""The advertised product: an insulated bottle, shaded as a turned body under two soft lights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from include.samples import typography, warp
from include.samples.warp import Image

Mask = npt.NDArray[np.float32]
Colour = tuple[float, float, float]

HEIGHT = 400.0
"""Of the bottle, in pixels at a zoom of 1."""
# outline from the foot up: height and radius, in parts of the bottle's height
BODY = [(0.0, 0.112), (0.006, 0.128), (0.02, 0.135), (0.06, 0.137), (0.30, 0.137), (0.58, 0.137),
        (0.66, 0.134), (0.72, 0.121), (0.765, 0.098), (0.79, 0.083), (0.805, 0.080)]  # fmt: skip
CAP = [(0.812, 0.078), (0.815, 0.086), (0.83, 0.088), (0.93, 0.088), (0.965, 0.087), (0.985, 0.080),
       (0.997, 0.064), (1.0, 0.050)]  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A turned part.

    Attributes:
        outline: (height, radius) pairs.
        colour: in linear light.
        gloss: sharpness of the strip lights' reflections, pixels of blur over the radius.
        shine: their strength.
    """

    outline: list[tuple[float, float]]
    colour: Colour
    gloss: float
    shine: float


PARTS = [
    Part(BODY, (0.022, 0.140, 0.112), 0.045, 0.50),
    Part([(0.803, 0.079), (0.808, 0.080), (0.814, 0.079)], (0.30, 0.30, 0.29), 0.03, 0.9),
    Part(CAP, (0.52, 0.31, 0.15), 0.14, 0.16),
]


def _lights(u: Mask, part: Part) -> Mask:
    """Light over a turned surface; ``u`` is -1 at the left edge, 1 at the right."""
    angle = np.arcsin(np.clip(u, -1, 1))
    diffuse = (
        0.20
        + 0.62 * np.clip(np.cos(angle + 0.75), 0, 1)
        + 0.26 * np.clip(np.cos(angle - 1.15), 0, 1)
    )

    def strip(centre: float, wide: float) -> Mask:
        s = part.gloss
        return np.asarray(
            1
            / (1 + np.exp(-(angle - centre + wide) / s))
            * 1
            / (1 + np.exp((angle - centre - wide) / s)),
            np.float32,
        )

    reflect = strip(-0.74, 0.11) + 0.40 * strip(0.86, 0.06) + 0.08 * strip(-0.15, 0.04)
    rim = 1 - 0.5 * np.abs(u) ** 9
    return np.asarray(np.stack([diffuse * rim, reflect * part.shine], -1), np.float32)


def bottle(x: float, foot: float, zoom: float, size: tuple[int, int]) -> tuple[Image, Mask]:
    """Render the bottle.

    Args:
        x: its axis, pixels.
        foot: where it stands, pixels.
        zoom: 1 is `HEIGHT` pixels tall.
        size: (height, width) of the picture.

    Returns:
        Linear light, float32 [h, w, 3], and coverage, float32 [h, w].
    """
    h, w = size
    tall = HEIGHT * zoom
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    # seen from slightly above: rings sag towards the middle
    picture, cover = np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32)
    for part in PARTS:
        corners = np.array(part.outline).T
        hs = np.linspace(corners[0][0], corners[0][-1], 300)
        rs = PchipInterpolator(*corners)(hs)
        level = (foot - yy) / tall
        radius = np.interp(level, hs, rs, left=0, right=0).astype(np.float32) * tall
        u = np.clip((xx - x) / np.maximum(radius, 1e-3), -2, 2)
        sag = 0.028 * np.sqrt(np.clip(1 - u**2, 0, 1)) * radius / tall
        level = level + sag
        radius = np.interp(level, hs, rs, left=0, right=0).astype(np.float32) * tall
        u = np.clip((xx - x) / np.maximum(radius, 1e-3), -2, 2)
        edge = np.clip((1 - np.abs(u)) * radius + 0.5, 0, 1)
        ends = np.clip((level - hs[0]) * tall + 0.5, 0, 1) * np.clip(
            (hs[-1] - level) * tall + 0.5, 0, 1
        )
        alpha = np.asarray(edge * ends * (radius > 0.5), np.float32)
        slope = np.gradient(np.interp(np.linspace(0, 1, 400), hs, rs)) * 400
        tilt = np.interp(level, np.linspace(0, 1, 400), slope)
        light = _lights(u.astype(np.float32), part)
        up = 1 + 0.55 * np.clip(-tilt, -0.8, 1.2)
        shade = np.asarray(part.colour) * (light[..., 0] * up)[..., None] + light[..., 1:] * (
            1 - 0.25 * np.abs(tilt)
        )[..., None].clip(0.4, 1)
        occlusion = 1 - 0.55 * np.exp(-np.clip(level, 0, 1) / 0.035)
        seam = 1 - 0.6 * np.exp(-(((level - 0.80) / 0.006) ** 2))
        picture = warp.over(
            picture, np.asarray(shade * (occlusion * seam)[..., None], np.float32), alpha
        )
        cover = np.maximum(cover, alpha)
    picture = _print(picture, x, foot, tall)
    return picture, cover


def _print(picture: Image, x: float, foot: float, tall: float) -> Image:
    """The logo on its belly."""
    mark = leaf(round(0.085 * tall))
    word = typography.text("TARNWELL", typography.SANS, 0.024 * tall, 0.14)
    typography.place(picture, mark, (x, foot - 0.42 * tall), (0.62, 0.68, 0.60), 0.85)
    typography.place(picture, word, (x, foot - 0.335 * tall), (0.62, 0.68, 0.60), 0.85)
    return picture


def leaf(size: int) -> Mask:
    """The brand's mark: a drop with a leaf's vein, float32 [size, size]."""
    k = 4
    n = size * k
    t = np.linspace(0, 2 * np.pi, 200)
    x = 0.5 + 0.34 * np.sin(t) * np.sin(t / 2) ** 1.2
    y = 0.53 - 0.43 * np.cos(t)
    drop = np.zeros((n, n), np.uint8)
    cv2.fillPoly(drop, [np.round(np.stack([x, y], -1) * n).astype(np.int32)], 255)
    vein = np.stack([0.5 + 0.05 * np.sin(np.linspace(0, 3, 30)), np.linspace(0.36, 0.98, 30)], -1)
    cv2.polylines(
        drop, [np.round(vein * n).astype(np.int32)], False, 0, max(n // 26, 1), cv2.LINE_AA
    )
    for y0, side in ((0.56, 1), (0.68, -1)):
        start, end = (0.54, y0 + 0.1), (0.54 + 0.18 * side, y0 - 0.05)
        a = (round(start[0] * n), round(start[1] * n))
        b = (round(end[0] * n), round(end[1] * n))
        cv2.line(drop, a, b, 0, max(n // 34, 1), cv2.LINE_AA)
    return (
        np.asarray(cv2.resize(drop, (size, size), interpolation=cv2.INTER_AREA), np.float32) / 255
    )


ZOOM = 1.08
"""How much the product shot pushes in."""


def shot(part: float, size: tuple[int, int]) -> Image:
    """The product shot: a slow push-in onto one still life.

    Args:
        part: 0 at its first frame, 1 at its last.
        size: (height, width).

    Returns:
        float32 [h, w, 3], RGB 0..255.
    """
    h, w = size
    still = _still((round(h * ZOOM), round(w * ZOOM)))
    k = 1 / ZOOM + (1 - 1 / ZOOM) * part
    # the camera moves towards the bottle, not towards the middle of the table
    cx, cy = 0.40 * w * ZOOM, 0.52 * h * ZOOM
    tx, ty = (1 - part) * 0.5 + part * 0.40, (1 - part) * 0.5 + part * 0.52
    cx, cy = cx * part + (1 - part) * w * ZOOM / 2, cy * part + (1 - part) * h * ZOOM / 2
    m = np.array([[k, 0, tx * w - k * cx], [0, k, ty * h - k * cy]])
    return np.asarray(
        cv2.warpAffine(still, m, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.float32,
    )


@cache
def _still(size: tuple[int, int]) -> Image:
    h, w = size
    zoom = h / 540.0
    x, foot = w * 0.345, h * 0.865
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    # an infinity cove: wall and table are one sheet, lit from the upper left
    horizon = 1 / (1 + np.exp(-(yy - 0.70 * h) / (0.035 * h)))
    spot = np.exp(-(((xx - 0.36 * w) / (0.42 * w)) ** 2 + ((yy - 0.40 * h) / (0.62 * h)) ** 2))
    wall = np.array([0.86, 0.72, 0.55], np.float32) * (0.42 + 0.75 * spot)[..., None]
    table = np.array([1.05, 0.92, 0.75], np.float32) * (0.50 + 0.52 * spot)[..., None]
    scene = warp.over(
        np.asarray(wall, np.float32), np.asarray(table, np.float32), horizon.astype(np.float32)
    )
    body, cover = bottle(x, foot, zoom, size)
    tall = HEIGHT * zoom
    # shadows: one long and soft away from the light, one dark where it touches the table
    drift = (xx - x) - 1.9 * (foot - yy).clip(-40, 0) * -1
    long = np.exp(-(np.abs((yy - foot + 4) / (0.050 * tall)) ** 2.2)) / (
        1 + np.exp(-(drift + 0.05 * tall) / 14)
    )
    long *= np.exp(-np.clip(xx - x, 0, None) / (0.55 * tall))
    touch = np.exp(
        -(((xx - x - 6) / (0.150 * tall)) ** 4) - (((yy - foot - 1) / (0.020 * tall)) ** 2)
    )
    scene = np.asarray(
        scene * (1 - 0.50 * warp.blur(long.astype(np.float32), 7.0))[..., None], np.float32
    )
    scene = np.asarray(scene * (1 - 0.70 * touch)[..., None], np.float32)
    mirror = _reflection(body, cover, foot)
    scene = warp.over(scene, mirror[0], mirror[1])
    scene = warp.over(scene, body, cover)
    scene = scene * (1 + scene / 5) / (0.72 + scene)
    return np.asarray(np.clip(scene * 1.02, 0, 1) ** (1 / 2.2) * 255, np.float32)


def _reflection(body: Image, cover: Mask, foot: float) -> tuple[Image, Mask]:
    """What a satin table gives back: short, soft, fading."""
    h, w = cover.shape
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    read = (2 * (foot + 2) - yy).astype(np.float32)
    image = cv2.remap(body, xx, read, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    alpha = cv2.remap(cover, xx, read, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    fade = np.clip(1 - (yy - foot) / 70, 0, 1) * (yy > foot - 4)
    return warp.blur(image, 2.5), np.asarray(warp.blur(alpha, 2.5) * fade * 0.20, np.float32)
