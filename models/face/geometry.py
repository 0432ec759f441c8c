"""Rigid alignment, head pose and a few measures of a face's landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.face import topology

Points = NDArray[np.float32]
"""[478 or more than the indices used, 2 or 3] pixels: x right, y down, z away from the camera."""


@dataclass(frozen=True)
class Similarity:
    """``scale * points @ rotation.T + translation``."""

    scale: float
    rotation: NDArray[np.float32]
    """[d, d], determinant +1."""
    translation: NDArray[np.float32]
    """[d]."""

    def apply(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points [n, d]."""
        mapped = self.scale * points @ self.rotation.T + self.translation
        return mapped.astype(np.float32)

    def inverse(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map points [n, d] back."""
        mapped = (points - self.translation) @ self.rotation / self.scale
        return mapped.astype(np.float32)


def umeyama(source: NDArray[np.float32], target: NDArray[np.float32]) -> Similarity:
    """Find the similarity that takes ``source`` to ``target`` with the least squared error.

    Umeyama, "Least-Squares Estimation of Transformation Parameters Between Two Point Patterns",
    IEEE PAMI 13(4), 1991. Never a reflection.

    Args:
        source: float32 [n, d], d = 2 or 3.
        target: float32 [n, d], the same points elsewhere.

    Raises:
        ValueError: shapes differ, or all source points are the same.
    """
    if source.shape != target.shape or source.ndim != 2:
        raise ValueError(f"point sets differ in shape: {source.shape} and {target.shape}")
    mean_s, mean_t = source.mean(0), target.mean(0)
    s, t = source - mean_s, target - mean_t
    spread = float((s**2).sum())
    if spread <= 0:
        raise ValueError("all source points are the same: no similarity is defined")
    u, singular, vt = np.linalg.svd(t.T @ s)
    sign = np.ones(source.shape[1], np.float32)
    if np.linalg.det(u @ vt) < 0:
        sign[-1] = -1
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / spread)
    translation = mean_t - scale * rotation @ mean_s
    return Similarity(scale, rotation.astype(np.float32), translation.astype(np.float32))


@dataclass(frozen=True)
class Pose:
    """Where a head looks, in degrees; all zero when it faces the camera upright."""

    yaw: float
    """Positive: turned towards the image's right (the nose moves right)."""
    pitch: float
    """Positive: looking up (the nose moves up)."""
    roll: float
    """Positive: tilted clockwise on the screen."""


FRONTAL_TILT = -8.0
"""Degrees that the line from forehead to chin leans in depth on a face that looks ahead."""


def head_pose(points: Points) -> Pose:
    """Estimate the head's pose from its 3D landmarks.

    The head's x axis is the mean over mirrored pairs of points, its y axis the line from forehead
    to chin made orthogonal to it. Depth is the landmark network's estimate, so angles are good to a
    few degrees near the front and compressed beyond about 60 degrees of yaw.

    Args:
        points: float32 [478, 3] pixels, z in the scale of x, smaller is nearer.
    """
    pairs = np.array(topology.SYMMETRIC_PAIRS)
    across = points[pairs[:, 1]] - points[pairs[:, 0]]
    x_axis = (across / np.linalg.norm(across, axis=1, keepdims=True)).mean(0)
    x_axis /= np.linalg.norm(x_axis)
    down = points[topology.CHIN] - points[topology.FOREHEAD]
    y_axis = down - x_axis * float(down @ x_axis)
    y_axis /= np.linalg.norm(y_axis)
    yaw = np.degrees(np.arctan2(x_axis[2], np.hypot(x_axis[0], x_axis[1])))
    roll = np.degrees(np.arctan2(x_axis[1], x_axis[0]))
    pitch = np.degrees(np.arctan2(-y_axis[2], np.hypot(y_axis[0], y_axis[1])))
    return Pose(float(yaw), float(pitch) - FRONTAL_TILT, float(roll))


def interocular(points: Points) -> float:
    """Distance between the outer eye corners in pixels, in 3D where depth is given."""
    return float(np.linalg.norm(points[topology.RIGHT_EYE_OUTER] - points[topology.LEFT_EYE_OUTER]))


def mouth_openness(points: Points) -> float:
    """Gap of the inner lips at the middle three pairs, in eye distances: 0 closed, ~0.3 wide."""
    pairs = np.array(topology.LIP_PAIRS[:3])
    gaps = np.linalg.norm(points[pairs[:, 0]] - points[pairs[:, 1]], axis=1)
    return float(gaps.mean()) / interocular(points)


def mouth_width(points: Points) -> float:
    """Distance of the mouth corners, in eye distances: about 0.55 at rest."""
    corners = points[topology.LEFT_MOUTH_CORNER] - points[topology.RIGHT_MOUTH_CORNER]
    return float(np.linalg.norm(corners)) / interocular(points)


def eye_openness(points: Points) -> tuple[float, float]:
    """Mean lid gap over the eye's own width, (left, right): ~0.3 open, under 0.12 closed."""

    def openness(pairs: tuple[tuple[int, int], ...], outer: int, inner: int) -> float:
        lids = np.array(pairs[:3])
        gaps = np.linalg.norm(points[lids[:, 0]] - points[lids[:, 1]], axis=1)
        return float(gaps.mean() / max(np.linalg.norm(points[outer] - points[inner]), 1e-6))

    return (
        openness(topology.LEFT_LID_PAIRS, topology.LEFT_EYE_OUTER, topology.LEFT_EYE_INNER),
        openness(topology.RIGHT_LID_PAIRS, topology.RIGHT_EYE_OUTER, topology.RIGHT_EYE_INNER),
    )
