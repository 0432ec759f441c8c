"""Clips without loss, quick to write and above all to read: Ut Video, predicted from the left.

Measured on one core (EPYC, 2026), milliseconds a frame in and out, KiB a frame; RGB on a face of
312x370, yuv420p on 1920x1080::

                             RGB                    yuv420p
    Ut Video, left       0.8   0.5   123        6.0   2.8   719
    Ut Video, median     0.8   1.2   102        6.4   8.8   585
    libx264 -qp 0        2.5   2.9   139         14    12   553   a keyframe every 12 frames
    FFV1 3, 4 slices     6.0   6.6    98         28    32   456

A clip is read at least twice, a plate by every recipient, so reading counts most. Damage is found
by the digest that an artifact carries.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, TypeVar

import av
import cv2

from include.errors import Bug
from include.media.av_writer import AvWriter, filled
from include.media.encode import check_yuv420, checked
from include.media.pixels import U8, Yuv420, as_u8

Frame = TypeVar("Frame")


class _UtVideoWriter(AvWriter[Frame], Generic[Frame]):
    """Ut Video in AVI: every frame is a keyframe, and the bytes depend on the pixels only."""

    pixel_format = ""

    def __init__(
        self, path: Path, size: tuple[int, int], fps: Fraction | int, *, threads: int = 1
    ) -> None:
        super().__init__(path, size, fps)
        self._threads = threads
        if min(size) < 2:
            raise Bug(f"cannot encode {size[0]}x{size[1]} frames to {path}")

    def _open(self) -> None:
        self._container = av.open(
            f"file:{self._temporary}", "w", format="avi", options={"fflags": "+bitexact"}
        )
        self._stream = self._container.add_stream(
            "utvideo", rate=self._fps, options={"pred": "left"}
        )
        context = self._stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt, context.thread_count = self.pixel_format, self._threads


class LosslessRgbWriter(_UtVideoWriter[U8]):
    """Writes uint8 [h, w, 3] RGB frames, any size, mathematically losslessly.

    Args:
        path: the file to make, by custom ``.avi``.
        size: width and height.
        fps: frame rate.
        threads: of the encoder; does not change the bytes.

    Raises:
        Bug: a side is under 2 pixels.
    """

    pixel_format = "gbrp"

    def _picture(self, frame: U8) -> Any:
        width, height = self._size
        red, green, blue = cv2.split(checked(frame, (height, width, 3), self.path))
        return filled(av.VideoFrame(width, height, "gbrp"), (as_u8(green), as_u8(blue), as_u8(red)))


class LosslessYuvWriter(_UtVideoWriter[Yuv420]):
    """Writes ``Yuv420`` frames losslessly, for plates and what is pasted on them.

    Args:
        path: the file to make, by custom ``.avi``.
        size: width and height, both even.
        fps: frame rate.
        threads: of the encoder; does not change the bytes.

    Raises:
        Bug: an odd size, or a side under 2 pixels.
    """

    pixel_format = "yuv420p"

    def __init__(
        self, path: Path, size: tuple[int, int], fps: Fraction | int, *, threads: int = 1
    ) -> None:
        super().__init__(path, size, fps, threads=threads)
        width, height = size
        if width % 2 or height % 2:
            raise Bug(f"yuv420p needs even sizes, got {width}x{height} for {path}")

    def _picture(self, frame: Yuv420) -> Any:
        planes = check_yuv420(frame, self._size, self.path)
        return filled(av.VideoFrame(*self._size, "yuv420p"), planes)
