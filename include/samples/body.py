"""Neck, shoulders and clothes: a photographed neck, clothes drawn with cloth-like shading."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import sources, warp
from include.samples.face_blend import FACE_HEIGHT, RIGID, SIZE, Head
from include.samples.warp import Image, Points

Mask = npt.NDArray[np.float32]
Colour = tuple[float, float, float]

CHIN = 152
# half of a torso, relative to the chin, x outwards; measured in face heights
SHOULDER = [
    (0.300, -0.30), (0.300, -0.12), (0.318, 0.0), (0.385, 0.085), (0.52, 0.165), (0.70, 0.215),
    (0.88, 0.255), (1.00, 0.31), (1.065, 0.40), (1.10, 0.55), (1.13, 0.75), (1.17, 1.05),
    (1.20, 1.4),
]  # fmt: skip


LAPEL = [
    (0.315, -0.02), (0.40, 0.10), (0.43, 0.30), (0.52, 0.42), (0.40, 0.49), (0.44, 0.60),
    (0.30, 0.95), (0.05, 1.32), (0.0, 1.4), (0.08, 1.05), (0.22, 0.6), (0.30, 0.3),
]  # fmt: skip
FLAP = [
    (0.285, -0.14), (0.335, -0.02), (0.42, 0.12), (0.37, 0.42), (0.30, 0.47), (0.15, 0.36),
    (0.23, 0.18), (0.27, 0.05),
]  # fmt: skip


@dataclass(frozen=True)
class Outfit:
    """Clothes of one person.

    Attributes:
        kind: ``crew`` (a jumper), ``blazer`` (jacket over a plain top) or ``shirt`` (open collar).
        colour: main colour, RGB.
        inner: colour of what shows beneath it.
        width: shoulders; 1 is average.
        texture: how coarse the cloth is, 0..1.
    """

    kind: str = "crew"
    colour: Colour = (70, 90, 120)
    inner: Colour = (236, 234, 230)
    width: float = 1.17
    texture: float = 0.5


def _noise(seed: int, sx: float, sy: float, angle: float = 0.0) -> Mask:
    """Smooth noise of unit deviation, stretched along one direction."""
    rng = np.random.default_rng(seed)
    h, w = SIZE
    n = 1408
    raw = rng.standard_normal((n // 4, n // 4)).astype(np.float32)
    soft = cv2.GaussianBlur(raw, (0, 0), sigmaX=max(sx / 4, 0.3), sigmaY=max(sy / 4, 0.3))
    m = cv2.getRotationMatrix2D((n / 8, n / 8), angle, 4.0)
    m[:, 2] += (w / 2 - n / 8, h / 2 - n / 8)
    out = cv2.warpAffine(soft, m, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(out / (out.std() + 1e-6), np.float32)


def _spline(pts: list[tuple[float, float]], n: int = 12) -> Points:
    """Catmull-Rom curve through points, float32 [m, 2]."""
    p = np.asarray(pts, np.float64)
    p = np.vstack([2 * p[0] - p[1], p, 2 * p[-1] - p[-2]])
    t = np.linspace(0, 1, n, endpoint=False)[:, None]
    out = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        out.append(
            0.5
            * (
                2 * b
                + (c - a) * t
                + (2 * a - 5 * b + 4 * c - d) * t**2
                + (3 * b - a - 3 * c + d) * t**3
            )
        )
    return np.vstack([*out, p[-2:-1]]).astype(np.float32)


class Tailor:
    """Draws in face heights relative to a chin, on the canvas."""

    def __init__(self, chin: tuple[float, float], width: float) -> None:
        self.x, self.y = chin
        self.width = width

    def at(self, pts: list[tuple[float, float]] | Points, side: float = 1.0) -> Points:
        """Canvas coordinates of a curve on the right (1) or mirrored (-1)."""
        p = np.asarray(pts, np.float32) * FACE_HEIGHT
        return (p * (side, 1.0) + (self.x, self.y)).astype(np.float32)

    def shape(
        self, pts: list[tuple[float, float]], side: float = 1.0, feather: float = 0.7
    ) -> Mask:
        """Filled smooth outline."""
        return warp.polygon(self.at(_spline(pts), side), SIZE, feather)

    def stroke(self, pts: list[tuple[float, float]], side: float, px: float, soft: float) -> Mask:
        """A soft line along a smooth curve, 0..1."""
        img = np.zeros(SIZE, np.uint8)
        line = np.round(self.at(_spline(pts), side) * 16).astype(np.int32)
        cv2.polylines(img, [line], False, 255, max(round(px), 1), cv2.LINE_AA, 4)
        return warp.blur(img.astype(np.float32) / 255, soft)

    def torso(self) -> Mask:
        """Silhouette of neck base, shoulders and arms."""
        half = [(x if x < 0.4 else 0.4 + (x - 0.4) * self.width, y) for x, y in SHOULDER]
        right = self.at(_spline(half), 1.0)
        left = self.at(_spline(half), -1.0)
        return warp.polygon(np.vstack([right, left[::-1]]), SIZE, 0.8)


def shading(mask: Mask, seed: int, texture: float, depth: float = 110.0) -> Mask:
    """How cloth on a rounded form is lit from the upper left: factor around 1, float32 [h, w]."""
    d = cv2.distanceTransform((mask > 0.5).astype(np.uint8), cv2.DIST_L2, 5)
    z = warp.blur(np.asarray(np.sqrt(1 - (1 - np.clip(d / depth, 0, 1)) ** 2), np.float32), 14.0)
    gx, gy = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3), cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3)
    k = depth / 8 * 0.75
    norm = np.sqrt((gx * k) ** 2 + (gy * k) ** 2 + 1)
    light = (0.38 * gx * k + 0.55 * gy * k + 0.75) / norm
    folds = 0.026 * _noise(seed, 13, 95, 24) + 0.024 * _noise(seed + 1, 12, 90, -22)
    folds += 0.018 * _noise(seed + 2, 60, 120)
    rng = np.random.default_rng(seed + 3)
    grain = cv2.GaussianBlur(rng.standard_normal(SIZE).astype(np.float32), (0, 0), 0.8)
    weave = texture * 0.04 * grain / grain.std()
    return np.asarray(
        np.clip(0.42 + 0.66 * light, 0.25, 1.2) * (1 + folds) * (1 + weave), np.float32
    )


def _cloth(colour: Colour, shade: Mask) -> Image:
    base = np.asarray(colour, np.float32)
    # highlights of cloth are paler than its shadows, never a pure multiple
    pale = np.clip(shade - 1, 0, 1)[..., None] * 40
    return np.asarray(np.clip(base * shade[..., None] + pale, 0, 255), np.float32)


NECK = [(318, 488), (320, 534), (342, 572), (370, 598), (410, 598), (442, 556), (464, 525),
        (480, 502), (480, 488)]  # fmt: skip
"""The admiral's bare neck, in pixels of her enlarged portrait."""


