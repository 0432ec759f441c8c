from __future__ import annotations

import numpy as np
import pytest
import skimage.data

from models.face.landmarks import FaceMesh
from tests.models.portraits import astronaut, hopper, moved, placed, resized

FACE_HEIGHT = 118  # of the astronaut's mesh in the original picture, pixels


def test_a_still_gives_478_points_inside_the_picture():
    with FaceMesh() as mesh:
        (face,) = mesh.detect(hopper())
    assert face.points.shape == (478, 3)
    assert face.points.dtype == np.float32
    x0, y0, x1, y1 = face.box
    assert 0 <= x0 < x1 <= hopper().shape[1]
    assert 0 <= y0 < y1 <= hopper().shape[0]


@pytest.mark.parametrize("height", [30, 60, 120, 300])
def test_faces_of_all_sizes_are_found_in_a_960x540_frame(height):
    frame = placed(resized(astronaut(), height / FACE_HEIGHT), 40, 0)
    with FaceMesh() as mesh:
        (face,) = mesh.detect(frame)
    assert face.box[3] - face.box[1] == pytest.approx(height, rel=0.25)


def test_several_faces_come_largest_first_and_each_once():
    both = np.hstack([resized(astronaut(), 600 / 512 * 0.6)[:300], hopper()[60:360]])
    with FaceMesh(max_faces=5) as mesh:
        faces = mesh.detect(both)
    heights = [face.box[3] - face.box[1] for face in faces]
    assert len(faces) == 2
    assert heights == sorted(heights, reverse=True)


def test_max_faces_keeps_the_largest():
    both = np.hstack([resized(astronaut(), 0.6)[:300], hopper()[60:360]])
    with FaceMesh(max_faces=1) as mesh:
        (face,) = mesh.detect(both)
    assert face.box[0] > 300


def test_no_face_gives_an_empty_list():
    with FaceMesh() as mesh:
        assert mesh.detect(skimage.data.coffee()) == []
    with FaceMesh(video=True) as mesh:
        assert mesh.detect(np.zeros((90, 160, 3), np.uint8)) == []


def test_video_follows_a_small_face_across_the_frame_and_finds_it_again_after_a_cut():
    small = resized(astronaut(), 100 / FACE_HEIGHT)
    positions = [(20 + 25 * i, 10) for i in range(8)]
    found = []
    with FaceMesh(max_faces=1, video=True) as mesh:
        for x, y in positions:
            found.append(mesh.detect(placed(small, x, y))[0].box[0])
        assert mesh.detect(np.full((540, 960, 3), 60, np.uint8)) == []
        (again,) = mesh.detect(placed(small, 400, 60))
    assert np.diff(found) == pytest.approx(25, abs=6)
    assert again.box[0] == pytest.approx(found[0] + 380, abs=6)


def test_video_is_steady_on_a_still_face():
    frame = placed(resized(astronaut(), 1.5), 100, 0)
    with FaceMesh(max_faces=1, video=True) as mesh:
        marks = [mesh.detect(frame)[0].points for _ in range(4)]
    assert np.abs(marks[-1] - marks[1]).max() < 1.0


def test_the_same_clip_gives_the_same_points():
    clip = [moved(hopper(), 3 * i, i, i) for i in range(4)]
    runs = []
    for _ in range(2):
        with FaceMesh(max_faces=1, video=True) as mesh:
            runs.append([mesh.detect(frame)[0].points for frame in clip])
    assert np.array_equal(runs[0], runs[1])


def test_native_libraries_write_nothing_to_stderr(capfd):
    with FaceMesh(max_faces=1, video=True) as mesh:
        mesh.detect(hopper())
        mesh.detect(hopper())
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("wrong", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_anything_but_an_rgb_picture_is_refused(wrong):
    with FaceMesh() as mesh, pytest.raises(ValueError, match="expected uint8"):
        mesh.detect(wrong)
