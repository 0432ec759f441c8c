"""H.264 written in this process: what GOPs and lossless clips share, and the lossless clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import av

from include.errors import Bug
from include.media.av_writer import AvWriter, filled
from include.media.encode import check_yuv420, lossless_h264_options
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


class LosslessYuvWriter(H264Writer):
    """Writes ``Yuv420`` frames losslessly, for plates and what is pasted on them.

    The codec, H.264 -qp 0 in Matroska, was chosen by measurement (720p clip of a person, one core,
    per frame)::

        libx264 -qp 0 ultrafast    7 ms in    7 ms out   142 KiB   a keyframe every 12 frames
        FFV1 3, 4 slices, CRC     16 ms      15 ms       148 KiB

    Args:
        path: the file to make, by custom ``.mkv``.
        size: width and height, both even.
        fps: frame rate.
    """

    _ONLY_FOR_COMMANDS: ClassVar = ("vcodec", "pix_fmt", "threads")

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction | int) -> None:
        options = lossless_h264_options().items()
        x264 = {name: str(value) for name, value in options if name not in self._ONLY_FOR_COMMANDS}
        super().__init__(path, size, fps, x264)

    def _open(self) -> None:
        self._container = av.open(
            f"file:{self._temporary}", "w", format="matroska", options={"fflags": "+bitexact"}
        )
        self._add_stream()
