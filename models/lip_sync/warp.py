"""Piecewise-affine warp of a picture by a mesh: where each output pixel comes from."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from models.face import topology

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
UInt8 = npt.NDArray[np.uint8]

_STILL = 0.02  # pixels: a corner that moves less counts as pinned
_FLAT = 0.05  # twice the area in square pixels under which a triangle cannot be inverted
_SUBPIXEL = 4


def _ring_triangles() -> Int32:
    """Triangles between the face oval and the pinned ring, which follows the mesh's points."""
    count = len(topology.FACE_OVAL)
    first = topology.MESH_POINTS
    rows = []
    for i in range(count):
        j = (i + 1) % count
        a, b = int(topology.FACE_OVAL[i]), int(topology.FACE_OVAL[j])
        rows += [(a, b, first + i), (b, first + j, first + i)]
    return np.array(rows, np.int32)


TRIANGLES = np.concatenate([topology.TRIANGLES, _ring_triangles()])
"""The mesh and the ring around it: corners 0..467 are landmarks, 468..503 ring points."""


def moving_triangles(source: Float32, target: Float32) -> Int32:
    """Return the triangles of :data:`TRIANGLES` with a moving corner, [m, 3].

    Args:
        source: float32 [504, 2] pixels, landmarks and ring before.
        target: float32 [504, 2] pixels, after.
    """
    moved = np.linalg.norm(source - target, axis=1) > _STILL
    return np.asarray(TRIANGLES[moved[TRIANGLES].any(axis=1)], np.int32)


def backward_map(
    source: Float32,
    target: Float32,
    depth: Float32,
    triangles: Int32,
    shape: tuple[int, int],
) -> tuple[Float32, Float32, UInt8]:
    """Rasterise the moved mesh and return, for each output pixel, where to read.

    Triangles are drawn from far to near, so that a cheek which turns away never covers a lip. None
    is dropped for being folded in the source: a wide yawn folds the chin's landmarks over the lip.

    Args:
        source: float32 [504, 2] pixels in the window's coordinates, before.
        target: float32 [504, 2] the same after.
        depth: float32 [504], larger is farther.
        triangles: int32 [m, 3].
        shape: (height, width) of the window.

    Returns:
        x and y maps for ``cv2.remap`` (float32 [h, w], the pixel itself where nothing moved) and
        the covered pixels (uint8 [h, w], 0 or 1).
    """
    height, width = shape
    corners, origins = target[triangles].astype(np.float64), source[triangles].astype(np.float64)
    area = _doubled_area(corners)
    keep = np.flatnonzero(np.abs(area) > _FLAT)
    # The winding of the mesh says which side is seen; the far and the turned away come first.
    facing = (area[keep] > 0) & (triangles[keep].max(axis=1) < topology.MESH_POINTS)
    order = keep[np.lexsort((-depth[triangles[keep]].mean(axis=1), facing))]
    corners, origins = corners[order], origins[order]
    homogeneous = np.concatenate([corners, np.ones((len(corners), 3, 1))], axis=2)
    # Displacements, not positions: small numbers keep float32 exact to 1/1000 pixel.
    shift = origins - corners
    table = np.zeros((len(corners) + 1, 10), np.float32)
    if len(corners):
        table[1:, :6] = np.linalg.solve(homogeneous, shift).transpose(0, 2, 1).reshape(-1, 6)
        # Pixels on the rim of a sliver lie outside it, where its affine map runs wild.
        table[1:, 6:8], table[1:, 8:] = shift.min(axis=1), shift.max(axis=1)
    label = np.zeros((height, width), np.uint16)
    fixed = np.round(corners * (1 << _SUBPIXEL)).astype(np.int32)
    for index, polygon in enumerate(fixed, start=1):
        cv2.fillConvexPoly(label, polygon, index, cv2.LINE_8, _SUBPIXEL)
    flat = table[label.ravel()]
    xs = np.tile(np.arange(width, dtype=np.float32), height)
    ys = np.repeat(np.arange(height, dtype=np.float32), width)
    move_x = flat[:, 0] * xs + flat[:, 1] * ys + flat[:, 2]
    move_y = flat[:, 3] * xs + flat[:, 4] * ys + flat[:, 5]
    map_x = xs + np.clip(move_x, flat[:, 6], flat[:, 8])
    map_y = ys + np.clip(move_y, flat[:, 7], flat[:, 9])
    covered = (label > 0).astype(np.uint8)
    return map_x.reshape(label.shape), map_y.reshape(label.shape), covered


def _doubled_area(corners: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    u, v = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0])


def closed_curve(points: Float32, steps: int = 4) -> Float32:
    """Return a smooth closed curve through points (centripetal enough: uniform Catmull-Rom).

    Args:
        points: float32 [n, 2] in order around the outline.
        steps: points on the result for each given one.
    """
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    later = np.roll(points, -2, axis=0)
    t = (np.arange(steps, dtype=np.float32) / steps)[:, None, None]
    curve = 0.5 * (
        2 * points
        + (after - before) * t
        + (2 * before - 5 * points + 4 * after - later) * t**2
        + (3 * points - before - 3 * after + later) * t**3
    )
    return np.asarray(curve.transpose(1, 0, 2).reshape(-1, 2), np.float32)


def fill(points: Float32, shape: tuple[int, int]) -> UInt8:
    """Rasterise a closed outline with soft edges: uint8 [h, w], 0..255."""
    image = np.zeros(shape, np.uint8)
    shift = 4
    outline = np.round(points * (1 << shift)).astype(np.int32)
    cv2.fillPoly(image, [outline], 255, cv2.LINE_AA, shift)
    return image
