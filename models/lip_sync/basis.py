"""How a mouth command moves a face: lips and jaw are set, the skin between follows.

The person's own mesh is the model, so no table of displacements from other people is needed: the
jaw contour turns about the axis through the ears, the lips take their commanded shape, the upper
face stays, and what lies between is the harmonic interpolation over the mesh (the discrete Laplace
equation with cotangent weights; Pinkall and Polthier, 1993).

Coordinates are the head's own: x right, y down, z away from the camera, origin at the mean of the
rigid points, the outer eye corners one unit apart, the face looking straight at the camera.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.face import topology
from models.face.geometry import Points, Similarity, umeyama

Float32 = npt.NDArray[np.float32]

CHIN_DROP = 0.52
"""How far the chin drops per unit of lip opening; people differ from 0.43 to 0.62."""
ROUNDED, SPREAD = -0.115, 0.075
"""Change of the mouth's width, in eye distances, at width commands of -1 and 1."""
CLOSING_UPPER = 0.35
"""Share of the upper lip in closing a mouth whose rest is open (a smile)."""

_LIP_LIFT, _CORNER_DROP, _NARROWING = 0.07, 0.30, 0.10
_OUTER_UPPER, _OUTER_LOWER = 0.7, 0.97  # how much of the inner edge's way the outer edge goes
_PUCKER, _PROTRUSION, _CORNER_LIFT = 0.14, 0.5, 0.10
_NOSE_TIP_TO_BASE = 0.35
_BACKWARD = 0.1  # the landmark network hardly sees the jaw swing back in depth

_JAW = np.array(
    (288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150, 136, 172, 58), np.int32
)
"""Lower outline of the mesh from one jaw angle to the other."""
_CHIN_PAD = np.array((175, 171, 396, 208, 428, 199), np.int32)
_NOSE = np.array(
    (1, 2, 4, 5, 19, 94, 97, 98, 326, 327, 64, 294, 48, 278, 44, 274, 45, 275, 220, 440, 115, 344,
     131, 360, 49, 279, 102, 331, 129, 358, 141, 370, 20, 250, 60, 290, 75, 305, 59, 289, 166, 392,
     218, 438, 219, 439, 79, 309, 239, 459, 238, 458, 237, 457, 241, 461, 242, 462, 125, 354),
    np.int32,
)  # fmt: skip
_EARS = (127, 356)
_ROWS = 20  # points of each lip outline

LIPS = np.concatenate([topology.INNER_LIPS, topology.OUTER_LIPS])
CONTROLS = np.concatenate([LIPS, _JAW, _CHIN_PAD])
"""Landmarks whose place is commanded: inner lips, outer lips, jaw line, chin."""


def head_reference(points: Points) -> Points:
    """Return one frame's points in head coordinates, from the face's own axes.

    Args:
        points: float32 [478, 3] pixels.
    """
    pairs = np.array(topology.SYMMETRIC_PAIRS)
    x_axis = (points[pairs[:, 1]] - points[pairs[:, 0]]).mean(0)
    x_axis = x_axis / np.linalg.norm(x_axis)
    y_axis = points[topology.CHIN] - points[topology.FOREHEAD]
    y_axis = y_axis - x_axis * float(y_axis @ x_axis)
    y_axis = y_axis / np.linalg.norm(y_axis)
    axes = np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)])
    centred = points - points[topology.RIGID].mean(0)
    return np.asarray(_unit_eyes(centred @ axes.T), np.float32)


def _unit_eyes(points: Points) -> Points:
    span = points[topology.RIGHT_EYE_OUTER] - points[topology.LEFT_EYE_OUTER]
    return np.asarray(points / np.linalg.norm(span), np.float32)


