"""Where the presenter is: runs of frames with the face, and the windows that may change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.face.roi import Window

Points = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """Consecutive frames of one shot in which the presenter's face is seen."""

    index: int
    start: int
    """First frame of the template, inclusive."""
    stop: int
    """Exclusive."""
    window: Window
    """The ROI: every pixel that a recipient may change, constant over the shot."""

    @property
    def frames(self) -> int:
        """How many frames the segment has."""
        return self.stop - self.start

    def as_fact(self) -> dict[str, Any]:
        """For a manifest's facts."""
        x0, y0 = self.window.x, self.window.y
        window = [x0, y0, self.window.w, self.window.h]
        return {"index": self.index, "start": self.start, "stop": self.stop, "window": window}

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any]) -> Segment:
        """Back from a manifest's facts."""
        return cls(fact["index"], fact["start"], fact["stop"], Window(*fact["window"]))


def read_segments(facts: Mapping[str, Any]) -> list[Segment]:
    """The segments that a stage wrote into its facts."""
    return [Segment.from_fact(fact) for fact in facts["segments"]]


def find_segments(
    points: Points, shots: list[int], size: tuple[int, int], windows: list[Window | None]
) -> list[Segment]:
    """Runs of frames with a face, none across a cut.

    Args:
        points: float32 [n, 478, 3], NaN where the face is not seen.
        shots: first frame of each shot; the first is 0.
        size: (width, height) of the frame.
        windows: for each shot the window that holds the face throughout, or None.
    """
    seen = ~np.isnan(points[:, 0, 0])
    segments: list[Segment] = []
    for window, (start, stop) in zip(windows, shot_ranges(shots, len(points)), strict=True):
        if window is None:
            continue
        for run_start, run_stop in runs(seen[start:stop]):
            segments.append(Segment(len(segments), start + run_start, start + run_stop, window))
    return segments


def shot_ranges(shots: list[int], frames: int) -> list[tuple[int, int]]:
    """(start, stop) of each shot."""
    return list(zip(shots, [*shots[1:], frames], strict=True))


def runs(seen: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(start, stop) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    for start, stop in edges.reshape(-1, 2):
        yield int(start), int(stop)


def load_points(path: Path) -> Points:
    """The track that ``track_face`` wrote: float32 [n, 478, 3], NaN where there is no face."""
    with np.load(path, allow_pickle=False) as track:
        points: Points = track["points"]
    return points
