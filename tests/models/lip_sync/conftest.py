"""A real face that moves a little, as stages hand it to the renderer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from matplotlib import cbook
from skimage import data

from models.face.landmarks import FaceMesh

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shot:
    frames: list[UInt8]
    points: Float32

    @property
    def size(self) -> tuple[int, int]:
        return self.frames[0].shape[1], self.frames[0].shape[0]


def hopper() -> UInt8:
    path = str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    picture = cv2.imread(path)
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1])


def still_shot(picture: UInt8, count: int) -> Shot:
    """Move a portrait's head a little, as a presenter does."""
    with FaceMesh(max_faces=1) as mesh:
        face = mesh.detect(picture)[0]
    points = face.points
    eye = float(np.linalg.norm(points[33, :2] - points[263, :2]))
    centre = points[:468, :2].mean(axis=0)
    frames, moved = [], []
    for i in range(count):
        angle = np.radians(1.2 * np.sin(i / 23))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        step = (
            centre - turn @ centre + eye * np.array([0.03 * np.sin(i / 15), 0.02 * np.sin(i / 11)])
        )
        matrix = np.concatenate([turn, step[:, None]], axis=1)
        frames.append(
            cv2.warpAffine(
                picture,
                matrix,
                (picture.shape[1], picture.shape[0]),
                flags=cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REPLICATE,
            )
        )
        there = points.copy()
        there[:, :2] = points[:, :2] @ turn.T + step
        moved.append(there)
    return Shot([np.asarray(f, np.uint8) for f in frames], np.stack(moved).astype(np.float32))


@pytest.fixture(scope="session")
def closed_shot() -> Shot:
    """A closed mouth that never opens: the painted interior is needed."""
    return still_shot(hopper(), 75)


@pytest.fixture(scope="session")
def smiling_shot() -> Shot:
    """A smile that shows teeth: the inside of the mouth can be borrowed."""
    return still_shot(np.ascontiguousarray(data.astronaut()), 12)


@pytest.fixture(scope="session")
def track() -> Callable[[list[UInt8]], Float32]:
    """Read the landmarks of rendered frames."""

    def read(frames: list[UInt8]) -> Float32:
        out = np.full((len(frames), 478, 3), np.nan, np.float32)
        with FaceMesh(max_faces=1, video=True) as mesh:
            for i, frame in enumerate(frames):
                faces = mesh.detect(frame)
                if faces:
                    out[i] = faces[0].points
        return out

    return read
