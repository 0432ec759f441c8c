from __future__ import annotations

import numpy as np
import pytest

from models.face import geometry
from models.face.landmarks import FaceMesh
from tests.models.portraits import hopper, landmarks, moved


def rotation(axis: int, degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = [k for k in range(3) if k != axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix.astype(np.float32)


@pytest.mark.parametrize("dims", [2, 3])
def test_umeyama_recovers_a_similarity(dims):
    rng = np.random.default_rng(1)
    source = rng.normal(size=(20, dims)).astype(np.float32)
    turn = rotation(2, 30)[:dims, :dims]
    target = 2.5 * source @ turn.T + np.arange(dims, dtype=np.float32)
    fit = geometry.umeyama(source, target)
    assert fit.scale == pytest.approx(2.5, rel=1e-4)
    assert fit.apply(source) == pytest.approx(target, abs=1e-4)
    assert fit.inverse(target) == pytest.approx(source, abs=1e-4)


def test_umeyama_never_reflects():
    source = np.random.default_rng(2).normal(size=(10, 2)).astype(np.float32)
    fit = geometry.umeyama(source, source * np.array([-1, 1], np.float32))
    assert np.linalg.det(fit.rotation) == pytest.approx(1)


def test_umeyama_refuses_what_has_no_answer():
    with pytest.raises(ValueError, match="differ in shape"):
        geometry.umeyama(np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match="the same"):
        geometry.umeyama(np.ones((3, 2), np.float32), np.ones((3, 2), np.float32))


def test_a_frontal_portrait_has_no_angles_to_speak_of():
    pose = geometry.head_pose(landmarks("hopper"))
    assert (pose.yaw, pose.pitch, pose.roll) == pytest.approx((0, 0, 0), abs=8)


@pytest.mark.parametrize(("axis", "field"), [(1, "yaw"), (0, "pitch"), (2, "roll")])
@pytest.mark.parametrize("degrees", [-25, 25])
def test_turning_the_head_in_space_turns_that_angle(axis, field, degrees):
    points = landmarks("hopper")
    before = geometry.head_pose(points)
    after = geometry.head_pose(points @ rotation(axis, degrees).T)
    change = getattr(after, field) - getattr(before, field)
    assert abs(change) == pytest.approx(25, abs=1)


def test_yaw_is_positive_when_the_nose_goes_right_and_pitch_when_it_goes_up():
    points = landmarks("hopper")
    for axis, field, along, sign in ((1, "yaw", 0, 1), (0, "pitch", 1, -1)):
        for degrees in (-20, 20):
            turned = points @ rotation(axis, degrees).T
            nose, was = ((p[1] - p[[234, 454]].mean(0))[along] for p in (turned, points))
            angle, before = (getattr(geometry.head_pose(p), field) for p in (turned, points))
            assert np.sign((nose - was) * sign) == np.sign(angle - before)


def test_roll_is_clockwise_on_the_screen():
    with FaceMesh(max_faces=1) as mesh:
        tilted = mesh.detect(moved(hopper(), 0, 0, -15))[0].points
    change = geometry.head_pose(tilted).roll - geometry.head_pose(landmarks("hopper")).roll
    assert change == pytest.approx(15, abs=3)


def test_measures_do_not_depend_on_size():
    points = landmarks("astronaut")
    for measure in (geometry.mouth_openness, geometry.mouth_width):
        assert measure(points * 3) == pytest.approx(measure(points), rel=1e-4)
    assert geometry.eye_openness(points * 3) == pytest.approx(geometry.eye_openness(points), 1e-4)
    assert geometry.interocular(points * 3) == pytest.approx(3 * geometry.interocular(points))


def test_open_eyes_and_a_smile_are_measured_as_such():
    points = landmarks("astronaut")
    assert min(geometry.eye_openness(points)) > 0.15
    assert 0.03 < geometry.mouth_openness(points) < 0.35
