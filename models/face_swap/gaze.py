"""Eyes: the recipient's irises where the presenter looks, the presenter's lids in a blink."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import geometry, topology
from models.face_swap import blend
from models.face_swap.reference import ColourReference
from models.face_swap.warp import Map

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
Points = NDArray[np.float32]

EYES = (topology.LEFT_EYE, topology.RIGHT_EYE)
IRIS_CENTRES = (int(topology.LEFT_IRIS[0]), int(topology.RIGHT_IRIS[0]))

LIDS_CLOSING = (0.40, 0.72)
"""Lid gap over its usual one: the presenter's lids at the first, the recipient's at the last."""

USUALLY_WIDER = (1.25, 1.6)
"""The shot's usual lid gap over the photo's, from which the presenter's eyeballs show, and where
they have taken over: a photo's iris cannot be stretched far, and shut eyes have none. It is the
same for both eyes and all of a shot, lest eyes change colour in the middle."""

WIDE_OPEN = (1.9, 2.4)
"""The same for the lid gap of one frame, over the photo's."""

REACH = 0.30
"""Radius, over the eye's width, of what moves with the iris."""

MOST = 0.22
"""Farthest that an iris is moved, over the eye's width."""


def locate_irises(seen: Map, layout: Points, source: Points) -> Float:
    """Where the photo's irises lie in a layout: float32 [2, 2].

    Args:
        seen: the map from the layout to the photo.
        layout: float32 [478, 2 or 3] landmarks of the layout.
        source: float32 [478, 2 or 3] landmarks of the photo.
    """
    found = np.zeros((2, 2), np.float32)
    for side, (outline, centre) in enumerate(zip(EYES, IRIS_CENTRES, strict=True)):
        low = np.maximum(np.floor(layout[outline, :2].min(0)).astype(int), 0)
        high = np.ceil(layout[outline, :2].max(0)).astype(int) + 1
        part = slice(low[1], high[1]), slice(low[0], high[0])
        apart = np.hypot(seen.x[part] - source[centre, 0], seen.y[part] - source[centre, 1])
        # The nearest few cells, averaged: finer than a pixel.
        weight = np.exp(-apart / max(float(apart.min()), 0.5))
        y, x = np.indices(apart.shape)
        total = weight.sum()
        found[side] = low + np.array([(x * weight).sum(), (y * weight).sum()]) / total
    return found


def follow(seen: Map, points: Points, irises: Float) -> Map:
    """Shift the map inside the eyes so that the photo's irises sit where the presenter looks.

    Args:
        seen: map from the frame to the layout.
        points: float32 [478, 2 or 3] landmarks in the frame.
        irises: float32 [2, 2] from `locate_irises`.
    """
    x, y = seen.x.copy(), seen.y.copy()
    for outline, centre, iris in zip(EYES, IRIS_CENTRES, irises, strict=True):
        lids, looks = points[outline, :2], points[centre, :2]
        reach = float(np.linalg.norm(lids[0] - lids[8]))
        window = eye_window(lids, reach * 0.1, x.shape)
        if window is None or reach < 4:
            continue
        x0, y0, x1, y1 = window
        part = slice(y0, y1), slice(x0, x1)
        at = (float(looks[0]), float(looks[1]))
        now = np.array([cv2.getRectSubPix(plane, (1, 1), at)[0, 0] for plane in (seen.x, seen.y)])
        texels = float(np.ptp(seen.x[part]))
        shift = now - iris
        shift *= min(1.0, MOST * texels / max(float(np.linalg.norm(shift)), 1e-6))
        weight = iris_weight(lids, looks, reach, window)
        x[part] -= shift[0] * weight
        y[part] -= shift[1] * weight
    return Map(x, y, seen.cover)


def cut_eyes(
    keep: Image, points: Points, reference: ColourReference, photo_open: tuple[float, float]
) -> None:
    """Take out of a mask, in place, what the presenter's own eyes show.

    Args:
        keep: uint8 [h, w].
        points: float32 [478, 2 or 3] landmarks in the frame.
        reference: the shot.
        photo_open: lid gap over eye width in the photo, (left, right).
    """
    eye = geometry.interocular(points)
    gaps = geometry.eye_openness(points)
    photo = max(sum(photo_open) / 2, 0.02)
    wider = blend.ramp(sum(reference.eyes_open) / 2 / photo, *USUALLY_WIDER)
    stretched = max(wider, blend.ramp(sum(gaps) / 2 / photo, *WIDE_OPEN))
    for outline, gap, usual in zip(EYES, gaps, reference.eyes_open, strict=True):
        lids = points[outline, :2]
        closing = 1 - blend.ramp(gap / max(usual, 0.05), *LIDS_CLOSING)
        if closing > 0:
            blend.cut(keep, _socket(lids), 0.05 * eye, amount=closing)
        if stretched > 0:
            blend.cut(keep, lids, 0.012 * eye, amount=stretched)


def _socket(lids: Float) -> Float:
    """Ellipse over the lids and the socket: lids reach farther up than down from the slit."""
    (cx, cy), half = lids.mean(0), np.ptp(lids[:, 0]) / 2
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([cx + 1.15 * half * np.cos(angles),
                     cy - 0.10 * half + 0.75 * half * np.sin(angles)], axis=1)  # fmt: skip
    return np.asarray(ring, np.float32)


def iris_weight(
    lids: Float, looks: Float, reach: float, window: tuple[int, int, int, int]
) -> Float:
    """How much each pixel of the window moves with the iris: nothing at the lids and beyond."""
    x0, y0, x1, y1 = window
    inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(
        inside, [np.round((lids - [x0, y0]) * 16).astype(np.int32)], (255,), cv2.LINE_AA, 4
    )
    soft = cv2.GaussianBlur(inside, (0, 0), max(0.03 * reach, 0.7)).astype(np.float32) / 255
    y, x = np.indices(inside.shape, dtype=np.float32)
    apart = (x + x0 - looks[0]) ** 2 + (y + y0 - looks[1]) ** 2
    return np.asarray(soft * np.exp(-apart / (2 * (REACH * reach) ** 2)), np.float32)


def eye_window(lids: Float, pad: float, shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of an eye and ``pad`` pixels around it; None outside ``shape``."""
    low, high = np.floor(lids.min(0) - pad).astype(int), np.ceil(lids.max(0) + pad).astype(int) + 1
    x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
    x1, y1 = min(int(high[0]), shape[1]), min(int(high[1]), shape[0])
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None
