"""A rendered picture against the plate that it was made from."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]


def outside_difference(shown: U8, plate: U8, window: tuple[slice, slice]) -> float:
    """Mean absolute difference outside the window that may differ, in code values.

    Args:
        shown: uint8 [h, w], luma as delivered.
        plate: uint8 [h, w], luma of the plate's same frame.
        window: rows and columns that may differ.

    Returns:
        0 where the window is the whole picture.
    """
    apart = np.array(cv2.absdiff(np.ascontiguousarray(shown), np.ascontiguousarray(plate)))
    apart[window] = 0
    return float(apart.sum(dtype=np.int64) / max(1, apart.size - apart[window].size))


def sharpness_ratio(shown: U8, plate: U8, outline: F32) -> float | None:
    """Detail of a face as delivered over the plate's: under 1 the render is softer.

    Standard deviation of the Laplacian inside the face's outline over that of the grey levels
    there, so that another skin is no other sharpness.

    Args:
        shown: uint8 [h, w], luma.
        plate: uint8 [h, w], luma of the same frame and place.
        outline: float32 [n, 2], the face's outline in pixels of both.

    Returns:
        None where the outline holds no pixel of the picture.
    """
    inside = np.zeros(shown.shape, np.uint8)
    centre = outline.mean(0)
    cv2.fillConvexPoly(inside, np.round((outline - centre) * 0.85 + centre).astype(np.int32), (1,))
    if not inside.any():
        return None
    return _detail(shown, inside) / max(_detail(plate, inside), 1e-6)


def _detail(grey: U8, inside: U8) -> float:
    smooth = cv2.GaussianBlur(np.ascontiguousarray(grey), (3, 3), 0)  # the codec's noise is none
    fine = cv2.Laplacian(smooth, cv2.CV_32F, ksize=3)[inside > 0]
    return float(fine.std() / max(float(smooth[inside > 0].std()), 1.0))
