"""Streaming encoders: frames go in one by one, a complete file appears under its name at the end.

Each writer is a context manager around one ffmpeg process. The file is written under a temporary
name beside its own and renamed on success, so a reader never meets half a video. Bytes depend on
pixels and parameters only, not on time, machine load or the number of threads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import tempfile
import uuid
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import ffmpeg
import numpy as np

from include.errors import Bug
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, failure, ffmpeg_binary
from include.media.pixels import U8, Yuv420
from include.media.x264 import x264_params

Frame = TypeVar("Frame")

# What every yuv420p file of ours says about itself; pixels.py is where it is made true.
BT709_FILTER: dict[str, str] = {
    "range": "tv",
    "colorspace": "bt709",
    "color_primaries": "bt709",
    "color_trc": "bt709",
    "chroma_location": "center",
}
# Bigger than the default 64 KiB: fewer context switches for a frame of megabytes.
_PIPE_BYTES = 1 << 20
_EXIT_TIMEOUT_S = 300.0
KEYFRAME_EVERY = 12
"""Frames from one keyframe of a lossless file to the next."""


def temporary_name(path: Path) -> Path:
    """Return a hidden, unique name beside ``path``, on the same file system for the rename."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")


class _Writer(Generic[Frame]):
    """What the encoders share: the process, its pipe, its errors, the rename.

    Attributes:
        path: where the file will be once the context ends without an error.
        frames: how many frames were written so far.
    """

    pixel_format: ClassVar[str]

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction | int) -> None:
        width, height = size
        if width < 2 or height < 2:
            raise Bug(f"cannot encode {width}x{height} frames to {path}")
        self.path = Path(path)
        self.width, self.height = width, height
        self.fps = Fraction(fps)
        self.frames = 0
        self._temporary = temporary_name(self.path)
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by _abandon

    def _graph(self, source: Any) -> tuple[Any, dict[str, Any]]:
        """Return the filtered stream and the output options."""
        raise Bug(f"{type(self).__name__} does not say how to encode")

    def _arguments(self) -> list[str]:
        source = ffmpeg.input(
            "pipe:0",
            format="rawvideo",
            pix_fmt=self.pixel_format,
            video_size=(self.width, self.height),
            framerate=str(self.fps),
            protocol_whitelist="pipe,file",
        )
        stream, options = self._graph(source)
        output = ffmpeg.output(
            stream,
            f"file:{self._temporary}",
            map_metadata=-1,
            fflags="+bitexact",
            **{"flags:v": "+bitexact"},
            **options,
        )
        return list(ffmpeg.compile(output.global_args(*GLOBAL_ARGUMENTS), cmd=ffmpeg_binary()))

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._arguments(),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )
        with contextlib.suppress(OSError):  # the pipe works at its default size too
            fcntl.fcntl(self._pipe(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._abandon()

    def write(self, frame: Frame) -> None:
        """Encode one more frame.

        Raises:
            Bug: the frame has another size or type, or ffmpeg failed.
            StoreUnavailable: the disk is full (code ``disk.full``).
        """
        pipe = self._pipe()
        try:
            for plane in self._planes(frame):
                pipe.write(plane.data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise self._died() from error
        self.frames += 1

    def _planes(self, frame: Frame) -> Sequence[U8]:
        """Check a frame and return its contiguous planes in file order."""
        raise Bug(f"{type(self).__name__} does not say what a frame is")

    def _pipe(self) -> Any:
        if self._process is None or self._process.stdin is None:
            raise Bug(f"the writer of {self.path} is not open: use it in a with statement")
        return self._process.stdin

    def _died(self) -> Exception:
        process = self._process
        if process is None:
            return Bug(f"the writer of {self.path} is not open")
        returncode = process.wait(_EXIT_TIMEOUT_S)
        self._stderr.seek(0)
        return failure("encoding", self.path, returncode, self._stderr.read())

    def _finish(self) -> None:
        if self._process is None:
            return
        if not self.frames:
            raise Bug(f"no frame was written to {self.path}")
        try:
            self._pipe().close()
        except BrokenPipeError as error:
            raise self._died() from error
        if self._process.wait(_EXIT_TIMEOUT_S):
            raise self._died()
        os.replace(self._temporary, self.path)

    def _abandon(self) -> None:
        """Leave neither a process nor a temporary file behind; harmless after success."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
            process.wait()
        self._stderr.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()


def checked(plane: U8, shape: tuple[int, ...], path: Path) -> U8:
    """Return a frame or a plane, contiguous, when it has this shape.

    Args:
        plane: the pixels.
        shape: of uint8 pixels.
        path: the file that they go to.

    Raises:
        Bug: it has another shape or type.
    """
    if plane.dtype != np.uint8 or plane.shape != shape:
        raise Bug(
            f"a frame for {path} must be uint8 {list(shape)}, got {plane.dtype} {list(plane.shape)}"
        )
    return np.ascontiguousarray(plane)


class _YuvWriter(_Writer[Yuv420]):
    pixel_format = "yuv420p"

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction | int) -> None:
        super().__init__(path, size, fps)
        if self.width % 2 or self.height % 2:
            raise Bug(f"yuv420p needs even sizes, got {self.width}x{self.height} for {path}")

    def _planes(self, frame: Yuv420) -> Sequence[U8]:
        return check_yuv420(frame, (self.width, self.height), self.path)


def check_yuv420(frame: Yuv420, size: tuple[int, int], path: Path) -> tuple[U8, U8, U8]:
    """Return a frame's planes, contiguous, when it has this width and height.

    Raises:
        Bug: it has another size or type.
    """
    width, height = size
    half = (height // 2, width // 2)
    return (
        checked(frame.y, (height, width), path),
        checked(frame.u, half, path),
        checked(frame.v, half, path),
    )


def _declared(source: Any) -> Any:
    """Say what the pixels are; changes none of them."""
    return source.filter("setparams", **BT709_FILTER).filter("setsar", 1)


def lossless_h264_options() -> dict[str, Any]:
    """Output options of the lossless yuv420p mezzanine, for ffmpeg-python."""
    return {
        "vcodec": "libx264",
        "preset": "ultrafast",
        "qp": 0,
        "g": KEYFRAME_EVERY,
        "pix_fmt": "yuv420p",
        "threads": 1,
    }


class DeliveryWriter(_YuvWriter):
    """Writes ``Yuv420`` frames as the H.264 that customers get: MP4, video only.

    Keyframes stand at fixed places and every GOP is closed, so GOPs of two encodings of the same
    template can be exchanged; headers depend on the parameters only. The encoder runs on one
    thread, because x264's output depends on how many it has.

    Args:
        path: the file to make, by custom ``.mp4``.
        size: width and height, both even.
        fps: frame rate.
        crf: x264's constant rate factor, 0 (best) to 51.
        preset: x264's speed preset.
        gop: frames from one keyframe to the next; two seconds when not given.
        keyframes: further frame indices that become keyframes, such as the shot boundaries.
        threads: of the encoder; only 1, so that nobody changes the bytes by asking for more.

    Raises:
        Bug: more than one thread, or an odd size.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: Fraction | int,
        *,
        crf: int = 18,
        preset: str = "veryfast",
        gop: int | None = None,
        keyframes: Sequence[int] = (),
        threads: int = 1,
    ) -> None:
        super().__init__(path, size, fps)
        if threads != 1:
            raise Bug(f"x264's output depends on its threads: encode {path} with one")
        self._crf, self._preset = crf, preset
        self._gop = gop if gop is not None else max(1, round(2 * self.fps))
        self._keyframes = sorted(set(keyframes))

    def _graph(self, source: Any) -> tuple[Any, dict[str, Any]]:
        options: dict[str, Any] = {
            "format": "mp4",
            "vcodec": "libx264",
            "preset": self._preset,
            "crf": self._crf,
            "pix_fmt": "yuv420p",
            "profile:v": "high",
            "forced-idr": 1,
            "x264-params": x264_params(
                f"keyint={self._gop}", "min-keyint=1", "scenecut=0", "open-gop=0", "threads=1"
            ),
            "threads": 1,
        }
        if self._keyframes:
            options["force_key_frames"] = "expr:" + "+".join(f"eq(n,{n})" for n in self._keyframes)
        return _declared(source), options
