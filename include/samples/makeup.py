"""Skin, hair, brows and eyes of other colours, on a head that is already shaped."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import warp
from include.samples.face_blend import (
    LEFT_BROW,
    LEFT_EYE,
    OUTER_LIPS,
    OVAL,
    RIGHT_BROW,
    RIGHT_EYE,
    SIZE,
    Head,
    hull,
)  # fmt: skip
from include.samples.warp import Image, Points

Mask = npt.NDArray[np.float32]
Colour = tuple[float, float, float]
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Look:
    """Colours of one person.

    Attributes:
        skin: power curve per channel; 1 leaves it, 2 and more is dark skin.
        skin_gain: multiplied after the curve.
        hair: colour of hair in even light, None to leave it.
        hair_contrast: how much its highlights stand out.
        brow: 0..1, how full the brows are.
        brow_colour: RGB.
        iris: RGB, None to leave it.
        lips: added to the lips, RGB.
        stubble: 0..1.
        freckles: 0..1.
    """

    skin: Colour = (1.0, 1.0, 1.0)
    skin_gain: Colour = (1.03, 0.985, 1.035)
    hair: Colour | None = None
    hair_contrast: float = 1.0
    brow: float = 0.4
    brow_colour: Colour = (70, 52, 40)
    iris: Colour | None = None
    lips: Colour = (0.0, 0.0, 0.0)
    stubble: float = 0.0
    freckles: float = 0.0
    seed: int = 0


def _retone(image: Image, look: Look) -> Image:
    unit = np.clip(image, 0, 255) / 255
    out = unit ** np.array(look.skin, np.float32) * np.array(look.skin_gain, np.float32) * 255
    depth = min(max(look.skin[0] - 1, 0), 1)
    grey = (out @ LUMA)[..., None]
    out = out + (grey - out) * 0.22 * depth
    return np.asarray(np.clip(out, 0, 255), np.float32)


def _dye(image: Image, look: Look) -> Image:
    """Recolour hair by its luminance; bright strands keep some of their own shine."""
    if look.hair is None:
        return image
    luma = image @ LUMA
    rel = np.clip(luma / 112.0, 0.02, 2.4) ** look.hair_contrast
    base = np.array(look.hair, np.float32)
    shine = np.clip(rel - 1.15, 0, 1)[..., None] * (0.25 * (255 - base))
    return np.asarray(np.clip(base * rel[..., None] + shine, 0, 255), np.float32)


def _brows(image: Image, g: Points, look: Look) -> Image:
    """Draw single brow hairs along the brow's own arch."""
    if look.brow <= 0:
        return image
    rng = np.random.default_rng(look.seed + 11)
    ink = np.zeros(SIZE, np.float32)
    for idx, side in ((RIGHT_BROW, -1.0), (LEFT_BROW, 1.0)):
        upper, lower = g[idx[:5], :2][::-1], g[idx[5:], :2]
        count = int(330 * look.brow)
        at = rng.random(count) ** 0.9
        across = rng.normal(0.5, 0.2, count).clip(0, 1)
        pos = np.linspace(0, 1, 5)
        for t, v in zip(at, across, strict=True):
            top = np.array([np.interp(t, pos, upper[:, k]) for k in (0, 1)])
            bot = np.array([np.interp(t, pos, lower[:, k]) for k in (0, 1)])
            thin = 0.30 + 0.55 * look.brow * (1 - 0.55 * t)
            mid = (top + bot) / 2
            p = mid + (top - bot) * (v - 0.5) * thin
            lift = np.interp(t, [0, 0.25, 0.7, 1], [0.95, 0.6, 0.22, -0.15])
            direction = np.array([side * np.cos(lift), -np.sin(lift)])
            q = p + direction * rng.uniform(7, 13) * (1 - 0.35 * t)
            hair = np.zeros(SIZE, np.uint8)
            x0, y0 = np.floor(np.minimum(p, q) - 3).astype(int)
            x1, y1 = np.ceil(np.maximum(p, q) + 4).astype(int)
            tile = np.zeros((y1 - y0, x1 - x0), np.uint8)
            a = tuple(np.round((p - (x0, y0)) * 16).astype(int).tolist())
            b = tuple(np.round((q - (x0, y0)) * 16).astype(int).tolist())
            cv2.line(tile, a, b, 255, 1, cv2.LINE_AA, 4)
            del hair
            fade = rng.uniform(0.25, 0.55) * np.interp(t, [0, 0.15, 0.8, 1], [0.6, 1, 1, 0.6])
            part = ink[y0:y1, x0:x1]
            part += (1 - part) * tile.astype(np.float32) / 255 * fade
    ink = warp.blur(np.clip(ink, 0, 1), 0.7) * 0.9
    ink = np.maximum(ink, 0.35 * look.brow * warp.blur(ink, 3.0))
    dark = np.minimum(image, np.array(look.brow_colour, np.float32) * 1.15)
    return warp.over(image, np.asarray(dark, np.float32), np.asarray(ink, np.float32))


