"""The presenter by a photo: in each shot the person who is the one in it."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np

from include.errors import BadFace, BadInput
from include.media.decode import VideoReader
from include.media.images import load_photo
from include.stages.presenter import Track
from models.face.geometry import head_pose
from models.identity import SAME_PERSON, distance, embed, embed_points

LOOKS = 5
"""Frames of a track that are compared with the photo: those in which the head is turned least."""
APART = 3
"""Least frames between two of them: neighbours tell the same."""


class Likeness:
    """Chooses the track that is the person of a photo; nobody where none is.

    A track counts by the median distance of its looks (see ``models.identity``); under
    ``SAME_PERSON`` it is the same person.

    Args:
        photo: the file, a stranger's.
        name: what the user calls it.
        reader: the template.

    Raises:
        BadFace: ``template.like``: nobody is seen in the photo.
        BadMedia: the photo cannot be used; the message names it.
    """

    def __init__(self, photo: Path, name: str, reader: VideoReader) -> None:
        try:
            wanted = embed(load_photo(photo))
        except BadInput as error:
            message = error.message.replace(str(photo), name)
            raise type(error)(f"template.face.like: {message}", code=error.code) from error
        if wanted is None:
            raise BadFace(
                f"template.face.like: {name} shows no face; use a photo of the presenter from "
                "the front",
                code="template.like",
            )
        self._wanted, self._name, self._reader = wanted, name, reader
        self._nearest = np.inf

    def __call__(self, tracks: list[Track], shot: range) -> Track | None:
        """See ``include.stages.presenter.Chooser``."""
        found = [(self._distance(track), number) for number, track in enumerate(tracks)]
        nearest, number = min(found)
        self._nearest = min(self._nearest, nearest)
        return tracks[number] if nearest < SAME_PERSON else None

    def _distance(self, track: Track) -> float:
        away = []
        for index in looks(track):
            (frame,) = self._reader.frames(index, index + 1)
            away.append(distance(self._wanted, embed_points(frame, track[index].points)))
        return float(np.median(away))

    def nobody(self, video: str) -> NoReturn:
        """Say that the person is not in the template.

        Raises:
            BadFace: ``template.not_seen``.
        """
        how = f"; the nearest is {self._nearest:.2f} away" if np.isfinite(self._nearest) else ""
        raise BadFace(
            f"template {video}: nobody in it is the person of {self._name} (under {SAME_PERSON} "
            f"apart is the same person{how}); use another photo, or name the face by a point: "
            "face: {at: [x, y], time: 1.2s}",
            code="template.not_seen",
        )


def looks(track: Track) -> list[int]:
    """The frames of a track to compare, in the order in which the head is turned more."""
    chosen: list[int] = []
    for index in sorted(track, key=lambda index: abs(head_pose(track[index].points).yaw)):
        if len(chosen) < LOOKS and all(abs(index - other) >= APART for other in chosen):
            chosen.append(index)
    return chosen
