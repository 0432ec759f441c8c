"""Frame access to our own mezzanines and deliveries.

Only files that we wrote come here: they are opened in this process, without limits. A stranger's
file goes through ``probe`` and ``normalise`` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import av
import cv2
import numpy as np

from include.errors import CorruptArtifact
from include.media import limits
from include.media.pixels import U8, Yuv420, as_u8, rgb_to_yuv420, yuv420_to_rgb

Frame = TypeVar("Frame")


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """What a clip of ours is.

    Attributes:
        width: pixels.
        height: pixels.
        fps: constant frame rate.
        frames: how many frames it holds.
        codec: such as ``utvideo`` or ``h264``.
        pix_fmt: as ffmpeg names it.
    """

    width: int
    height: int
    fps: Fraction
    frames: int
    codec: str
    pix_fmt: str

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame's start to the last one's end."""
        return float(self.frames / self.fps)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded frame that is only converted when asked.

    Attributes:
        index: its number in the video.
        raw: PyAV's frame.
    """

    index: int
    raw: Any

    def rgb(self) -> U8:
        """The pixels, RGB uint8 [h, w, 3]."""
        return _as_rgb(self.raw)


class VideoReader:
    """Reads frames in order from any frame on, in constant memory.

    Use as a context manager. Iterating again starts over.

    Args:
        path: a clip that we wrote.
        threads: decoding threads; frames are the same for any number.

    Attributes:
        facts: size, rate and length.

    Raises:
        CorruptArtifact: the file cannot be opened or a frame cannot be decoded.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self.path = Path(path)
        try:
            self._container = av.open(f"file:{self.path}", mode="r")
            self._stream = self._container.streams.video[0]
        except (OSError, av.FFmpegError, IndexError) as error:
            raise CorruptArtifact(
                f"cannot open the clip {self.path} ({error}): make it again", where=str(path)
            ) from error
        self._stream.codec_context.thread_count = threads
        self._stream.codec_context.thread_type = "AUTO" if threads > 1 else "NONE"
        self._time_base = Fraction(self._stream.time_base or 1)
        self.facts = self._read_facts()

    def _read_facts(self) -> ClipFacts:
        stream, context = self._stream, self._stream.codec_context
        fps = Fraction(stream.average_rate or stream.guessed_rate or 0)
        if fps <= 0:
            raise CorruptArtifact(f"{self.path} has no frame rate: make it again")
        # Matroska stores nanoseconds, of which 60000/1001 comes back as 19001/317.
        fps = next((r for r in limits.STANDARD_FPS if abs(r - fps) < r / 1_000_000), fps)
        frames = stream.frames
        if not frames and self._container.duration:
            # Matroska stores no count; its duration is exact to a millisecond.
            frames = round(Fraction(self._container.duration, av.time_base) * fps)
        return ClipFacts(
            context.width, context.height, fps, frames, context.name, str(context.pix_fmt)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading on is an error."""
        self._container.close()

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[U8]:
        """Yield frames ``start`` to ``stop`` (exclusive) as RGB uint8 [h, w, 3].

        Raises:
            CorruptArtifact: a frame cannot be decoded, or the clip ends before ``stop``.
        """
        return self._read(start, stop, _as_rgb)

    def yuv_frames(self, start: int = 0, stop: int | None = None) -> Iterator[Yuv420]:
        """Yield frames ``start`` to ``stop`` (exclusive) as ``Yuv420``.

        Raises:
            CorruptArtifact: a frame cannot be decoded, or the clip ends before ``stop``.
        """
        return self._read(start, stop, _as_yuv)

    def pictures(self, start: int = 0, stop: int | None = None) -> Iterator[Picture]:
        """Yield frames ``start`` to ``stop`` (exclusive) unconverted.

        Raises:
            CorruptArtifact: a frame cannot be decoded, or the clip ends before ``stop``.
        """
        frames = self._read(start, stop, lambda frame: frame)
        return (Picture(index, frame) for index, frame in enumerate(frames, max(start, 0)))

    def pick(self, indices: Iterable[int]) -> Iterator[tuple[int, U8]]:
        """Yield some frames, in order, as (index, RGB uint8 [h, w, 3]).

        Frames between them are decoded, because others refer to them, but not converted.

        Raises:
            CorruptArtifact: a frame cannot be decoded, or the clip ends before the last of them.
        """
        wanted = sorted(set(indices))
        if not wanted:
            return
        if wanted[-1] >= self.facts.frames:
            raise CorruptArtifact(f"{self.path} has no frame {wanted[-1]}: make it again")
        chosen = set(wanted)
        for picture in self.pictures(wanted[0], wanted[-1] + 1):
            if picture.index in chosen:
                yield picture.index, picture.rgb()

    def _read(
        self, start: int, stop: int | None, convert: Callable[[Any], Frame]
    ) -> Iterator[Frame]:
        end = self.facts.frames if stop is None else min(stop, self.facts.frames)
        expected = max(start, 0)
        if expected >= end:
            return
        try:
            for frame in self._decode_from(expected):
                index = self._index(frame)
                if index < expected:
                    continue
                if index != expected:
                    break
                yield convert(frame)
                expected += 1
                if expected >= end:
                    return
        except av.FFmpegError as error:
            raise CorruptArtifact(
                f"frame {expected} of {self.path} cannot be decoded ({error}): make it again"
            ) from error
        raise CorruptArtifact(
            f"{self.path} should have {end} frames but frame {expected} is missing: make it again"
        )

    def _decode_from(self, start: int) -> Iterator[Any]:
        # Half a frame early, since containers round timestamps; the caller skips what is too early.
        target = max(Fraction(0), (start - Fraction(1, 2)) / self.facts.fps)
        self._container.seek(int(target / self._time_base), stream=self._stream, backward=True)
        return self._container.decode(self._stream)

    def _index(self, frame: Any) -> int:
        if frame.pts is None:
            raise CorruptArtifact(f"a frame of {self.path} has no time: make it again")
        return round(Fraction(frame.pts) * self._time_base * self.facts.fps)


def _rows(plane: Any, height: int, width: int) -> U8:
    """The pixels of a plane where they lie: gone with the frame."""
    return np.frombuffer(plane, dtype=np.uint8).reshape(-1, plane.line_size)[:height, :width]


def _plane(plane: Any, height: int, width: int) -> U8:
    return _rows(plane, height, width).copy()


def _planar(frame: Any) -> Yuv420:
    height, width = frame.height, frame.width
    half = (height // 2, width // 2)
    y, u, v = frame.planes
    return Yuv420(_plane(y, height, width), _plane(u, *half), _plane(v, *half))


def _as_yuv(frame: Any) -> Yuv420:
    return _planar(frame) if frame.format.name == "yuv420p" else rgb_to_yuv420(_as_rgb(frame))


def _as_rgb(frame: Any) -> U8:
    if frame.format.name == "yuv420p":
        return yuv420_to_rgb(_planar(frame))
    if frame.format.name == "gbrp":
        green, blue, red = (_rows(plane, frame.height, frame.width) for plane in frame.planes)
        return as_u8(cv2.merge([red, green, blue]))
    return as_u8(frame.to_ndarray(format="rgb24"))
