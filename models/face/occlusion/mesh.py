"""The face's mesh and a ring around it, and how its triangles cover a picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import roi, topology
from models.face.occlusion.arrays import Float, Points

RING = 1.3
"""Size of the layout over the face oval's: what covers the face is followed that far out."""


def mesh_vertices(points: Points) -> Points:
    """The mesh's points and the ring's, of [478, 2 or 3]: float32 [468 + 36, 2], pixels."""
    mesh = points[: topology.MESH_POINTS, :2]
    return np.asarray(np.concatenate([mesh, roi.ring_points(points, RING)]), np.float32)


def vertex_areas(points: Points) -> NDArray[np.float64]:
    """Signed area of the triangles around each of the 468 vertices: negative when turned away."""
    corners = points[topology.TRIANGLES, :2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    count = topology.MESH_POINTS
    around = [np.bincount(topology.TRIANGLES[:, k], area, count) for k in range(3)]
    return np.asarray(np.sum(around, axis=0))


def paint(
    vertices: Points, triangles: NDArray[np.int32], width: int, height: int
) -> tuple[NDArray[np.intp], NDArray[np.int32], Float]:
    """Fill a picture with triangles; later ones cover earlier ones.

    Args:
        vertices: float32 [v, 2] pixels.
        triangles: int32 [t, 3] numbers of vertices.
        width: of the picture, pixels.
        height: likewise.

    Returns:
        The n covered pixels (flat numbers), and the corners of their triangles and the shares of
        these in them, [n, 3] each.
    """
    labels = np.zeros((height, width), np.int32)
    fixed = np.round(vertices[triangles] * 16).astype(np.int32)
    for number, corners in enumerate(fixed):
        cv2.fillConvexPoly(labels, corners, (number + 1,), cv2.LINE_8, 4)
    covered = np.flatnonzero(labels)
    of = triangles[labels.ravel()[covered] - 1]
    a, b, c = np.moveaxis(vertices[of].astype(np.float64), 1, 0)
    p = np.stack([covered % width, covered // width], axis=1) - a
    e, f = b - a, c - a
    det = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
    det = np.where(np.abs(det) < 1e-3, 1e-3, det)
    # Pixels on the rim of a sliver lie outside it.
    u = np.clip((p[:, 0] * f[:, 1] - p[:, 1] * f[:, 0]) / det, -0.2, 1.2)
    v = np.clip((e[:, 0] * p[:, 1] - e[:, 1] * p[:, 0]) / det, -0.2, 1.2)
    return covered, of, np.stack([1 - u - v, u, v], axis=1).astype(np.float32)
