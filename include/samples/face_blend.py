"""A new face from two portraits: blended geometry, changed features, a collage of textures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import hair, sources, warp
from include.samples.warp import Image, Points

OVAL = [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67,
        109]  # fmt: skip
OUTER_LIPS = [61, 146, 91, 181, 84, 17, 314, 405, 321, 375,
              291, 409, 270, 269, 267, 0, 37, 39, 40, 185]  # fmt: skip
UPPER_INNER = [78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308]
LOWER_INNER = [95, 88, 178, 87, 14, 317, 402, 318, 324]
UPPER_OUTER = [185, 40, 39, 37, 0, 267, 269, 270, 409]
LOWER_OUTER = [146, 91, 181, 84, 17, 314, 405, 321, 375]
INNER_LIPS = [78, 95, 88, 178, 87, 14, 317, 402, 318, 324,
              308, 415, 310, 311, 312, 13, 82, 81, 80, 191]  # fmt: skip
AROUND_LIPS = [164, 393, 391, 322, 410, 287, 273, 335, 406, 313,
               18, 83, 182, 106, 43, 57, 186, 92, 165, 167]  # fmt: skip
RIGHT_EYE = [33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246]
LEFT_EYE = [263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466]
RIGHT_BROW = [70, 63, 105, 66, 107, 55, 65, 52, 53, 46]
LEFT_BROW = [300, 293, 334, 296, 336, 285, 295, 282, 283, 276]
NOSE = [6, 197, 195, 5, 4, 1, 2, 98, 327, 64, 294, 129, 358, 48, 278, 102, 331, 115, 344]
RIGID = [33, 133, 362, 263, 168, 6, 197, 1, 4, 127, 356, 234, 454, 10, 151]

SIZE = (960, 1024)
"""Height and width of the working canvas."""
EYES_AT = (512.0, 372.0)
"""Where the point between the eyes is on the canvas."""
FACE_HEIGHT = 330.0
"""Forehead to chin, by landmarks, on the canvas."""


@dataclass(frozen=True)
class Features:
    """How a face differs from the blend of its sources; 1 (or 0 for shifts) changes nothing."""

    geometry: float = 0.5
    """0 is the astronaut's shape, 1 the admiral's."""
    nose_texture: float = 0.6
    """How much of the admiral's nose is seen."""
    lip_texture: float = 0.3
    """How much of the admiral's lips is seen."""
    lower_texture: float = 0.0
    """How much of the admiral's cheeks and chin is seen: age."""
    smooth: float = 0.8
    """How much of the admiral's wrinkles is taken away."""
    jaw: float = 1.0
    length: float = 1.0
    eye: float = 1.0
    eye_gap: float = 0.0
    eye_tilt: float = 0.0
    brow_raise: float = 0.0
    nose: float = 1.0
    nose_length: float = 1.0
    mouth: float = 1.0
    lips: float = 1.0
    cheek: float = 1.0
    chin: float = 0.0
    hair_wide: float = 1.0
    hair_tall: float = 1.0
    hair_long: float = 1.0
    """How many times longer than the astronaut's the hair is below the eyes."""


def _upright(pts: Points) -> Points:
    """Rotate, scale and shift landmarks so that the eyes are level and on their place."""
    right, left = pts[RIGHT_EYE, :2].mean(0), pts[LEFT_EYE, :2].mean(0)
    d = left - right
    angle = -float(np.arctan2(d[1], d[0]))
    c, s = np.cos(angle), np.sin(angle)
    rot = np.array([[c, -s], [s, c]], np.float32)
    q = (pts[:, :2] - (right + left) / 2) @ rot.T
    scale = FACE_HEIGHT / float(np.ptp(q[:, 1]))
    q = q * scale + np.array(EYES_AT, np.float32)
    return np.hstack([q, pts[:, 2:] * scale]).astype(np.float32)


def _scaled(pts: Points, idx: list[int], sx: float, sy: float, reach: float) -> Points:
    """Scale what is near a feature about its centre, fading with distance (in feature widths)."""
    centre = pts[idx, :2].mean(0)
    width = float(np.ptp(pts[idx, 0]))
    d = np.linalg.norm(pts[:, :2] - centre, axis=1) / (width * reach)
    k = np.exp(-(d**2))[:, None]
    out = pts.copy()
    out[:, :2] += (pts[:, :2] - centre) * (np.array([sx, sy], np.float32) - 1) * k
    return out


def _moved(pts: Points, idx: list[int], shift: tuple[float, float], reach: float) -> Points:
    centre = pts[idx, :2].mean(0)
    width = float(np.ptp(pts[idx, 0]))
    k = np.exp(-((np.linalg.norm(pts[:, :2] - centre, axis=1) / (width * reach)) ** 2))[:, None]
    out = pts.copy()
    out[:, :2] += np.array(shift, np.float32) * k
    return out


