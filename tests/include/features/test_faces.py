"""Figures of real faces and what moves them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from include.features.faces import FACE_FIGURES, count_faces, measure_face, no_face, skin
from include.features.rules import broken, hard_rules
from include.samples import shifts
from models.face.landmarks import FaceMesh
from tests.models.portraits import astronaut, hopper, landmarks


def measured(rgb):
    with FaceMesh(max_faces=1) as mesh:
        return measure_face(rgb, mesh.detect(rgb)[0].points)


def test_a_face_farther_away_is_smaller_by_that_factor():
    near, far = measured(astronaut()), measured(shifts.farther(astronaut(), 1.6))
    assert near["face_size"] / far["face_size"] == pytest.approx(1.6, rel=0.06)
    assert abs(near["face_yaw"] - far["face_yaw"]) < 4


def test_blur_light_and_hue_move_sharpness_and_skin_and_leave_the_rest():
    points = landmarks("hopper")
    before = measure_face(hopper(), points)
    soft = measure_face(shifts.blurred(hopper(), 3), points)
    dark = measure_face(shifts.exposure(hopper(), 0.6), points)
    green = measure_face(shifts.hue(hopper(), 60), points)
    assert soft["face_sharpness"] < 0.6 * before["face_sharpness"]
    assert dark["skin_luminance"] < before["skin_luminance"] - 10
    assert abs(green["skin_hue"] - before["skin_hue"]) > 25
    assert soft["face_size"] == dark["face_size"] == before["face_size"]


def test_a_turned_picture_shows_in_the_roll():
    turn = cv2.getRotationMatrix2D((256, 150), 15, 1)
    tilted = np.asarray(cv2.warpAffine(astronaut(), turn, (512, 512)), np.uint8)
    assert measured(astronaut())["face_roll"] < 6
    assert 9 < measured(tilted)["face_roll"] < 21


def test_faces_are_counted_and_never_below_what_is_known():
    assert count_faces(hopper()) == 1
    assert count_faces(np.hstack([hopper(), hopper()])) == 2
    blank = np.full((300, 300, 3), 128, np.uint8)
    assert count_faces(blank) == 0
    assert count_faces(blank, at_least=1) == 1


def test_cheeks_outside_the_picture_have_no_colour():
    away = landmarks("hopper") + np.float32(10_000)
    assert skin(hopper(), away) == (None, None)


def test_a_black_and_white_face_has_no_hue_and_breaks_no_rule_for_it():
    grey = cv2.cvtColor(cv2.cvtColor(hopper(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    light, hue = skin(np.asarray(grey, np.uint8), landmarks("hopper"))
    assert light is not None
    assert hue is None
    rules = [rule for rule in hard_rules("photo") if rule.feature == "skin_hue"]
    assert rules
    assert broken(rules, {"skin_hue": hue}) == []


def test_without_a_face_nothing_is_known():
    assert no_face() == dict.fromkeys(FACE_FIGURES)