def _irises(image: Image, g: Points, look: Look) -> Image:
    if look.iris is None:
        return image
    yy, xx = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    out = image
    for centre, rim, eye in ((468, (469, 471), RIGHT_EYE), (473, (474, 476), LEFT_EYE)):
        c = g[centre, :2]
        r = float(np.linalg.norm(g[rim[0], :2] - g[rim[1], :2])) / 2
        d = np.sqrt((xx - c[0]) ** 2 + (yy - c[1]) ** 2) / r
        ring = np.clip((1.02 - d) / 0.14, 0, 1) * np.clip((d - 0.34) / 0.18, 0, 1)
        luma = out @ LUMA
        glint = np.clip((luma - 120) / 60, 0, 1)
        mask = ring * (1 - glint) * hull(g, eye, 1.0, 0.98)
        rim_dark = 1 - 0.45 * np.clip((d - 0.72) / 0.28, 0, 1)
        shade = (0.45 + luma / 110.0) * rim_dark
        tint = np.array(look.iris, np.float32) * shade[..., None]
        out = warp.over(out, np.asarray(tint, np.float32), np.asarray(mask * 0.85, np.float32))
    return out


def _marks(image: Image, g: Points, look: Look) -> Image:
    """Stubble and freckles: specks that darken the skin."""
    rng = np.random.default_rng(look.seed + 5)
    yy, xx = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    oval = hull(g, OVAL, 9.0, 0.97)
    if look.stubble:
        lips = hull(g, OUTER_LIPS, 3.0, 1.08)
        v = (yy - g[2, 1]) / (g[152, 1] - g[2, 1])
        u = np.abs(xx - g[152, 0]) / (g[454, 0] - g[234, 0])
        zone = np.clip((v + 0.35 * u - 0.10) / 0.28, 0, 1) * np.clip(1.3 - v * 0.2, 0, 1)
        cheek = np.clip(1 - np.exp(-(((v - 0.25) / 0.3) ** 2) - (((u - 0.24) / 0.1) ** 2)), 0, 1)
        zone = zone * cheek * warp.blur(oval, 5.0) * (1 - lips)
        specks = cv2.GaussianBlur(rng.standard_normal(SIZE).astype(np.float32), (0, 0), 0.9)
        specks = np.clip(specks / specks.std() - 0.3, 0, 1.6)
        amount = np.clip(zone * look.stubble * (0.26 + 0.13 * specks), 0, 0.6)
        dark = np.minimum(image, np.array(look.brow_colour, np.float32) * 1.2)
        image = warp.over(image, np.asarray(dark, np.float32), np.asarray(amount, np.float32))
    if look.freckles:
        dots = np.zeros(SIZE, np.float32)
        for _ in range(int(150 * look.freckles)):
            x, y = rng.normal(g[4, 0], 62), rng.normal(g[4, 1] - 14, 26)
            cv2.circle(
                dots,
                (round(x), round(y)),
                int(rng.integers(1, 3)),
                float(rng.uniform(0.2, 0.7)),
                -1,
            )
        dots = warp.blur(dots, 0.9) * oval * 0.5
        image = np.asarray(image * (1 - dots[..., None] * np.array([0.18, 0.34, 0.42])), np.float32)
    return image


def apply(head: Head, neck: Image, look: Look) -> tuple[Head, Image]:
    """Give a head and its neck the colours of a look."""
    g = head.points
    image = _marks(head.image, g, replace(look, stubble=0.0))
    toned = _retone(image, look)
    eyes = np.maximum(hull(g, RIGHT_EYE, 1.5, 0.86), hull(g, LEFT_EYE, 1.5, 0.86))
    image = warp.over(toned, image, np.asarray(eyes * 0.7, np.float32))
    lips = hull(g, OUTER_LIPS, 2.5, 0.98)
    image = np.asarray(image + lips[..., None] * np.array(look.lips, np.float32), np.float32)
    image = _marks(image, g, replace(look, freckles=0.0))
    image = _irises(_brows(image, g, look), g, look)
    image = warp.over(image, _dye(head.image, look), head.hair)
    return replace(head, image=np.clip(image, 0, 255)), _retone(neck, look)
