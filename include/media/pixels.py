"""The one conversion between video (yuv420p, BT.709, limited range) and 8-bit RGB.

Every stage that turns pixels into video or back goes through these functions, so that a frame and
a window of it get the same code values. Three choices make that hold bit for bit:

* Chroma is centre-sited: a chroma sample is the rounded mean of its own 2x2 block and of nothing
  else. A window whose corner and size are even therefore owns all that its chroma is made of.
* Coefficients are integers over 1024, so every intermediate is exact in float32 and in the 16-bit
  fixed point that OpenCV takes on some processors: both give the same integer.
* The offset carries an extra 2^-12, which breaks ties upwards on both paths (float rounds half to
  even, fixed point rounds half up).

Matrix: ITU-R BT.709-6, section 3; quantisation to 16..235 and 16..240, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from include.errors import Bug

U8 = npt.NDArray[np.uint8]

# Rows of RGB -> YCbCr in 1/1024; the chroma rows sum to 0, so greys stay exactly grey.
_FORWARD = np.array([[187, 629, 63], [-103, -347, 450], [450, -409, -41]], dtype=np.int64)
_FORWARD_OFFSET = np.array([16, 128, 128], dtype=np.int64) * 1024
# Rows of YCbCr -> RGB in 1/1024.
_INVERSE = np.array([[1192, 0, 1836], [1192, -218, -546], [1192, 2163, 0]], dtype=np.int64)
_INVERSE_OFFSET = -_INVERSE @ np.array([16, 128, 128], dtype=np.int64)
_TIE = 2.0**-12


def as_u8(array: npt.NDArray[Any]) -> U8:
    """Tell the type checker that OpenCV gave bytes back; copies nothing."""
    return np.asarray(array, dtype=np.uint8)


def _affine(
    matrix: npt.NDArray[np.int64], offset: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    return np.concatenate([matrix / 1024.0, (offset / 1024.0 + _TIE)[:, None]], axis=1)


_RGB_TO_YUV = _affine(_FORWARD, _FORWARD_OFFSET)
_YUV_TO_RGB = _affine(_INVERSE, _INVERSE_OFFSET)


@dataclass(frozen=True, slots=True, eq=False)
class Yuv420:
    """One 8-bit yuv420p frame, BT.709 limited range, chroma centre-sited.

    Attributes:
        y: luma, uint8 [h, w]; h and w are even.
        u: Cb, uint8 [h/2, w/2].
        v: Cr, uint8 [h/2, w/2].
    """

    y: U8
    u: U8
    v: U8

    @property
    def height(self) -> int:
        """Luma rows."""
        return int(self.y.shape[0])

    @property
    def width(self) -> int:
        """Luma columns."""
        return int(self.y.shape[1])

    def crop(self, x: int, y: int, width: int, height: int) -> Yuv420:
        """Return a view of an even-aligned window, in luma pixels.

        Raises:
            Bug: the window is odd or leaves the frame.
        """
        _check_window(self, x, y, width, height)
        cx, cy, cw, ch = x // 2, y // 2, width // 2, height // 2
        return Yuv420(
            self.y[y : y + height, x : x + width],
            self.u[cy : cy + ch, cx : cx + cw],
            self.v[cy : cy + ch, cx : cx + cw],
        )

    def copy(self) -> Yuv420:
        """Return a frame that shares no memory with this one."""
        return Yuv420(self.y.copy(), self.u.copy(), self.v.copy())

    def to_bytes(self) -> bytes:
        """Return the planes one after the other, as ``rawvideo`` yuv420p."""
        return b"".join(np.ascontiguousarray(plane).tobytes() for plane in (self.y, self.u, self.v))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview, width: int, height: int) -> Yuv420:
        """Wrap ``rawvideo`` yuv420p bytes without copying them."""
        flat = np.frombuffer(data, dtype=np.uint8)
        luma, chroma = width * height, (width // 2) * (height // 2)
        half = (height // 2, width // 2)
        return cls(
            flat[:luma].reshape(height, width),
            flat[luma : luma + chroma].reshape(half),
            flat[luma + chroma : luma + 2 * chroma].reshape(half),
        )


def rgb_to_yuv420(rgb: U8) -> Yuv420:
    """Convert RGB to yuv420p, BT.709 limited range.

    The result for an even-aligned window equals that window of the whole frame's result.

    Args:
        rgb: uint8 [h, w, 3], h and w even and at least 2.

    Raises:
        Bug: another shape or type, or an odd size.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise Bug(f"rgb_to_yuv420 wants uint8 [h, w, 3], got {rgb.dtype} {list(rgb.shape)}")
    height, width = rgb.shape[:2]
    if height < 2 or width < 2 or height % 2 or width % 2:
        raise Bug(f"yuv420p needs even sizes, got {width}x{height}: align the window first")
    luma = cv2.extractChannel(cv2.transform(rgb, _RGB_TO_YUV), 0)
    # Averaging before the matrix is the same as after it, up to rounding, at a quarter of the cost.
    quarter = cv2.resize(rgb, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    chroma = cv2.transform(quarter, _RGB_TO_YUV)
    u, v = cv2.extractChannel(chroma, 1), cv2.extractChannel(chroma, 2)
    return Yuv420(as_u8(luma), as_u8(u), as_u8(v))


def yuv420_to_rgb(frame: Yuv420) -> U8:
    """Convert a whole yuv420p frame, BT.709 limited range, to RGB uint8 [h, w, 3].

    Chroma is interpolated bilinearly between its centre-sited samples, which looks across a
    window's edge: convert whole frames and crop the RGB, never the other way round.
    """
    size = (frame.width, frame.height)
    # The EXACT variant is integer arithmetic by definition, the same on every processor.
    u = cv2.resize(frame.u, size, interpolation=cv2.INTER_LINEAR_EXACT)
    v = cv2.resize(frame.v, size, interpolation=cv2.INTER_LINEAR_EXACT)
    return as_u8(cv2.transform(cv2.merge([frame.y, u, v]), _YUV_TO_RGB))


def paste_yuv(plate: Yuv420, patch: Yuv420, x: int, y: int) -> Yuv420:
    """Write ``patch`` into ``plate`` in place, its top left corner at luma pixel (x, y).

    Returns:
        ``plate`` itself, for chaining.

    Raises:
        Bug: the position or size is odd, or the patch leaves the plate.
    """
    target = plate.crop(x, y, patch.width, patch.height)
    target.y[...] = patch.y
    target.u[...] = patch.u
    target.v[...] = patch.v
    return plate


def _check_window(frame: Yuv420, x: int, y: int, width: int, height: int) -> None:
    if x % 2 or y % 2 or width % 2 or height % 2:
        raise Bug(f"window {width}x{height}+{x}+{y} is not aligned to the 2x2 chroma grid")
    if x < 0 or y < 0 or x + width > frame.width or y + height > frame.height:
        raise Bug(f"window {width}x{height}+{x}+{y} leaves the {frame.width}x{frame.height} frame")
