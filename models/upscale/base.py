"""What every single-image upscaler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


class Upscaler(ABC):
    """Enlarges one picture by a whole factor, every pixel from its neighbourhood only.

    Results do not depend on where a window lies: upscaling a window that reaches
    `receptive_field` pixels beyond the wanted ones, or to the frame's edge where that is nearer,
    gives the pixels that upscaling the whole frame gives. The wanted pixels and the window must
    start, and end unless at the frame's edge, on multiples of `alignment`, as every
    `models.face.roi.Window` does. Beyond the frame's edge its outermost pixels are repeated.
    Results do not depend on the number of threads.
    """

    name: str
    """Backend name as in `models.upscale.BACKENDS`."""
    scale: int
    """Output pixels per input pixel along each side: 2 or 4."""
    receptive_field: int
    """Radius in input pixels, a multiple of `alignment`: how far an aligned window's output looks
    beyond it."""
    alignment: int = 1
    """Side in input pixels of the blocks that a window must not cut: 1 or 2."""

    @abstractmethod
    def upscale(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Enlarge one picture.

        Args:
            rgb: uint8 [h, w, 3], h and w at least 1.

        Returns:
            A new uint8 [h * scale, w * scale, 3].

        Raises:
            ValueError: not such a picture.
        """

    def upscale_part(
        self, rgb: npt.NDArray[np.uint8], part: tuple[int, int, int, int]
    ) -> npt.NDArray[np.uint8]:
        """Enlarge a part of a picture: what `upscale` gives there, without working out the rest.

        Args:
            rgb: uint8 [h, w, 3].
            part: top, left, bottom, right in the picture's pixels; aligned as a window is.

        Returns:
            A new uint8 [(bottom - top) * scale, (right - left) * scale, 3].

        Raises:
            ValueError: as `upscale`.
        """
        top, left, bottom, right = (side * self.scale for side in part)
        return np.ascontiguousarray(self.upscale(rgb)[top:bottom, left:right])

    def batch(self, height: int, width: int) -> int:
        """How many pictures of a size it works on at once; more wait in memory for nothing."""
        return 1

    def upscale_many(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        """Enlarge pictures of one size.

        On the CPU each is what `upscale` makes of it, byte for byte. On a GPU the size of a batch
        can choose another algorithm: at most one code value apart.

        Raises:
            ValueError: as `upscale`, or not of one size.
            MemoryError: the device has no room for a single one.
        """
        return [self.upscale(rgb) for rgb in frames]

    def upscale_parts(
        self, frames: Sequence[npt.NDArray[np.uint8]], part: tuple[int, int, int, int]
    ) -> list[npt.NDArray[np.uint8]]:
        """Enlarge the same part of pictures of one size: `upscale_part`, as `upscale_many`."""
        return [self.upscale_part(rgb, part) for rgb in frames]


def check_picture(rgb: npt.NDArray[np.uint8]) -> None:
    """Refuse what is not a uint8 [h, w, 3] picture with at least one pixel."""
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.size == 0:
        raise ValueError(f"an upscaler takes uint8 [h, w, 3], not {rgb.dtype} {list(rgb.shape)}")
