"""The visible mark of the preview tier: a preview can never be mistaken for a delivery."""

from __future__ import annotations

import cv2
import numpy as np

from include.media.pixels import Yuv420

TEXT = "PREVIEW"


class PreviewMark:
    """A bright, outlined word across the lower third.

    Args:
        size: (width, height) of the frames, pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        width, height = size
        scale, thick = height / 220, max(2, height // 110)
        (text_w, text_h), _ = cv2.getTextSize(TEXT, cv2.FONT_HERSHEY_DUPLEX, scale, thick)
        at = ((width - text_w) // 2, round(height * 0.86) + text_h // 2)
        self._ink = _draw(size, at, scale, thick)
        self._edge = _draw(size, at, scale, thick * 3)

    def draw(self, planes: Yuv420) -> None:
        """Write the word into a frame's luma, half transparent, in place."""
        luma = planes.y.astype(np.float32)
        luma += (16.0 - luma) * (0.5 * self._edge)
        luma += (235.0 - luma) * (0.6 * self._ink)
        planes.y[:] = np.rint(luma).astype(np.uint8)


def _draw(
    size: tuple[int, int], at: tuple[int, int], scale: float, thick: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    canvas = np.zeros((size[1], size[0]), np.uint8)
    cv2.putText(canvas, TEXT, at, cv2.FONT_HERSHEY_DUPLEX, scale, (255,), thick, cv2.LINE_AA)
    return canvas.astype(np.float32) / 255.0