def geometry(f: Features) -> Points:
    """Landmarks of the new face on the canvas, float32 [478, 3]; z is relative, in pixels."""
    a, h = _upright(sources.astronaut().points), _upright(sources.admiral().points)
    mouth = a[OUTER_LIPS, :2].mean(0) * 0.5 + h[OUTER_LIPS, :2].mean(0) * 0.5
    d = (a[:, :2] - mouth) / (0.30 * FACE_HEIGHT, 0.22 * FACE_HEIGHT)
    near = np.exp(-(d**2).sum(1))
    near[OUTER_LIPS + INNER_LIPS] = 1.0
    w = (f.geometry + (1 - f.geometry) * near)[:, None]
    g = (a * (1 - w) + h * w).astype(np.float32)
    g = _scaled(g, OUTER_LIPS, f.mouth, f.lips, 0.75)
    for up, low in zip(UPPER_INNER[1:-1], LOWER_INNER, strict=True):
        g[[up, low]] = g[[up, low]].mean(0)
    g = _scaled(g, NOSE, f.nose, f.nose_length, 0.9)
    for idx, side in ((RIGHT_EYE, -1.0), (LEFT_EYE, 1.0)):
        g = _scaled(g, idx, f.eye, f.eye, 0.9)
        g = _moved(g, idx, (side * f.eye_gap, 0.0), 1.0)
    outer = g[[33, 263], :2].copy()
    for p in outer:
        k = np.exp(-((np.linalg.norm(g[:, :2] - p, axis=1) / 34) ** 2))
        g[:, 1] -= f.eye_tilt * k
    for idx in (RIGHT_BROW, LEFT_BROW):
        g = _moved(g, idx, (0.0, -f.brow_raise), 0.6)
    cx, cy = EYES_AT
    v = (g[:, 1] - cy) / FACE_HEIGHT
    g[:, 0] += (g[:, 0] - cx) * (f.jaw - 1) * np.clip(v * 1.9 - 0.25, 0, 1)
    g[:, 0] += (g[:, 0] - cx) * (f.cheek - 1) * np.exp(-(((v - 0.18) / 0.2) ** 2))
    g[:, 1] += (g[:, 1] - cy) * (f.length - 1)
    g[:, 1] += f.chin * np.clip((v - 0.45) / 0.25, 0, 1)
    return g


LOBES = [
    (-239, -112),
    (-236, -22),
    (-209, 23),
    (-174, 46),
    (233, -82),
    (221, -2),
    (186, 53),
    (156, 73),
]
"""Outline of the astronaut's hair beside the face, from between the eyes, in canvas pixels."""


def _anchors(src: Points, dst: Points, f: Features) -> tuple[Points, Points]:
    """Points around the face that keep the rest of the picture in one piece and shape the hair."""
    m = warp.similarity(dst[RIGID, :2], src[RIGID, :2])
    centre = np.array(EYES_AT)
    ang = np.arange(0, 2 * np.pi, np.pi / 8)
    ring = np.stack([np.cos(ang), np.sin(ang)], -1) * FACE_HEIGHT
    far = np.concatenate([ring * r for r in (1.6, 2.4)])
    top = np.stack([np.cos(a := np.arange(1.2, 1.85, 0.1) * np.pi), np.sin(a)], -1)
    top = top * (236.0, 216.0) - (0.0, 52.0)
    lobes = np.array(LOBES, np.float64)
    read = np.concatenate([far, top, lobes]) + centre
    shaped = np.concatenate([top * (f.hair_wide, f.hair_tall), lobes * (f.hair_wide, 1)])
    show = np.concatenate([far, shaped]) + centre
    return show.astype(np.float32), warp.apply(m, read.astype(np.float32))


def maps(portrait: sources.Portrait, target: Points, skip: list[int], f: Features) -> warp.Maps:
    """Where to read a whole portrait so that its face takes the target's shape."""
    keep = np.setdiff1d(np.arange(468), skip)
    show, read = _anchors(portrait.points, target, f)
    dst = np.concatenate([target[keep, :2], show])
    src = np.concatenate([portrait.points[keep, :2], read])
    return warp.field(dst, src, SIZE, smoothing=2.0)


def _half(target: Points, skip: list[int], push: float, f: Features) -> Image:
    """Warp for one lip, with the lip's inner edge read a little inside it, clear of the teeth."""
    rgb, pts = sources.astronaut().image, sources.astronaut().points.copy()
    inner = UPPER_INNER[1:-1] if push < 0 else LOWER_INNER
    pts[inner, 1] += push
    return warp.sample(rgb, maps(sources.Portrait(rgb, pts), target, skip, f))


