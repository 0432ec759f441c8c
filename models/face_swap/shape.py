"""The recipient's brows, nose and lips in their own shape, inside the presenter's face.

Stretching a photo onto another's landmarks gives the recipient the presenter's brows and nose. Here
those features keep the shape they have in the photo; the outline, the eyelids and the mouth opening
stay the presenter's, because the presenter's jaw, eyeballs and teeth are what they meet.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.face import geometry, topology

Points = NDArray[np.float32]
Float = NDArray[np.float32]

STRENGTH = {"brow": 0.9, "nose": 0.8, "lip": 0.85}
"""How far features go from the presenter's shape towards the recipient's."""

MOST = 0.22
"""Largest shift of a point, in eye distances: beyond it the photo's expression is to blame."""

LIP_INSET = 0.25
"""Part of the lip's thickness that is left out at the mouth opening."""

DEPTH_DOUBTFUL = 40.0
"""Difference of yaw in degrees at which estimated depth says nothing about the nose's place."""

NOSE = np.array([6, 197, 195, 5, 4, 1, 2, 98, 327, 49, 279, 48, 278, 64, 294, 115, 344, 19, 94,
                 220, 440, 45, 275])  # fmt: skip

_ALIGNED_BY = np.array([33, 133, 362, 263, 168, 6, 127, 356, 234, 454, 10, 152, 172, 397, 2])
_BROWS = np.concatenate([topology.LEFT_BROW, topology.RIGHT_BROW])
_FIXED = np.concatenate(
    [topology.FACE_OVAL, topology.LEFT_EYE, topology.RIGHT_EYE, topology.INNER_LIPS,
     [topology.LEFT_MOUTH_CORNER, topology.RIGHT_MOUTH_CORNER]]
)  # fmt: skip


def personal_layout(source: Points, reference: Points) -> Points:
    """Move the features of a layout to where the photo's person has them.

    Args:
        source: float32 [478, 3] landmarks of the photo.
        reference: float32 [478, 3] landmarks of the layout.

    Returns:
        float32 [478, 3] the layout with brows, nose and lips reshaped, smooth in between.
    """
    fit = geometry.umeyama(source[_ALIGNED_BY], reference[_ALIGNED_BY])
    ours = fit.apply(source)[:, :2]
    theirs = reference[:, :2]
    eye = geometry.interocular(reference)
    wanted = np.zeros((topology.MESH_POINTS, 2), np.float32)
    turn = abs(geometry.head_pose(source).yaw - geometry.head_pose(reference).yaw)
    certain = max(0.0, 1 - turn / DEPTH_DOUBTFUL)
    wanted[NOSE] = certain * STRENGTH["nose"] * (ours[NOSE] - theirs[NOSE])
    wanted[_BROWS] = STRENGTH["brow"] * _brow_shift(ours, theirs)
    outer, inner = _lip_pairs()
    thickness = (ours[outer] - ours[inner]) - (theirs[outer] - theirs[inner])
    wanted[outer] = STRENGTH["lip"] * thickness
    length = np.linalg.norm(wanted, axis=1, keepdims=True)
    wanted *= np.minimum(1, MOST * eye / np.maximum(length, 1e-6))
    moved = np.concatenate([_FIXED, NOSE, _BROWS, outer])
    shift = _spread() @ wanted[np.unique(moved)]
    layout = reference.astype(np.float32)
    layout[: topology.MESH_POINTS, :2] += shift
    return layout


def inside_lips(points: Points) -> Points:
    """Landmarks with the inner lip edge drawn into the red, so that no teeth or gap are sampled."""
    outer, inner = _lip_pairs()
    moved = points.copy()
    moved[inner] += np.float32(LIP_INSET) * (points[outer] - points[inner])
    return moved


def _brow_shift(ours: Float, theirs: Float) -> Float:
    """Shift of the brow points, measured from each eye's corners: poses differ a little."""
    shifts = []
    for brow, corners in (
        (topology.LEFT_BROW, [33, 133]),
        (topology.RIGHT_BROW, [362, 263]),
    ):
        drift = theirs[corners].mean(0) - ours[corners].mean(0)
        shifts.append(ours[brow] + drift - theirs[brow])
    return np.concatenate(shifts)


@cache
def _lip_pairs() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Points of the outer lip edge and those of the inner edge beside them, without corners."""
    outer = [146, 91, 181, 84, 17, 314, 405, 321, 375, 409, 270, 269, 267, 0, 37, 39, 40, 185]
    inner = [95, 88, 178, 87, 14, 317, 402, 318, 324, 415, 310, 311, 312, 13, 82, 81, 80, 191]
    return np.array(outer), np.array(inner)


@cache
def _spread() -> Float:
    """Matrix [468, constrained] that extends shifts over the mesh harmonically.

    Rows are the mesh's points, columns the constrained points in ascending order; the graph
    Laplacian of the mesh is zero at every free point.
    """
    outer, _ = _lip_pairs()
    held = np.unique(np.concatenate([_FIXED, NOSE, _BROWS, outer]))
    count = topology.MESH_POINTS
    laplacian = np.zeros((count, count))
    for a, b in ((0, 1), (1, 2), (2, 0)):
        i, j = topology.TRIANGLES[:, a], topology.TRIANGLES[:, b]
        laplacian[i, j] = laplacian[j, i] = -1
    np.fill_diagonal(laplacian, -laplacian.sum(1))
    free = np.setdiff1d(np.arange(count), held)
    matrix = np.zeros((count, len(held)), np.float32)
    matrix[held, np.arange(len(held))] = 1
    matrix[free] = -np.linalg.solve(laplacian[np.ix_(free, free)], laplacian[np.ix_(free, held)])
    return matrix
