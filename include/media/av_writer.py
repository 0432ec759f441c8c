"""What the encoders that run in this process share: the container, its errors, the rename.

Starting an ffmpeg of its own costs as much as encoding some frames, and each frame would go through
a pipe. PyAV lets other threads run while it encodes.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import av
import numpy as np

from include.errors import Bug, OutOfMemory, StoreUnavailable, UnderstudyError
from include.media.encode import temporary_name
from include.media.pixels import U8

Frame = TypeVar("Frame")


class AvWriter(Generic[Frame]):
    """Writes frames to a file that appears under its name when the block ends without an error.

    Use as a context manager.

    Args:
        path: the file to make.
        size: width and height.
        fps: frame rate.

    Attributes:
        path: where the file will be.
        frames: how many frames were written so far.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: Fraction | int) -> None:
        self.path, self.frames = Path(path), 0
        self._size, self._fps = size, Fraction(fps)
        self._temporary = temporary_name(self.path)
        self._container: Any = None
        self._stream: Any = None

    def _open(self) -> None:
        """Open the container under the temporary name, and the stream."""
        raise Bug(f"{type(self).__name__} does not say how to encode")

    def _picture(self, frame: Frame) -> Any:
        """Check a frame and return it as one of PyAV's."""
        raise Bug(f"{type(self).__name__} does not say what a frame is")

    def __enter__(self) -> Self:
        try:
            with translated("encoding", self.path):
                self._open()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self._container is not None:
                self._finish()
        finally:
            self._abandon()

    def write(self, frame: Frame) -> None:
        """Encode one more frame.

        Raises:
            Bug: the frame has another size or type, or encoding failed.
            StoreUnavailable: the disk is full (code ``disk.full``).
        """
        if self._container is None:
            raise Bug(f"the writer of {self.path} is not open: use it in a with statement")
        picture = self._picture(frame)
        picture.pts, picture.time_base = self.frames, 1 / self._fps
        with translated("encoding", self.path):
            self._mux(self._stream.encode(picture))
        self.frames += 1

    def _mux(self, packets: Iterable[Any]) -> None:
        for packet in packets:
            self._container.mux(packet)

    def _finish(self) -> None:
        if not self.frames:
            raise Bug(f"no frame was written to {self.path}")
        with translated("encoding", self.path):
            self._mux(self._stream.encode(None))
            self._container.close()
            os.replace(self._temporary, self.path)

    def _abandon(self) -> None:
        """Leave no temporary file behind; harmless after success."""
        container, self._container, self._stream = self._container, None, None
        if container is not None:
            with contextlib.suppress(OSError, av.FFmpegError):
                container.close()
        self._temporary.unlink(missing_ok=True)


def filled(picture: Any, planes: Sequence[U8]) -> Any:
    """Copy planes into a new picture of PyAV's, whatever the length of its rows.

    ``VideoFrame.from_numpy_buffer`` would spare the copy, but takes chroma from a wrong place where
    the height is no multiple of four (PyAV 18.1).

    Args:
        picture: a ``VideoFrame`` of a planar format with 8 bits a sample.
        planes: uint8 [h, w], in the format's order.

    Returns:
        The picture.
    """
    for plane, pixels in zip(picture.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[: pixels.shape[0], : pixels.shape[1]] = pixels
    return picture


@contextlib.contextmanager
def translated(what: str, path: Path) -> Iterator[None]:
    """Turn what PyAV and the system raise into the error that decides the retry.

    Args:
        what: is being done, such as ``encoding``.
        path: to which file.

    Raises:
        StoreUnavailable: the disk is full (code ``disk.full``).
        OutOfMemory: there is no memory.
        Bug: anything else of theirs.
    """
    try:
        yield
    except UnderstudyError:
        raise
    except (av.FFmpegError, OSError, MemoryError) as error:
        number = getattr(error, "errno", None)
        if number == errno.ENOSPC:
            raise StoreUnavailable(
                f"the disk is full while {what} {path}: free some space on it and run again",
                code="disk.full",
                where=str(path),
            ) from error
        if number == errno.ENOMEM or isinstance(error, MemoryError):
            raise OutOfMemory(f"no memory is left while {what} {path}", where=str(path)) from error
        raise Bug(f"{what} {path} failed: {error}", where=str(path)) from error
