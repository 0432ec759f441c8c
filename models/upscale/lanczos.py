"""Lanczos interpolation: the preview tier, the fallback, and what `compact` is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from models.upscale.base import Upscaler, check_picture

if TYPE_CHECKING:
    import numpy.typing as npt


class Lanczos(Upscaler):
    """OpenCV's 8x8 Lanczos filter (``INTER_LANCZOS4``), computed in integers and so exact.

    Args:
        scale: 2 or 4, in one step.
    """

    name = "lanczos"
    receptive_field = 4

    def __init__(self, scale: int) -> None:
        self.scale = scale

    def upscale(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """See `Upscaler.upscale`."""
        check_picture(rgb)
        size = (rgb.shape[1] * self.scale, rgb.shape[0] * self.scale)
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LANCZOS4), np.uint8)
