"""H.264 written in this process."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from include.errors import Bug
from include.media.av_writer import AvWriter, filled
from include.media.encode import check_yuv420
from include.media.pixels import Yuv420

BT709 = {
    "color_range": "tv",
    "colorspace": "bt709",
    "color_primaries": "bt709",
    "color_trc": "bt709",
    "chroma_sample_location": "center",
}


class H264Writer(AvWriter[Yuv420]):
    """Writes ``Yuv420`` frames with x264 on one thread; the bytes depend on pixels and options.

    Args:
        path: the file to make.
        size: width and height, both even.
        fps: frame rate.
        options: x264's, by ffmpeg's names.

    Raises:
        Bug: an odd size.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: Fraction | int,
        options: dict[str, str],
    ) -> None:
        super().__init__(path, size, fps)
        width, height = size
        if min(size) < 2 or width % 2 or height % 2:
            raise Bug(f"yuv420p needs even sizes, got {width}x{height} for {path}")
        self._options = options

    def _add_stream(self) -> None:
        options = {**self._options, **BT709}
        self._stream = self._container.add_stream("libx264", rate=self._fps, options=options)
        context = self._stream.codec_context
        context.width, context.height = self._size
        context.pix_fmt, context.thread_count = "yuv420p", 1
        context.sample_aspect_ratio = Fraction(1)
        context.open()

    def _picture(self, frame: Yuv420) -> Any:
        planes = check_yuv420(frame, self._size, self.path)
        return filled(av.VideoFrame(*self._size, "yuv420p"), planes)