def head_poses(points: Float32, rounds: int = 3) -> list[Similarity | None]:
    """Find for each frame of a shot the similarity head -> pixels; None without a face.

    Args:
        points: float32 [n, 478, 3] pixels; NaN rows where the face is absent.
        rounds: how often the reference is replaced by the mean of the aligned frames.

    Raises:
        ValueError: no frame has a face.
    """
    present = np.flatnonzero(~np.isnan(points[:, 0, 0]))
    if not len(present):
        raise ValueError("no frame of the shot has a face")
    reference = head_reference(points[present[len(present) // 2]])
    some = present[:: max(1, len(present) // 60)]
    for _ in range(rounds):
        aligned = [_to_head(points[i], reference).inverse(points[i]) for i in some]
        reference = head_reference(np.mean(aligned, axis=0).astype(np.float32))
    poses: list[Similarity | None] = [None] * len(points)
    for i in present:
        poses[i] = _to_head(points[i], reference)
    return poses


def in_head(points: Float32, poses: Sequence[Similarity | None]) -> Float32:
    """Bring frames into head coordinates by their poses.

    Args:
        points: float32 [n, 478, 3] pixels.
        poses: of these frames, as ``head_poses`` finds them.

    Returns:
        float32 [n, 478, 3], NaN rows where there is no pose.
    """
    head = np.full_like(points, np.nan)
    for i, pose in enumerate(poses):
        if pose is not None:
            head[i] = pose.inverse(points[i])
    return head


def heads_in_blocks(
    points: Float32, poses: Sequence[Similarity | None], size: int = 256
) -> Iterator[Float32]:
    """Yield ``in_head`` of some frames at a time: whoever keeps a figure of each needs no more."""
    for first in range(0, len(points), size):
        part = slice(first, first + size)
        yield in_head(points[part], poses[part])


def _to_head(points: Points, reference: Points) -> Similarity:
    return umeyama(reference[topology.RIGID], points[topology.RIGID])


def profile(neutral: Points) -> Float32:
    """Return the share of the full gap at each inner-lip point, 0 at the corners .. 1 mid-lip.

    Args:
        neutral: float32 [468 or more, 3], head coordinates.

    Returns:
        float32 [20] in the order of ``INNER_LIPS``; the upper and lower point of a pair agree.
    """
    x = neutral[topology.INNER_LIPS, 0]
    middle, half = (x[0] + x[10]) / 2, max(abs(x[10] - x[0]) / 2, 1e-3)
    shape = np.maximum(1 - (np.abs(x - middle) / half) ** 2, 0.0) ** 0.65
    mirrored = shape[[0, *range(_ROWS - 1, 0, -1)]]  # upper <-> lower
    shape = (shape + mirrored) / 2
    out = shape / np.mean([shape[5], shape[4], shape[6]])
    return np.asarray(out, np.float32)


@dataclass(frozen=True)
class Basis:
    """Linear maps from a command to displacements of :data:`CONTROLS`, in head coordinates."""

    opening: Float32
    """[k, 3] per unit of gap (eye distances), as measured at the middle three lip pairs."""
    spread: Float32
    """[k, 3] per unit of added mouth width (eye distances)."""
    extension: Float32
    """[468, k]: displacement of the mesh from that of the controls; 0 in the upper face."""

    def targets(self, neutral: Points, gap: float, wider: float) -> Float32:
        """Return where the controls go, float32 [k, 3], head coordinates.

        Args:
            neutral: float32 [478, 3], the face at rest with its lips closed.
            gap: lip gap in eye distances, 0..~0.3.
            wider: change of the mouth's width in eye distances, negative for rounding.
        """
        moved = neutral[CONTROLS] + gap * self.opening + wider * self.spread
        return np.asarray(moved, np.float32)


def width_change(command: float) -> float:
    """Return the change of mouth width in eye distances for a command of -1..1."""
    return SPREAD * command if command > 0 else -ROUNDED * command


def build_basis(neutral: Points) -> Basis:
    """Build the basis on a person's own resting mesh.

    Args:
        neutral: float32 [478, 3], head coordinates.
    """
    return Basis(_opening(neutral), _spread(neutral), _extension(neutral))


def _mouth_sides(neutral: Points) -> tuple[Float32, npt.NDArray[np.bool_]]:
    """Offset from the mouth's middle over its half width, and which lip, for :data:`LIPS`."""
    corners = neutral[[topology.LEFT_MOUTH_CORNER, topology.RIGHT_MOUTH_CORNER]]
    half = max(float(corners[1, 0] - corners[0, 0]) / 2, 1e-3)
    side = (neutral[LIPS, 0] - corners[:, 0].mean()) / half
    lower = np.tile((np.arange(_ROWS) >= 1) & (np.arange(_ROWS) <= 9), 2)
    return np.asarray(side, np.float32), lower


def _opening(neutral: Points) -> Float32:
    out = np.zeros((len(CONTROLS), 3), np.float32)
    share = np.tile(profile(neutral), 2)
    side, lower = _mouth_sides(neutral)
    outer = np.arange(len(LIPS)) >= _ROWS
    way = np.where(outer, np.where(lower, _OUTER_LOWER, _OUTER_UPPER), 1.0)
    up, down = -_LIP_LIFT * share * way, (1 - _LIP_LIFT) * share * way
    full = np.clip(share, 0, 1)
    out[: len(LIPS), 1] = np.where(lower, down, up) + _CORNER_DROP * (1 - full)
    out[: len(LIPS), 0] = -_NARROWING * side * 0.5
    jaw = neutral[CONTROLS[len(LIPS) :]]
    hinge = neutral[list(_EARS)].mean(0)
    chin = neutral[topology.CHIN]
    angle = CHIN_DROP / max(float(hinge[2] - chin[2]), 0.2)
    out[len(LIPS) :, 1] = angle * np.maximum(hinge[2] - jaw[:, 2], 0.0)
    out[len(LIPS) :, 2] = _BACKWARD * angle * (jaw[:, 1] - hinge[1])
    # The lower lip swings with the jaw in depth.
    swing = _BACKWARD * angle * (neutral[LIPS, 1] - hinge[1]) * full
    out[: len(LIPS), 2] = np.where(lower, 0.6 * swing, 0.0)
    return out


def _spread(neutral: Points) -> Float32:
    out = np.zeros((len(CONTROLS), 3), np.float32)
    side, lower = _mouth_sides(neutral)
    middle = np.clip(1 - side**2, 0, 1)
    outer = np.arange(len(LIPS)) >= _ROWS
    out[: len(LIPS), 0] = side / 2
    thinner = np.where(lower, -_PUCKER, _PUCKER) * middle * outer
    out[: len(LIPS), 1] = thinner - _CORNER_LIFT * (1 - middle)
    out[: len(LIPS), 2] = _PROTRUSION * middle
    return out


def _extension(neutral: Points) -> Float32:
    mesh = neutral[: topology.MESH_POINTS].astype(np.float64)
    laplacian = _cotangent_laplacian(mesh)
    base, bridge = float(mesh[2, 1]), float(mesh[6, 1])
    fixed = mesh[:, 1] < base - _NOSE_TIP_TO_BASE * (base - bridge)
    fixed[_NOSE] = True
    fixed[np.setdiff1d(topology.FACE_OVAL, _JAW)] = True
    held = np.zeros(len(mesh), np.bool_)
    held[CONTROLS] = True
    free = ~(fixed | held)
    out = np.zeros((len(mesh), len(CONTROLS)))
    out[CONTROLS, np.arange(len(CONTROLS))] = 1.0
    inner = laplacian[np.ix_(free, free)] + 1e-9 * np.eye(int(free.sum()))
    out[free] = np.linalg.solve(inner, -laplacian[np.ix_(free, held)] @ out[held])
    return out.astype(np.float32)


def _cotangent_laplacian(mesh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Dense [n, n] stiffness matrix; obtuse angles count as nearly right ones, to stay monotone."""
    matrix = np.zeros((len(mesh), len(mesh)))
    tri = topology.TRIANGLES
    for k in range(3):
        apex, a, b = tri[:, k], tri[:, (k + 1) % 3], tri[:, (k + 2) % 3]
        u, v = mesh[a] - mesh[apex], mesh[b] - mesh[apex]
        area = np.maximum(np.linalg.norm(np.cross(u, v), axis=1), 1e-9)
        weight = np.clip((u * v).sum(1) / area, 0.02, 20.0) / 2
        np.add.at(matrix, (a, b), -weight)
        np.add.at(matrix, (b, a), -weight)
    matrix[np.diag_indices(len(mesh))] -= matrix.sum(1)
    return matrix


def most_closed(gaps: Float32) -> npt.NDArray[np.intp]:
    """Return the numbers of the 20% of frames with the smallest ``lip_gap`` (NaN: no face)."""
    return np.flatnonzero(gaps <= np.nanpercentile(gaps, 20) + 1e-9)


def closed_rest(head: Float32) -> Points:
    """Return the face at rest with its lips closed.

    The mean of some frames; what gap is left there is closed by both lips, outer edges and jaw
    following.

    Args:
        head: float32 [n, 478, 3] head coordinates of the ``most_closed`` frames of a shot.
    """
    rest = head.mean(axis=0).astype(np.float32)
    inner = topology.INNER_LIPS
    opposite = inner[[0, *range(_ROWS - 1, 0, -1)]]
    gap = rest[opposite] - rest[inner]  # towards the other lip
    lower = (np.arange(_ROWS) >= 1) & (np.arange(_ROWS) <= 9)
    share = np.where(lower, 1 - CLOSING_UPPER, CLOSING_UPPER)[:, None]
    step = gap * share
    step[[0, 10]] = 0.0
    out = rest.copy()
    out[inner] += step
    out[topology.OUTER_LIPS] += 0.8 * step
    middle = float(np.linalg.norm(gap[4:7], axis=1).mean())
    jaw = np.concatenate([_JAW, _CHIN_PAD])
    out[jaw] -= (1 - CLOSING_UPPER) * middle * _opening(out)[len(LIPS) :]
    return np.asarray(out, np.float32)


def lip_gap(head: Float32) -> Float32:
    """Mean gap of the middle three lip pairs, float32 [n], in eye distances (NaN when absent)."""
    pairs = np.array(topology.LIP_PAIRS[:3])
    gaps = np.linalg.norm(head[:, pairs[:, 0]] - head[:, pairs[:, 1]], axis=2)
    return np.asarray(gaps.mean(axis=1), np.float32)


def corner_width(head: Float32) -> Float32:
    """Distance of the mouth corners, float32 [n], in eye distances (NaN when absent)."""
    across = head[:, topology.RIGHT_MOUTH_CORNER] - head[:, topology.LEFT_MOUTH_CORNER]
    return np.asarray(np.linalg.norm(across, axis=1), np.float32)
