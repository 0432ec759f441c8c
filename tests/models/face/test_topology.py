from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from models.face import topology
from tests.models.portraits import landmarks


def test_triangles_are_the_tessellation_with_mouth_and_eyes_open():
    from mediapipe.python.solutions.face_mesh_connections import FACEMESH_TESSELATION

    edges = {frozenset(edge) for edge in FACEMESH_TESSELATION}
    count = Counter(
        frozenset(edge) for tri in topology.TRIANGLES.tolist() for edge in combinations(tri, 2)
    )
    assert set(count) == edges
    border = {point for edge, n in count.items() if n == 1 for point in edge}
    rims = (topology.FACE_OVAL, topology.INNER_LIPS, topology.LEFT_EYE, topology.RIGHT_EYE)
    assert border == {int(point) for rim in rims for point in rim}
    assert max(count.values()) == 2


def test_triangles_of_a_frontal_face_are_wound_clockwise_on_the_screen():
    corners = landmarks("hopper")[topology.TRIANGLES][:, :, :2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    assert area[area < 0].sum() > -0.02 * area.sum()


def test_mirroring_twice_changes_nothing_and_swaps_the_eyes():
    mirror = topology.MIRROR
    assert np.array_equal(mirror[mirror], np.arange(topology.MESH_POINTS))
    assert np.array_equal(mirror[topology.LEFT_EYE], topology.RIGHT_EYE)


def test_lip_and_lid_pairs_join_upper_to_lower():
    points = landmarks("hopper")
    for pairs in (topology.LIP_PAIRS, topology.LEFT_LID_PAIRS, topology.RIGHT_LID_PAIRS):
        for upper, lower in pairs:
            assert points[upper, 1] <= points[lower, 1] + 1


def test_indices_cannot_be_changed_by_accident():
    assert not topology.FACE_OVAL.flags.writeable
    assert not topology.TRIANGLES.flags.writeable
