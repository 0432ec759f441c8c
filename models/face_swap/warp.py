"""Piecewise-affine warps over the face mesh, as sampling maps."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import roi, topology

Points = NDArray[np.float32]
Triangles = NDArray[np.int32]

OUTER_RING = 1.12
"""Ring around the oval on which the map is continued, so that its edge interpolates cleanly."""

SUBPIXEL_BITS = 4

SLIVER = 0.5
"""Twice the area in square pixels below which a triangle's map is noise; neighbours fill in."""


def _strip(upper_to_lower: tuple[tuple[int, int], ...], left: int, right: int) -> list[list[int]]:
    """Triangles that close a lens-shaped hole, given its (upper, lower) pairs in order."""
    out = [[left, upper_to_lower[0][0], upper_to_lower[0][1]]]
    for (a, b), (c, d) in itertools.pairwise(upper_to_lower):
        out += [[a, c, b], [c, d, b]]
    last_upper, last_lower = upper_to_lower[-1]
    return [*out, [last_upper, right, last_lower]]


def _hole_triangles() -> Triangles:
    """The mouth and the eyes closed by strips between their edges, wound like the mesh."""
    mouth = ((191, 95), (80, 88), (81, 178), (82, 87), (13, 14), (312, 317), (311, 402),
             (310, 318), (415, 324))  # fmt: skip
    left = ((246, 7), (161, 163), (160, 144), (159, 145), (158, 153), (157, 154), (173, 155))
    right = ((398, 382), (384, 381), (385, 380), (386, 374), (387, 373), (388, 390), (466, 249))
    strips = [*_strip(mouth, 78, 308), *_strip(left, 33, 133), *_strip(right, 362, 263)]
    return np.array(strips, np.int32)


def _ring_triangles() -> Triangles:
    """Quads between the oval and a ring outside it, whose points follow the mesh's."""
    out = []
    count = len(topology.FACE_OVAL)
    for i in range(count):
        j = (i + 1) % count
        a, b = int(topology.FACE_OVAL[i]), int(topology.FACE_OVAL[j])
        c, d = topology.MESH_POINTS + i, topology.MESH_POINTS + j
        out += [[a, c, b], [b, c, d]]
    return np.array(out, np.int32)


HOLES = _hole_triangles()
SURFACE = np.concatenate([topology.TRIANGLES, HOLES])
ALL = np.concatenate([_ring_triangles(), SURFACE])
RING_COUNT = len(ALL) - len(SURFACE)


def with_ring(points: Points) -> Points:
    """Mesh points and the outer ring's: float32 [468 + 36, 2]."""
    mesh = points[: topology.MESH_POINTS, :2]
    return np.asarray(np.concatenate([mesh, roi.ring_points(points, OUTER_RING)]), np.float32)


@dataclass(frozen=True)
class Map:
    """Where each pixel of a rectangle comes from."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    """[h, w] source pixel coordinates."""
    cover: NDArray[np.uint8]
    """[h, w] 255 where the mesh faces the camera, 0 outside, smooth at silhouettes."""


def mesh_map(target: Points, source: Points, width: int, height: int, step: int = 1) -> Map:
    """Build the sampling map that shows ``source``'s face on ``target``'s landmarks.

    Triangles that face away are left out; farther ones are overpainted by nearer ones where depth
    is given. The map is evaluated on every ``step``-th pixel and interpolated between.

    Args:
        target: float32 [478, 2 or 3] pixels of the rectangle to fill, z smaller is nearer.
        source: float32 [478, 2 or more] pixels of the picture to sample.
        width: of the rectangle.
        height: of the rectangle.
        step: grid spacing in pixels.
    """
    to, frm = with_ring(target), with_ring(source)
    order = painting_order(target)
    tris = ALL[order]
    dst = to[tris]
    forward, good = affine(dst, frm[tris])
    # The ring only continues the map: it may fold, and is never seen.
    visible = good & (facing(target)[order] | (order < RING_COUNT))
    grid_w, grid_h = -(-width // step), -(-height // step)
    labels = _rasterise((dst + 0.5) / step - 0.5, visible, grid_w, grid_h)
    y, x = np.indices((grid_h, grid_w), dtype=np.float32)
    x, y = x * step + (step - 1) / 2, y * step + (step - 1) / 2
    matrices = np.concatenate([np.full((1, 6), -1e4, np.float32), forward.reshape(-1, 6)])
    # Beyond the ring, too: smoothing must not reach the void.
    m = matrices[_grow(labels, 4)]
    map_x = m[..., 0] * x + m[..., 1] * y + m[..., 2]
    map_y = m[..., 3] * x + m[..., 4] * y + m[..., 5]
    map_x, map_y = _smooth(map_x), _smooth(map_y)
    seen = np.concatenate([[0], np.where(order >= RING_COUNT, 255, 0)]).astype(np.uint8)[labels]
    if step > 1:
        full = (grid_w * step, grid_h * step)
        map_x = np.asarray(cv2.resize(map_x, full), np.float32)
        map_y = np.asarray(cv2.resize(map_y, full), np.float32)
        seen = np.asarray(cv2.resize(seen, full), np.uint8)
    return Map(map_x[:height, :width], map_y[:height, :width], seen[:height, :width])


def _smooth(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Remove stray cells of folded triangles and soften the creases between triangles."""
    calm = cv2.medianBlur(np.ascontiguousarray(plane, np.float32), 5)
    return np.asarray(cv2.GaussianBlur(calm, (0, 0), 0.8), np.float32)


