from __future__ import annotations

import cv2
import numpy as np
import pytest
import skimage.data

from include.errors import BadFace
from models.face import geometry
from models.face.landmarks import FaceMesh
from models.face.quality import ADVICE, assess_photo, sharpness
from tests.models.portraits import astronaut, hopper, landmarks, resized


@pytest.fixture(scope="module")
def mesh():
    with FaceMesh(max_faces=8) as detector:
        yield detector


def refused(picture, mesh) -> BadFace:
    with pytest.raises(BadFace) as caught:
        assess_photo(picture, mesh)
    return caught.value


@pytest.mark.parametrize("portrait", [astronaut, hopper])
def test_ordinary_portraits_are_accepted(portrait, mesh):
    photo = assess_photo(portrait(), mesh)
    assert photo.points.shape == (478, 3)
    assert photo.interocular > 50
    assert abs(photo.yaw) < 10
    assert photo.warnings == ()


@pytest.mark.parametrize(
    ("code", "picture"),
    [
        ("face.too_small", resized(astronaut(), 8 / 512)),
        ("face.too_small", resized(astronaut(), 0.4)),
        ("face.none", skimage.data.coffee()),
        ("face.several", np.hstack([astronaut(), astronaut()])),
        ("face.too_soft", cv2.GaussianBlur(hopper(), (0, 0), 6)),
        ("face.too_soft", resized(resized(astronaut(), 0.18), 6)),
    ],
    ids=["8x8", "small", "no face", "two", "blurred", "enlarged"],
)
def test_unusable_photos_are_refused_with_a_stable_code_and_advice(code, picture, mesh):
    error = refused(picture, mesh)
    assert error.code == code
    assert error.message.endswith(ADVICE[code])
    assert error.exit_code == 65


def test_a_turned_face_is_refused(mesh, monkeypatch):
    # No profile portrait ships with a library: the detector's answer is turned instead.
    c, s = np.cos(np.radians(50)), np.sin(np.radians(50))
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)

    class Turned:
        def detect(self, rgb):
            from models.face.landmarks import Face

            points = landmarks("hopper")
            return [Face(((points - points.mean(0)) @ turn.T + points.mean(0)).astype(np.float32))]

    error = refused(hopper(), Turned())
    assert error.code == "face.turned"
    assert "yaw" in error.message


def test_a_small_face_in_the_background_is_no_second_person(mesh):
    photo = hopper().copy()
    poster = resized(astronaut()[:220, 110:330], 0.3)
    photo[: poster.shape[0], : poster.shape[1]] = poster
    assert assess_photo(photo, mesh).interocular > 100


def test_sharpness_ignores_size_and_contrast_and_falls_with_blur():
    picture, points = hopper(), landmarks("hopper")
    sharp = sharpness(picture, points)
    half = sharpness(resized(picture, 0.5), points * 0.5)
    dull = (picture // 2 + 60).astype(np.uint8)
    eye = geometry.interocular(points)
    blurred = [sharpness(cv2.GaussianBlur(picture, (0, 0), k * eye), points) for k in (0.02, 0.04)]
    assert half == pytest.approx(sharp, rel=0.25)
    assert sharpness(dull, points) == pytest.approx(sharp, rel=0.1)
    assert sharp > 2 * blurred[0] > 4 * blurred[1]