def neck(head: Head, smooth: float = 0.9) -> Image:
    """The admiral's neck under the new chin, in the colour of the head's own neck."""
    src, g = sources.admiral(), head.points
    m = warp.similarity(src.points[RIGID, :2], g[RIGID, :2])
    m[:, 2] += g[CHIN, :2] - warp.apply(m, src.points[[CHIN], :2])[0] + (0, 6)
    h, w = SIZE
    body = cv2.warpAffine(
        src.image, m, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    bare = warp.polygon(warp.apply(m, np.array(NECK, np.float32)), SIZE, 4.0)
    fine = (body - warp.blur(body, 1.5)) * bare[..., None]
    broad = warp.masked_blur(body, bare, 22.0)
    middle = (warp.masked_blur(body, bare, 1.5) - broad) * bare[..., None]
    out = broad + middle * (1 - smooth) + fine * 0.3
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    cx, cy = g[CHIN, :2]
    own = head.alpha * (yy > cy + 4 - 0.35 * np.abs(xx - cx)) * (np.abs(xx - cx) < 120)
    seen = head.image[own > 0.9]
    tone = seen.mean(0) / out[own > 0.9].mean(0)
    # round: darker towards both sides, and in the chin's shadow
    across = np.clip(np.abs(xx - cx) / (0.36 * FACE_HEIGHT), 0, 1.3)
    round_off = 1.06 - 0.34 * across**2.2
    chin_shade = 1 - 0.30 * np.exp(-(((yy - cy - 18) / 42) ** 2)) * np.clip(1 - across * 0.5, 0, 1)
    lit = out * tone * (round_off * chin_shade)[..., None]
    return np.asarray(np.clip(lit, 0, 255), np.float32)


def dress(t: Tailor, o: Outfit, skin: Image) -> tuple[Image, Mask]:
    """Clothe a neck.

    Args:
        t: the tailor of this person.
        o: what to wear.
        skin: float32 [h, w, 3], the neck before clothing.

    Returns:
        The clothed body and its alpha.
    """
    torso = t.torso()
    seed = round(sum(o.colour))
    shade = shading(torso, seed, o.texture)
    for side in (-1.0, 1.0):
        seam = t.stroke([(0.93, 0.27), (0.90, 0.48), (0.86, 0.72), (0.85, 1.0)], side, 3, 2.2)
        shade *= 1 - 0.20 * seam
    body = {"crew": _crew, "blazer": _blazer, "shirt": _shirt}[o.kind](t, o, skin, shade, seed)
    return body, torso


def _neckline(t: Tailor, depth: float, wide: float) -> tuple[Mask, list[tuple[float, float]]]:
    half = [
        (wide, -0.02),
        (wide * 0.93, 0.10),
        (wide * 0.66, depth * 0.80),
        (wide * 0.3, depth * 0.97),
        (0.0, depth),
    ]
    curve = half + [(-x, y) for x, y in half[-2::-1]]
    top = [(-wide - 0.03, -0.6), (wide + 0.03, -0.6)]
    mask = warp.polygon(np.vstack([t.at(_spline(curve)), t.at(top)]), SIZE, 0.7)
    return mask, curve


def _crew(t: Tailor, o: Outfit, skin: Image, shade: Mask, seed: int) -> Image:
    inside, curve = _neckline(t, 0.235, 0.30)
    band, outer = _neckline(t, 0.285, 0.345)
    cast = t.stroke(outer, 1.0, 5, 3.0)
    ribs = np.sin(np.mgrid[0 : SIZE[0], 0 : SIZE[1]][1] * 1.15).astype(np.float32)
    collar = np.asarray(shade * (1.03 + 0.035 * ribs), np.float32)
    cloth = _cloth(o.colour, np.asarray(shade * (1 - 0.30 * cast), np.float32))
    cloth = warp.over(cloth, _cloth(o.colour, collar), band)
    edge = t.stroke(curve, 1.0, 4, 2.5)
    skin = np.asarray(skin * (1 - 0.45 * edge[..., None] * np.array([0.8, 1, 1])), np.float32)
    return warp.over(cloth, skin, inside)


def _lapels(t: Tailor, cloth: Image, o: Outfit, shade: Mask) -> Image:
    for side in (-1.0, 1.0):
        p = t.at(LAPEL, side)
        mask = warp.polygon(p, SIZE, 0.7)
        fall = warp.blur(warp.polygon(p + np.array([side * 5, 5], np.float32), SIZE, 1.0), 5.0)
        cloth = np.asarray(cloth * (1 - 0.42 * (fall * (1 - mask))[..., None]), np.float32)
        lit = _cloth(o.colour, np.asarray(shade * (1.10 if side < 0 else 1.02), np.float32))
        cloth = warp.over(cloth, lit, mask)
        notch = t.stroke([(0.30, 0.33), (0.42, 0.44), (0.51, 0.425)], side, 2, 1.0)
        cloth = np.asarray(cloth * (1 - 0.5 * notch[..., None]), np.float32)
    return cloth


def _blazer(t: Tailor, o: Outfit, skin: Image, shade: Mask, seed: int) -> Image:
    under = Outfit("crew", o.inner, o.inner, o.width, 0.25)
    inner_shade = shading(t.torso(), seed + 9, 0.2)
    vee = [(0.34, -0.6), (0.325, -0.05), (0.33, 0.15), (0.25, 0.55), (0.0, 1.35)]
    opening = warp.polygon(np.vstack([t.at(vee), t.at(vee[::-1], -1.0)]), SIZE, 0.8)
    inner_shade = np.asarray(inner_shade * (0.62 + 0.38 * warp.blur(opening, 16.0)), np.float32)
    inner = _crew(t, under, skin, inner_shade, seed + 9)
    jacket = _lapels(t, _cloth(o.colour, shade), o, shade)
    return warp.over(jacket, inner, opening)


def _shirt(t: Tailor, o: Outfit, skin: Image, shade: Mask, seed: int) -> Image:
    vee = [(0.34, -0.6), (0.31, -0.06), (0.285, 0.10), (0.16, 0.36), (0.0, 0.60)]
    opening = warp.polygon(np.vstack([t.at(vee), t.at(vee[::-1], -1.0)]), SIZE, 0.8)
    placket = t.stroke([(0.0, 0.6), (0.012, 1.4)], 1.0, 2, 1.0)
    cloth = _cloth(o.colour, np.asarray(shade * (1 - 0.35 * placket), np.float32))
    inside = np.asarray(skin * (0.72 + 0.28 * warp.blur(opening, 10.0))[..., None], np.float32)
    body = warp.over(cloth, inside, opening)
    for side in (-1.0, 1.0):
        p = t.at(FLAP, side)
        mask = warp.polygon(p, SIZE, 0.7)
        fall = warp.blur(warp.polygon(p + np.array([side * 3, 6], np.float32), SIZE, 1.0), 4.0)
        body = np.asarray(body * (1 - 0.38 * (fall * (1 - mask))[..., None]), np.float32)
        lit = _cloth(o.colour, np.asarray(shade * (1.08 if side < 0 else 1.0), np.float32))
        body = warp.over(body, lit, mask)
    return body