def painting_order(target: Points) -> NDArray[np.int64]:
    """Indices into ``ALL``: the ring first, then the surface from far to near."""
    ring = np.arange(RING_COUNT)
    surface = np.arange(RING_COUNT, len(ALL))
    if target.shape[1] < 3:
        return np.concatenate([ring, surface])
    depth = target[SURFACE, 2].mean(1)
    return np.concatenate([ring, surface[np.argsort(-depth, kind="stable")]])


def facing(target: Points) -> NDArray[np.bool_]:
    """Which of ``ALL`` face the camera, judged with their neighbours.

    Single triangles at lips and lids flip when they are pressed together: that is no turned head.
    """
    area = _signed_area(target[topology.TRIANGLES, :2])
    around = np.zeros(topology.MESH_POINTS, np.float32)
    for corner in range(3):
        np.add.at(around, topology.TRIANGLES[:, corner], area)
    front = np.ones(len(ALL), np.bool_)
    front[RING_COUNT:] = around[SURFACE].mean(1) > 0
    return front


def _signed_area(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Twice the area of triangles [n, 3, 2], positive when wound clockwise on the screen."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], np.float32)


def affine(
    dst: NDArray[np.float32], src: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Affine maps [n, 2, 3] from dst triangles to src triangles, and which are well defined."""
    e1, e2 = dst[:, 1] - dst[:, 0], dst[:, 2] - dst[:, 0]
    det = e1[:, 0] * e2[:, 1] - e1[:, 1] * e2[:, 0]
    good = np.abs(det) > SLIVER
    safe = np.where(good, det, 1)
    f1, f2 = src[:, 1] - src[:, 0], src[:, 2] - src[:, 0]
    col_x = (f1 * e2[:, 1:2] - f2 * e1[:, 1:2]) / safe[:, None]
    col_y = (f2 * e1[:, 0:1] - f1 * e2[:, 0:1]) / safe[:, None]
    shift = src[:, 0] - col_x * dst[:, 0, 0:1] - col_y * dst[:, 0, 1:2]
    return np.stack([col_x, col_y, shift], axis=2).astype(np.float32), good


def _rasterise(
    corners: NDArray[np.float32], visible: NDArray[np.bool_], width: int, height: int
) -> NDArray[np.int32]:
    """Paint triangle numbers (from 1) in order; 0 where there is none."""
    labels = np.zeros((height, width), np.int32)
    fixed = np.round(corners * (1 << SUBPIXEL_BITS)).astype(np.int32)
    for i in np.flatnonzero(visible):
        cv2.fillConvexPoly(labels, fixed[i], (int(i) + 1,), cv2.LINE_8, SUBPIXEL_BITS)
    return _grow(labels, 1)  # over what slivers left open


def _grow(labels: NDArray[np.int32], cells: int) -> NDArray[np.int32]:
    """Continue labels into the empty cells around them."""
    size = 2 * cells + 1
    spread = cv2.dilate(labels.astype(np.int16), np.ones((size, size), np.uint8))
    return np.where(labels > 0, labels, spread.astype(np.int32))


def interpolate(
    target: Points, values: NDArray[np.float32], width: int, height: int
) -> NDArray[np.float32]:
    """Spread one value a vertex linearly over the mesh: float32 [h, w], 0 outside.

    Args:
        target: float32 [478, 2] pixels of the mesh.
        values: float32 [468].
        width: of the result.
        height: of the result.
    """
    dst = target[SURFACE, :2].astype(np.float32)
    src = np.stack([values, np.zeros_like(values)], axis=1)[SURFACE]
    planes, good = affine(dst, src)
    labels = _rasterise(dst, good, width, height)
    m = np.concatenate([np.zeros((1, 3), np.float32), planes[:, 0]])[labels]
    y, x = np.indices((height, width), dtype=np.float32)
    return np.asarray(m[..., 0] * x + m[..., 1] * y + m[..., 2], np.float32)
