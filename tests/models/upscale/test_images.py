from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from models.upscale import images

KNOWN = (*images.TRAINING, *images.HELD_OUT, *images.EXCLUDED)


@pytest.mark.parametrize("image", KNOWN, ids=lambda image: image.name)
def test_a_listed_file_exists_and_has_its_digest(image):
    assert hashlib.sha256(images.locate(image).read_bytes()).hexdigest() == image.sha256


def test_training_and_held_out_pictures_do_not_overlap():
    training = {image.sha256 for image in images.TRAINING}
    held_out = {image.sha256 for image in images.HELD_OUT}
    assert not training & held_out
    assert len(training) == len(images.TRAINING)
    assert len(held_out) == len(images.HELD_OUT)


def test_portraits_that_sample_people_are_made_from_are_in_neither_set():
    portraits = {image.sha256 for image in images.EXCLUDED}
    assert {"astronaut", "grace_hopper"} <= {image.name for image in images.EXCLUDED}
    assert not portraits & {image.sha256 for image in (*images.TRAINING, *images.HELD_OUT)}


def test_no_held_out_picture_is_a_training_picture_in_another_file():
    """Catches the same photograph saved again: compares small, contrast-free thumbnails."""

    def thumbnail(image):
        grey = cv2.cvtColor(images.read(image), cv2.COLOR_RGB2GRAY).astype(np.float32)
        small = cv2.resize(grey, (24, 24), interpolation=cv2.INTER_AREA)
        return ((small - small.mean()) / (small.std() + 1e-6)).ravel()

    seen = {image.name: thumbnail(image) for image in images.TRAINING}
    for held_out in images.HELD_OUT:
        mine = thumbnail(held_out)
        alike = {name: float(np.mean(mine * other)) for name, other in seen.items()}
        assert max(alike.values()) < 0.9, (held_out.name, alike)


@pytest.mark.parametrize("image", [*images.TRAINING, *images.HELD_OUT], ids=lambda i: i.name)
def test_a_picture_reads_as_rgb(image):
    rgb = images.read(image)
    assert rgb.dtype == np.uint8
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3


def test_a_changed_file_is_refused():
    changed = images.Image("x", images.HELD_OUT[0].package, images.HELD_OUT[0].path, "0" * 64)
    with pytest.raises(ValueError, match="is not the file that this table describes"):
        images.locate(changed)


def test_a_missing_package_is_named():
    with pytest.raises(ValueError, match="package no_such_package is not installed"):
        images.locate(images.Image("x", "no_such_package", "a.png", "0" * 64))
