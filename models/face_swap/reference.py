"""What a shot looks like, measured once, so that every frame is matched to the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import geometry, topology
from models.face.roi import ring_points
from models.face_swap import warp

Image = NDArray[np.uint8]
Points = NDArray[np.float32]

SAMPLES = 7
"""Frames of a shot that are worth measuring: more change little."""

TEXTURE_EYE_PX = (48.0, 260.0)
"""Least and most eye distance of the texture, in pixels."""

OVERSAMPLING = 1.25
"""Texture pixels per frame pixel: what the second resampling would lose."""

MARGIN = 0.25
"""Space around the face in the texture, in eye distances."""


@dataclass(frozen=True, eq=False)
class ColourReference:
    """The shot's own face, laid out on its most frontal sample: what a swap is matched to.

    A pure function of the sample frames: chunks and retries that measure the same frames of a shot
    give the same pixels. Measure it once a shot, over all of it, and pass it to every swap.
    """

    points: Points
    """[478, 3] where the landmarks lie in the texture; z is 0 where it was not known."""
    appearance: Image
    """[h, w, 3] mean face over the samples, in the texture's layout."""
    detail: float
    """Fine detail of the face in the frames' own pixels: mean absolute Laplacian of luma."""
    eye_px: float
    """Eye distance in the frames, pixels."""
    eyes_open: tuple[float, float]
    """Usual lid gap over eye width, (left, right)."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the texture."""
        return self.appearance.shape[1], self.appearance.shape[0]

    @property
    def scale(self) -> float:
        """Texture pixels per frame pixel."""
        return _eye(self.points) / self.eye_px

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `from_arrays` needs, for storing."""
        return {
            "points": self.points,
            "appearance": self.appearance,
            "scalars": np.array([self.detail, self.eye_px, *self.eyes_open], np.float64),
        }

    @classmethod
    def from_arrays(cls, stored: Mapping[str, NDArray[Any]]) -> ColourReference:
        """The reference whose `arrays` these are."""
        detail, eye_px, left, right = (float(value) for value in stored["scalars"])
        return cls(stored["points"], stored["appearance"], detail, eye_px, (left, right))

    @classmethod
    def measure(cls, samples: Sequence[tuple[Image, Points]]) -> ColourReference:
        """Measure a shot on some of its frames.

        Args:
            samples: (uint8 [h, w, 3], float32 [478, 2 or 3] pixels of that picture), in the size
                of the frames that will be swapped; see `sample_frames`. Whole frames and windows
                of them that hold the face's ring give the same reference, bit for bit.

        Raises:
            ValueError: there are no samples.
        """
        if not samples:
            raise ValueError("no sample frames to measure the shot on")
        samples = [_anchored(frame, points) for frame, points in samples]
        base = min(range(len(samples)), key=lambda i: _turn(samples[i][1]))
        points, width, height = _layout(samples[base][1])
        total = np.zeros((height, width, 3), np.float32)
        for frame, marks in samples:
            seen = warp.mesh_map(points, marks, width, height, step=2)
            total += cv2.remap(
                frame, seen.x, seen.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        frame, marks = samples[base]
        gaps = np.array([geometry.eye_openness(marks) for _, marks in samples])
        left, right = np.percentile(gaps, 70, axis=0)
        return cls(
            points=points,
            appearance=np.round(total / len(samples)).astype(np.uint8),
            detail=face_detail(frame, marks),
            eye_px=_eye(marks),
            eyes_open=(float(left), float(right)),
        )


def sample_frames(points_per_frame: Sequence[Points | None], count: int = SAMPLES) -> list[int]:
    """Pick frame numbers to measure a shot on: spread evenly over the frames with a face."""
    usable = [i for i, points in enumerate(points_per_frame) if points is not None]
    if len(usable) <= count:
        return usable
    picks = np.linspace(0, len(usable) - 1, 2 * count + 1)[1::2]
    return [usable[round(float(p))] for p in picks]


def face_detail(rgb: Image, points: Points) -> float:
    """Mean absolute Laplacian of luma inside the middle of the face oval, in grey levels."""
    oval = points[topology.FACE_OVAL, :2]
    centre = oval.mean(0)
    inner = centre + (oval - centre) * 0.8
    x, y, w, h = cv2.boundingRect(np.round(inner).astype(np.int32))
    x0, y0 = max(x, 0), max(y, 0)
    crop = rgb[y0 : max(y + h, y0 + 1), x0 : max(x + w, x0 + 1)]
    if crop.size == 0:
        return 0.0
    mask = np.zeros(crop.shape[:2], np.uint8)
    cv2.fillConvexPoly(mask, np.round(inner - [x0, y0]).astype(np.int32), (1,))
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    detail = np.abs(cv2.Laplacian(grey, cv2.CV_32F))
    return float(detail[mask > 0].mean()) if mask.any() else 0.0


def _anchored(frame: Image, points: Points) -> tuple[Image, Points]:
    """Cut a picture to the face's ring, so that it does not matter what crop it came in.

    The corner is found by whole numbers that move with the crop: the last bits of everything
    computed from the landmarks depend on where they are counted from.
    """
    corner = np.floor(points[:, :2].min(0))
    local = points.astype(np.float32)
    local[:, :2] -= corner
    ring = ring_points(local)
    low = np.maximum(corner + np.floor(ring.min(0)), 0).astype(int)
    high = np.minimum(corner + np.ceil(ring.max(0)) + 1, frame.shape[1::-1]).astype(int)
    if (high - low < 2).any():
        return frame, points
    local[:, :2] += corner - low
    return np.ascontiguousarray(frame[low[1] : high[1], low[0] : high[0]]), local


def _layout(points: Points) -> tuple[Points, int, int]:
    """Where a frame's landmarks go in the texture, and the texture's width and height."""
    wanted = float(np.clip(_eye(points) * OVERSAMPLING, *TEXTURE_EYE_PX))
    placed = np.zeros((len(points), 3), np.float32)
    placed[:, : points.shape[1]] = points * np.float32(wanted / max(_eye(points), 1.0))
    low, high = placed[:, :2].min(0), placed[:, :2].max(0)
    pad = np.float32(MARGIN * wanted)
    width, height = (int(np.ceil(v)) for v in high - low + 2 * pad)
    placed[:, :2] += pad - low
    return placed, width, height


def _turn(points: Points) -> float:
    """How far a face is from frontal, eyes open and mouth closed, in degrees or the like."""
    mouth = geometry.mouth_openness(points) * 60
    lids = 60 * max(0.0, 0.25 - min(geometry.eye_openness(points)))
    if points.shape[1] < 3:
        return mouth + lids
    pose = geometry.head_pose(points)
    return abs(pose.yaw) + 0.5 * abs(pose.pitch) + mouth + lids


def _eye(points: Points) -> float:
    return geometry.interocular(points)
