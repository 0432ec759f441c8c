"""Each change to a real photograph moves the figure that is meant to see it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from include.features.picture import (
    blockiness,
    blur,
    colour_temperature,
    letterbox,
    measure_picture,
    median_of,
    noise,
)
from include.samples import shifts
from tests.models.portraits import astronaut, hopper


def jpeg(rgb, quality):
    _, data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


@pytest.mark.parametrize("picture", [astronaut, hopper])
@pytest.mark.parametrize(
    ("shift", "feature", "least"),
    [
        (lambda p: shifts.exposure(p, 1.3), "luma", 15),
        (lambda p: shifts.exposure(p, 0.7), "contrast", -15),
        (lambda p: shifts.white_balance(p, 0.2), "colour_temperature", -500),
        (lambda p: shifts.white_balance(p, -0.2), "colour_temperature", 500),
        (lambda p: shifts.white_balance(p, 0.2), "warmth", 5),
        (lambda p: shifts.blurred(p, 2), "blur", 0.1),
        (lambda p: shifts.noisy(p, 8), "noise", 3),
        (lambda p: jpeg(p, 15), "blockiness", 0.3),
    ],
)
def test_a_shift_moves_its_figure(picture, shift, feature, least):
    before, after = measure_picture(picture()), measure_picture(shift(picture()))
    moved = after[feature] - before[feature]
    assert moved * np.sign(least) > abs(least), (feature, before[feature], after[feature])


@pytest.mark.parametrize("picture", [astronaut, hopper])
def test_another_hue_moves_the_mean_colour(picture):
    before, after = measure_picture(picture()), measure_picture(shifts.hue(picture(), 60))
    moved = [after[name] - before[name] for name in ("tint", "warmth")]
    assert np.hypot(*moved) > 5
    assert abs(after["saturation"] - before["saturation"]) < 0.02


def test_saturation_falls_to_nothing_in_a_grey_picture():
    grey = np.repeat(astronaut().mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    assert measure_picture(grey)["saturation"] == 0
    assert abs(measure_picture(grey)["tint"]) < 0.5


def test_a_neutral_picture_has_daylights_temperature():
    grey = np.full((64, 64, 3), 128, np.uint8)
    assert colour_temperature(grey) == pytest.approx(6500, abs=60)


def test_temperature_stays_in_its_range_for_any_single_colour():
    for colour in np.eye(3, dtype=np.uint8) * 255:
        picture = np.broadcast_to(colour, (16, 16, 3))
        assert 1667 <= colour_temperature(np.ascontiguousarray(picture)) <= 25_000


def test_figures_do_not_depend_on_the_pictures_size():
    large = cv2.resize(astronaut(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    a, b = measure_picture(astronaut()), measure_picture(large)
    for name in ("luma", "contrast", "saturation", "warmth", "tint"):
        assert a[name] == pytest.approx(b[name], rel=0.03, abs=0.3), name


def test_noise_is_measured_in_code_values():
    flat = np.full((256, 256, 3), 120, np.uint8)
    for sigma in (2, 6):
        grain = shifts.noisy(flat, sigma)[..., 1].astype(np.float32)
        assert noise(grain) == pytest.approx(sigma, rel=0.15)


def test_a_flat_picture_is_blurred_and_without_blocks():
    flat = np.full((64, 64), 90, np.float32)
    assert (blur(flat), blockiness(flat), noise(flat)) == (1, 1, 0)


@pytest.mark.parametrize("bar", [0, 24, 60])
def test_letterbox_is_the_share_of_the_bars(bar):
    frames = []
    for picture in (astronaut(), shifts.exposure(astronaut(), 0.8)):
        barred = shifts.noisy(picture, 1)
        barred[:bar] = barred[len(barred) - bar :] = np.uint8(4)
        frames.append(barred)
    assert letterbox(frames) == pytest.approx(2 * bar / 512, abs=0.005)


def test_a_dark_scene_is_no_letterbox():
    assert letterbox([np.zeros((64, 64, 3), np.uint8)]) == 0
    night = np.zeros((64, 64, 3), np.uint8)
    assert letterbox([night, astronaut()[:64, :64]]) == 0, "bars are black in every frame"


def test_medians_leave_out_what_is_not_known():
    assert median_of([{"a": 1.0, "b": None}, {"a": 3.0, "b": None}]) == {"a": 2.0, "b": None}
