"""What a face looks like in figures: size, pose, sharpness, skin."""

from __future__ import annotations

from functools import cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import geometry
from models.face.quality import sharpness

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Figures = dict[str, float | None]

FACE_FIGURES = ("face_size", "face_yaw", "face_pitch", "face_roll", "face_sharpness",
                "skin_luminance", "skin_hue")  # fmt: skip
SEARCH_SIDE = 640
"""Longer side in pixels of the picture in which faces are counted: those from about 80 pixels."""
_CHEEKS = (50, 280)
_GREY = 3.0
"""Chroma in CIE Lab below which a hue is noise."""
_CHEEK_RADIUS = 0.12
"""Of a patch of skin, over the eye distance."""


def measure_face(rgb: Image, points: Points) -> Figures:
    """Measure one face: ``FACE_FIGURES``.

    Args:
        rgb: uint8 [h, w, 3], sRGB, the whole picture.
        points: float32 [478, 3] pixels of it.
    """
    pose = geometry.head_pose(points)
    luminance, hue = skin(rgb, points)
    return {
        "face_size": float(np.ptp(points[:, 1])) / rgb.shape[0],
        "face_yaw": abs(pose.yaw),
        "face_pitch": pose.pitch,
        "face_roll": abs(pose.roll),
        "face_sharpness": sharpness(rgb, points),
        "skin_luminance": luminance,
        "skin_hue": hue,
    }


def no_face() -> Figures:
    """The figures where there is no face."""
    return dict.fromkeys(FACE_FIGURES)


def skin(rgb: Image, points: Points) -> tuple[float | None, float | None]:
    """CIE lightness (0 to 100) and hue angle in Lab (degrees) of the cheeks, by their medians.

    Null where both cheeks lie outside the picture; a skin without colour, as in a black and white
    photo, has no hue.
    """
    height, width = rgb.shape[:2]
    radius = max(2, round(_CHEEK_RADIUS * geometry.interocular(points)))
    patches = []
    for x, y in np.round(points[_CHEEKS, :2]).astype(int):
        x0, x1 = max(0, x - radius), min(width, x + radius + 1)
        y0, y1 = max(0, y - radius), min(height, y + radius + 1)
        if x0 < x1 and y0 < y1:
            patches.append(rgb[y0:y1, x0:x1].reshape(-1, 3))
    if not patches:
        return None, None
    pixels = np.concatenate(patches)[None].astype(np.float32) / 255
    light, a, b = np.median(cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0], axis=0)
    if np.hypot(a, b) < _GREY:
        return float(light), None
    return float(light), float(np.degrees(np.arctan2(b, a)))


def count_faces(rgb: Image, at_least: int = 0) -> float:
    """How many faces are seen, by another detector than the one that found the main face.

    dlib's frontal detector (histograms of oriented gradients; King, 2009). It does not see faces
    that are much turned, hence the lower bound.

    Args:
        rgb: uint8 [h, w, 3].
        at_least: faces that are known to be there.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    factor = SEARCH_SIDE / max(grey.shape)
    if factor < 1:
        grey = cv2.resize(grey, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return float(max(at_least, len(_detector()(np.ascontiguousarray(grey), 0))))


@cache
def _detector() -> Any:
    import dlib

    return dlib.get_frontal_face_detector()
