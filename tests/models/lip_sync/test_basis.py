from __future__ import annotations

import numpy as np
import pytest

from models.face import topology
from models.lip_sync import basis


def aligned(points):
    poses = basis.head_poses(points)
    return poses, basis.in_head(points, poses)


@pytest.fixture(scope="module")
def head(closed_shot):
    return aligned(closed_shot.points)


def test_head_movement_is_taken_out(head):
    _, points = head
    assert float(np.abs(points - points[0]).max()) < 0.01


def test_the_head_looks_straight_with_its_eyes_one_apart(head):
    _, points = head
    left, right = points[0, topology.LEFT_EYE_OUTER], points[0, topology.RIGHT_EYE_OUTER]
    assert np.linalg.norm(right - left) == pytest.approx(1.0, abs=0.01)
    assert right[0] > left[0]
    assert points[0, topology.CHIN, 1] > points[0, topology.FOREHEAD, 1]


@pytest.mark.parametrize("gap", [0.05, 0.1, 0.2])
def test_the_lip_gap_is_the_one_commanded(head, gap):
    neutral = basis.closed_rest(head[1])
    built = basis.build_basis(neutral)
    moved = neutral.copy()
    shift = built.targets(neutral, gap, 0.0) - neutral[basis.CONTROLS]
    moved[: topology.MESH_POINTS] += built.extension @ shift
    assert basis.lip_gap(moved[None])[0] == pytest.approx(gap, rel=0.05)
    chin = moved[topology.CHIN, 1] - neutral[topology.CHIN, 1]
    assert 0.43 * gap < chin < 0.62 * gap


@pytest.mark.parametrize("wider", [-0.1, 0.06])
def test_the_mouth_width_changes_by_what_is_commanded(head, wider):
    neutral = basis.closed_rest(head[1])
    built = basis.build_basis(neutral)
    moved = neutral.copy()
    shift = built.targets(neutral, 0.0, wider) - neutral[basis.CONTROLS]
    moved[: topology.MESH_POINTS] += built.extension @ shift
    change = basis.corner_width(moved[None]) - basis.corner_width(neutral[None])
    assert change[0] == pytest.approx(wider, rel=0.05)


def test_the_upper_face_never_moves(head):
    neutral = basis.closed_rest(head[1])
    built = basis.build_basis(neutral)
    upper = [topology.FOREHEAD, topology.LEFT_EYE_OUTER, topology.RIGHT_EYE_OUTER, 6, 4, 234, 454]
    assert not built.extension[upper].any()


def test_skin_follows_by_no_more_than_what_moves_it(head):
    built = basis.build_basis(basis.closed_rest(head[1]))
    assert built.extension.min() > -1e-4
    assert built.extension.sum(axis=1).max() < 1 + 1e-4


def test_a_smile_at_rest_is_closed_first(smiling_shot):
    _, head = aligned(smiling_shot.points)
    assert basis.lip_gap(head).min() > 0.05
    assert basis.lip_gap(basis.closed_rest(head)[None])[0] < 1e-3
