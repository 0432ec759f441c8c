"""Who in a template is the presenter: detections joined to tracks, one chosen a shot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from include.contracts.brief import FaceAt
from include.stages.segments import Points, shot_ranges
from models.face.landmarks import Face

MAX_GAP = 5
"""Frames without a detection that are bridged inside a shot: a blink of the detector."""
MIN_FACE_PX = 32
"""Median height of a face that is followed: smaller ones are passers-by or false detections."""

Track = dict[int, Face]
"""One person's detections by frame of the template."""
Chooser = Callable[[list[Track], range], "Track | None"]
"""Takes the tracks of a shot, at least one, and its frames; returns the presenter's, if any is."""


def follow(found: list[list[Face]], shots: list[int], choose: Chooser) -> Points:
    """Choose the presenter among the faces of each frame.

    Args:
        found: faces of each frame, largest first.
        shots: first frame of each shot.
        choose: which of a shot's tracks is the presenter's.

    Returns:
        float32 [n, 478, 3], NaN where the presenter is not seen.
    """
    points = np.full((len(found), 478, 3), np.nan, np.float32)
    for start, stop in shot_ranges(shots, len(found)):
        tracks = _link(found[start:stop], start)
        tracks = [track for track in tracks if _height(track) >= MIN_FACE_PX]
        chosen = choose(tracks, range(start, stop)) if tracks else None
        for index, face in (chosen or {}).items():
            points[index] = face.points
    return points


def by_choice(choice: str | FaceAt, *, fps: float) -> Chooser:
    """Make the chooser of a brief that names no photo.

    ``largest``: in each shot, the face that is largest over the shot. A point: in its shot, the
    face nearest to it at that time; in other shots, the largest.

    Args:
        choice: ``largest`` or a point and time.
        fps: frames per second, to find the time.
    """

    def choose(tracks: list[Track], shot: range) -> Track:
        if isinstance(choice, FaceAt) and (index := int(choice.time * fps)) in shot:
            at = np.asarray(choice.at, np.float32)
            return min(tracks, key=partial(_distance, index=index, at=at))
        return max(tracks, key=_area)

    return choose


def _link(found: list[list[Face]], start: int) -> list[Track]:
    """Join detections of consecutive frames into tracks by the nearest centre."""
    tracks: list[Track] = []
    for index, faces in enumerate(found, start):
        taken: set[int] = set()
        for face in faces:
            number = _nearest_track(tracks, face, index, taken)
            if number is None:
                tracks.append({})
                number = len(tracks) - 1
            tracks[number][index] = face
            taken.add(number)
    return tracks


def _nearest_track(tracks: list[Track], face: Face, index: int, taken: set[int]) -> int | None:
    best: tuple[float, int] | None = None
    size = np.ptp(face.points[:, :2], axis=0).max()
    for number, track in enumerate(tracks):
        last = max(track)
        if number in taken or index - last > MAX_GAP + 1:
            continue
        moved = np.linalg.norm(_centre(track[last]) - _centre(face)) / size
        if moved < 0.5 and (best is None or moved < best[0]):
            best = (float(moved), number)
    return None if best is None else best[1]


def _centre(face: Face) -> NDArray[np.float32]:
    centre: NDArray[np.float32] = face.points[:, :2].mean(0)
    return centre


def _area(track: Track) -> float:
    return float(sum(np.prod(np.ptp(face.points[:, :2], axis=0)) for face in track.values()))


def _height(track: Track) -> float:
    return float(np.median([face.box[3] - face.box[1] for face in track.values()]))


def _distance(track: Track, index: int, at: NDArray[np.float32]) -> float:
    """Pixels from a point; a track that is not there at that time counts as far away."""
    nearest = min(track, key=lambda other: abs(other - index))
    late = abs(nearest - index)
    return float(np.linalg.norm(_centre(track[nearest]) - at)) + 1000.0 * late
