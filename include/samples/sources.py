"""The two public-domain portraits that sample people start from, as installed packages ship them.

Both are works of the United States government: NASA's portrait of an astronaut (scikit-image) and
the Navy's portrait of Rear Admiral Hopper (Matplotlib). Nobody in the sample media is either of
them; the tests hold a distance.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import mediapipe as mp
import numpy as np
import numpy.typing as npt
import skimage.data

from include.samples.warp import Image, Points


@dataclass(frozen=True)
class Portrait:
    """A source picture, enlarged, with its landmarks.

    Attributes:
        image: float32 [h, w, 3], RGB 0..255.
        points: float32 [478, 3], pixels of ``image``; z in the same unit, smaller is nearer.
    """

    image: Image
    points: Points


def detect(rgb: npt.NDArray[np.uint8]) -> Points:
    """Find the one face of a picture: float32 [478, 3]."""
    with mp.solutions.face_mesh.FaceMesh(
        static_image_mode=True, refine_landmarks=True, min_detection_confidence=0.2
    ) as mesh:
        found = mesh.process(rgb).multi_face_landmarks
    h, w = rgb.shape[:2]
    if not found:
        msg = "no face in a picture that must have one: report this as a bug"
        raise ValueError(msg)
    return np.array([(p.x * w, p.y * h, p.z * w) for p in found[0].landmark], np.float32)


def _load(rgb: npt.NDArray[np.uint8], scale: float, box: tuple[int, int, int, int]) -> Portrait:
    big = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_LANCZOS4)
    x0, y0, x1, y1 = (round(v * scale) for v in box)
    pts = detect(np.ascontiguousarray(big[y0:y1, x0:x1]))
    pts[:, :2] += (x0, y0)
    return Portrait(big.astype(np.float32), pts)


@cache
def astronaut() -> Portrait:
    """The astronaut, enlarged three times: a face about 320 pixels tall."""
    rgb = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
    return _load(rgb, 3.0, (110, 0, 370, 260))


@cache
def admiral() -> Portrait:
    """The admiral, enlarged one and a half times: a face about 310 pixels tall."""
    path = Path(matplotlib.__file__).parent / "mpl-data/sample_data/grace_hopper.jpg"
    bgr = cv2.imread(str(path))
    return _load(np.ascontiguousarray(bgr[..., ::-1]), 1.5, (80, 40, 440, 400))
