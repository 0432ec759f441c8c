"""Frames of our own videos for who only looks at them: not copied, and only some of them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from include.errors import CorruptArtifact
from include.media.decode import VideoReader
from include.media.pixels import U8, Yuv420


class FrameViews(VideoReader):
    """A ``VideoReader`` that can show frames where the decoder left them."""

    def views(self, start: int = 0, stop: int | None = None) -> Iterator[Yuv420]:
        """Yield frames ``start`` to ``stop`` (exclusive) as read-only views.

        Copying a frame costs about as much as decoding it; who needs a window of it copies that.

        Raises:
            CorruptArtifact: a frame cannot be decoded or is not yuv420p, or the clip ends before
                ``stop``.
        """
        return self._read(start, stop, _view)

    def _decode_from(self, start: int) -> Iterator[Any]:
        # A quarter frame late, within which containers round: a keyframe at ``start`` is found, and
        # the GOP before it need not be decoded.
        target = (start + Fraction(1, 4)) / self.facts.fps
        self._container.seek(int(target / self._time_base), stream=self._stream, backward=True)
        return self._container.decode(self._stream)


def _view(frame: Any) -> Yuv420:
    if frame.format.name != "yuv420p":
        raise CorruptArtifact(f"frames are {frame.format.name}, not yuv420p: make the clip again")
    half = (frame.height // 2, frame.width // 2)
    y, u, v = frame.planes
    return Yuv420(_plane(y, frame.height, frame.width), _plane(u, *half), _plane(v, *half))


def _plane(plane: Any, height: int, width: int) -> U8:
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, :width]


def spread(count: int, most: int) -> list[int]:
    """At most ``most`` indices below ``count``, evenly spread, each in the middle of its share."""
    taken = min(count, most)
    return [(2 * k + 1) * count // (2 * taken) for k in range(taken)]


def shown_frames(path: Path) -> int:
    """How many frames a video of ours really shows: distinct times of its packets.

    Raises:
        CorruptArtifact: it cannot be read.
    """
    try:
        with av.open(f"file:{path}") as container:
            stream = container.streams.video[0]
            return len({p.pts for p in container.demux(stream) if p.pts is not None})
    except (av.FFmpegError, OSError, IndexError) as error:
        raise CorruptArtifact(f"cannot read {path} ({error}): make it again") from error
