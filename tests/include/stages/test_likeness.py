"""The presenter chosen by a photo, on real portraits in a real video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from include.errors import BadFace, BadInput
from include.media.decode import VideoReader
from include.stages.likeness import LOOKS, Likeness, looks
from include.stages.presenter import follow
from models.face.landmarks import Face, FaceMesh
from tests.support.tiny import astronaut, hopper, write_photo, write_video

SHOTS = [0, 6]


def scene(number: int):
    """Two people side by side, hopper the larger one; after the cut hopper alone."""
    frame = np.full((360, 640, 3), 90, np.uint8)
    him = cv2.resize(hopper()[20:380, 90:450], (340, 340), interpolation=cv2.INTER_AREA)
    frame[10:350, 295 + number % 2 : 635 + number % 2] = him
    if number < SHOTS[1]:
        her = cv2.resize(astronaut()[0:280, 90:370], (250, 250), interpolation=cv2.INTER_AREA)
        frame[60:310, 20 + number : 270 + number] = her
    return frame


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("likeness") / "two.mp4"
    return write_video(path, map(scene, range(10)), 10, "-bf", "0", "-g", "5")


@pytest.fixture(scope="module")
def found(video: Path) -> list[list[Face]]:
    with VideoReader(video) as reader, FaceMesh(max_faces=2) as mesh:
        faces = [mesh.detect(frame) for frame in reader.frames()]
    assert [len(each) for each in faces] == [2] * 6 + [1] * 4
    return faces


@pytest.fixture
def reader(video: Path) -> Iterator[VideoReader]:
    with VideoReader(video) as opened:
        yield opened


def test_the_person_of_the_photo_is_followed_and_nobody_else(found, reader, tmp_path) -> None:
    """She is the smaller of two and gone after the cut: there nobody is the presenter."""
    other_picture = cv2.flip(astronaut()[0:340, 40:400], 1)
    photo = write_photo(tmp_path / "her.jpg", other_picture)
    points = follow(found, SHOTS, Likeness(photo, "her.jpg", reader))
    seen = ~np.isnan(points[:, 0, 0])
    assert seen.tolist() == [True] * 6 + [False] * 4
    assert points[:6, :, 0].max() < 300


def test_somebody_else_is_not_taken_and_the_message_says_how_far_away(
    found, reader, tmp_path
) -> None:
    from skimage import data

    grey = data.lfw_subset()  # strangers, but of 25 pixels: no face is seen in any
    photo = write_photo(tmp_path / "small.png", np.uint8(grey[0] * 255)[..., None].repeat(3, 2))
    with pytest.raises(BadInput, match=r"template\.face\.like: .*small\.png"):
        Likeness(photo, "small.png", reader)
    likeness = Likeness(write_photo(tmp_path / "him.jpg", hopper()), "him.jpg", reader)
    only_her = [faces[1:] for faces in found[:6]]
    assert np.isnan(follow(only_her, [0], likeness)).all()
    with pytest.raises(BadFace, match=r"ad\.mp4: nobody in it is the person of him\.jpg.*0\.\d\d"):
        likeness.nobody("ad.mp4")


def test_a_photo_without_a_face_or_that_is_none_is_named(reader, tmp_path) -> None:
    wall = write_photo(tmp_path / "wall.jpg", np.full((300, 300, 3), 120, np.uint8))
    with pytest.raises(BadFace, match=r"template\.face\.like: media/wall\.jpg shows no face"):
        Likeness(wall, "media/wall.jpg", reader)
    text = tmp_path / "text.jpg"
    text.write_text("not a photo")
    with pytest.raises(BadInput, match=r"template\.face\.like: .*faces/text\.jpg"):
        Likeness(text, "faces/text.jpg", reader)


def test_looks_are_apart_and_prefer_a_head_that_is_not_turned(found) -> None:
    track = {index: found[0][0] for index in range(100)}
    chosen = looks(track)
    assert len(chosen) == LOOKS
    assert np.diff(sorted(chosen)).min() >= 3
    assert looks({7: found[0][0]}) == [7]
