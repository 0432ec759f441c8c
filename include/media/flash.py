"""Photosensitive flashes, measured by ffmpeg's ``photosensitivity`` filter.

Its badness sums, over the frames of about one second, how much the picture's brightness and colour
jump: full-frame strobing reaches 49, a talking head stays under 1. What is too much is the safety
policy's to say (``models/safety/policy.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import av
import av.filter

from include.errors import Bug
from include.media.decode import ClipFacts, Picture, VideoReader

WIDTH = 480
"""Pixels: wider pictures are averaged down to this first. The filter compares mean colours of parts
of the picture, which averaging leaves as they are."""
_BADNESS = "lavfi.photosensitivity.badness"


class FlashSample(NamedTuple):
    """Badness of the second that ends with a frame.

    Attributes:
        time_s: the frame's time.
        badness: 0 for a still picture.
    """

    time_s: float
    badness: float


class FlashMeter:
    """Measures a video's pictures as they pass, for who reads them for another reason as well.

    Args:
        facts: of the video.
    """

    def __init__(self, facts: ClipFacts) -> None:
        self._facts = facts
        self._window = min(240, max(2, round(facts.fps)))
        self._found: list[float] = []
        self._graph: Any = None

    def add(self, picture: Picture) -> None:
        """Measure the next picture."""
        if self._graph is None:
            self._graph = self._configured(picture.raw)
        self._graph.push(picture.raw)
        self._pull()

    def samples(self) -> list[FlashSample]:
        """End the measurement: one sample a frame.

        Raises:
            Bug: nothing, or not every picture, was measured.
        """
        if self._graph is not None:
            self._graph.push(None)
            self._pull()
        found, fps = self._found[self._window :], self._facts.fps
        if len(found) != self._facts.frames:
            raise Bug(f"flashes were measured in {len(found)} of {self._facts.frames} frames")
        return [FlashSample(float(n / fps), badness) for n, badness in enumerate(found)]

    def _configured(self, first: Any) -> Any:
        graph = av.filter.Graph()
        graph.threads = 1
        width = min(WIDTH, self._facts.width)
        source = graph.add_buffer(
            width=first.width,
            height=first.height,
            format=first.format,
            time_base=first.time_base,
        )
        chain = [
            source,
            graph.add("scale", f"{width}:-2:flags=area"),
            # The filter starts from black: hold the first frame until that has left its memory.
            graph.add("fps", str(self._facts.fps)),
            graph.add("tpad", f"start={self._window}:start_mode=clone"),
            graph.add("photosensitivity", f"frames={self._window}:bypass=1"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*chain).configure()
        return graph

    def _pull(self) -> None:
        while True:
            try:
                frame = self._graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            self._found.append(float(frame.metadata[_BADNESS]))


def measure(video: Path) -> list[FlashSample]:
    """Measure a video of ours, one sample a frame.

    Raises:
        CorruptArtifact: it is no video.
    """
    with VideoReader(video) as reader:
        meter = FlashMeter(reader.facts)
        for picture in reader.pictures():
            meter.add(picture)
    return meter.samples()


def worst(samples: list[FlashSample]) -> FlashSample:
    """The worst second; the first of several."""
    return max(samples, key=lambda sample: sample.badness)