def _closed(target: Points, base: Image, f: Features) -> Image:
    """Close the astronaut's smile: each lip is warped by itself and they meet on a line."""
    upper = _half(target, LOWER_INNER + LOWER_OUTER, -3.0, f)
    lower = _half(target, UPPER_INNER + UPPER_OUTER, 4.0, f)
    line = target[UPPER_INNER, :2]
    left, right = line[0], line[-1]
    span = (right - left) * 0.7
    path = np.concatenate([[left - span], line, [right + span]])
    yy, xx = np.mgrid[0 : SIZE[0], 0 : SIZE[1]].astype(np.float32)
    below = yy - np.interp(xx, path[:, 0], path[:, 1]).astype(np.float32)
    side = np.maximum(np.maximum(left[0] - xx, xx - right[0]), 0)
    width = 1.3 + side * 0.35
    join = 1 / (1 + np.exp(-np.clip(below / width, -30, 30)))
    both = warp.over(upper, lower, np.asarray(join, np.float32))
    inside = np.clip(1 - side / 3, 0, 1) * np.clip((right[0] - left[0]) / 40, 0, 1)
    # what is left of her teeth along the line becomes lip
    lip = np.median(both[hull(target, OUTER_LIPS, 0.0, 0.9) > 0.5], axis=0)
    line_mask = np.exp(-((below / 4.5) ** 4)) * inside
    both = warp.over(both, np.minimum(both, lip), np.asarray(line_mask, np.float32))
    crease = np.exp(-((below / 1.9) ** 2)) * inside
    shade = np.array([0.50, 0.60, 0.58], np.float32)
    both = both * (1 - crease[..., None] * shade)
    mask = hull(target, AROUND_LIPS, 5.0, 1.0)
    return warp.over(base, np.asarray(both, np.float32), mask)


def hull(pts: Points, idx: list[int], feather: float, grow: float = 1.0) -> npt.NDArray[np.float32]:
    """Soft mask of the convex hull of some landmarks."""
    p = cv2.convexHull(pts[idx, :2].astype(np.float32))[:, 0]
    c = p.mean(0)
    return warp.polygon(c + (p - c) * grow, SIZE, feather)


def _softened(face: Image, amount: float) -> Image:
    """Take wrinkles out: keep the broad light and the fine grain, lose what lies between."""
    fine = face - warp.blur(face, 1.2)
    broad = warp.blur(face, 9.0)
    middle = face - fine - broad
    return np.asarray(broad + middle * (1 - amount) + fine * (1 - 0.5 * amount), np.float32)


@dataclass(frozen=True)
class Head:
    """A new head on the canvas; everything float32 and [h, w] or [h, w, 3]."""

    image: Image
    alpha: npt.NDArray[np.float32]
    hair: npt.NDArray[np.float32]
    points: Points


def blend(f: Features) -> Head:
    """Make the new face within the astronaut's hair."""
    g = geometry(f)
    rgb, alpha = hair.head()
    where = maps(sources.astronaut(), g, INNER_LIPS, f)
    layers = warp.sample(np.dstack([alpha, hair.hair_mask()]).astype(np.float32), where, True)
    a = _closed(g, warp.sample(rgb, where), f)
    h = warp.sample(sources.admiral().image, maps(sources.admiral(), g, [], Features()))
    oval = hull(g, OVAL, 6.0, 0.97)
    # light from one portrait only; the other's glasses must not tint it
    lit = warp.masked_blur(a, oval, 18.0)
    own = warp.masked_blur(h, oval, 18.0)
    lip_core = hull(g, OUTER_LIPS, 2.0, 1.04)
    soft = warp.over(_softened(h, f.smooth), h, lip_core)
    matched = soft - own + lit
    nose = hull(g, NOSE, 7.0, 1.08) * f.nose_texture
    around = hull(g, AROUND_LIPS, 7.0, 1.06) * f.lip_texture
    lower = np.zeros(SIZE, np.float32)
    if f.lower_texture:
        yy = np.mgrid[0 : SIZE[0], 0 : SIZE[1]][0]
        below = np.clip((yy - g[5, 1] + 10) / 60, 0, 1)
        inner = hull(g, OVAL, 12.0, 0.90)
        lower = np.asarray(inner * below * f.lower_texture, np.float32)
    mask = np.maximum(np.maximum(nose, around), lower)
    face = warp.collage(a, matched, np.asarray(mask, np.float32), 4)
    return Head(face, np.clip(layers[..., 0], 0, 1), np.clip(layers[..., 1], 0, 1), g)
