from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.errors import Bug
from include.media.pixels import Yuv420, paste_yuv, rgb_to_yuv420, yuv420_to_rgb

FRAME = np.random.default_rng(7).integers(0, 256, (96, 134, 3), dtype=np.uint8)
WHOLE = rgb_to_yuv420(FRAME)


def even(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low // 2, high // 2).map(lambda half: 2 * half)


def same(a: Yuv420, b: Yuv420) -> bool:
    return a.to_bytes() == b.to_bytes()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_an_even_window_converts_to_the_bits_of_the_whole_frame(
    data: st.DataObject,
) -> None:
    x, y = data.draw(even(0, 132)), data.draw(even(0, 94))
    w, h = data.draw(even(2, 134 - x)), data.draw(even(2, 96 - y))
    assert same(rgb_to_yuv420(FRAME[y : y + h, x : x + w]), WHOLE.crop(x, y, w, h))


def test_conversion_is_the_documented_integer_arithmetic() -> None:
    rgb = FRAME.astype(np.int64)
    luma = (rgb @ [187, 629, 63] + 16 * 1024 + 512) >> 10
    mean = (rgb.reshape(48, 2, 67, 2, 3).sum((1, 3)) + 2) >> 2
    cb = (mean @ [-103, -347, 450] + 128 * 1024 + 512) >> 10
    cr = (mean @ [450, -409, -41] + 128 * 1024 + 512) >> 10
    assert np.array_equal(WHOLE.y, luma)
    assert np.array_equal(WHOLE.u, cb)
    assert np.array_equal(WHOLE.v, cr)


def test_flat_colours_survive_the_round_trip_within_two_codes() -> None:
    levels = [0, 1, 16, 64, 127, 128, 200, 235, 254, 255]
    worst = 0
    for colour in itertools.product(levels, repeat=3):
        flat = np.full((4, 4, 3), colour, np.uint8)
        back = yuv420_to_rgb(rgb_to_yuv420(flat)).astype(int)
        worst = max(worst, int(np.abs(back - flat).max()))
    assert worst <= 2


def test_greys_have_no_colour_and_black_and_white_are_nominal() -> None:
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, 2, 2, 3))
    for level, flat in enumerate(ramp):
        converted = rgb_to_yuv420(flat)
        assert (converted.u[0, 0], converted.v[0, 0]) == (128, 128), level
    assert rgb_to_yuv420(ramp[0]).y[0, 0] == 16
    assert rgb_to_yuv420(ramp[255]).y[0, 0] == 235


def test_luma_agrees_with_the_standard_to_one_code() -> None:
    rgb = FRAME.astype(np.float64)
    ideal = 16 + 219 / 255 * (rgb @ [0.2126, 0.7152, 0.0722])
    assert np.abs(WHOLE.y - ideal).max() < 1


def test_chroma_is_centre_sited() -> None:
    # A red 2x2 block on the chroma grid colours exactly one chroma sample ...
    rgb = np.full((8, 8, 3), 128, np.uint8)
    rgb[2:4, 4:6] = (255, 0, 0)
    v = rgb_to_yuv420(rgb).v
    assert np.argwhere(v != 128).tolist() == [[1, 2]]
    # ... and comes back symmetric around that block's centre.
    red = yuv420_to_rgb(Yuv420(np.full((8, 8), 100, np.uint8), np.full_like(v, 128), v))[..., 0]
    assert np.array_equal(red[:, 2:8], red[:, 2:8][:, ::-1])
    assert np.array_equal(red[0:6], red[0:6][::-1])


def test_threads_do_not_change_a_bit() -> None:
    big = np.random.default_rng(1).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = rgb_to_yuv420(big)
        back = yuv420_to_rgb(one)
        cv2.setNumThreads(4)
        assert same(rgb_to_yuv420(big), one)
        assert np.array_equal(yuv420_to_rgb(one), back)
    finally:
        cv2.setNumThreads(before)


def test_paste_changes_the_window_and_nothing_else() -> None:
    plate = WHOLE.copy()
    patch = rgb_to_yuv420(np.full((20, 30, 3), 200, np.uint8))
    assert paste_yuv(plate, patch, 14, 8) is plate
    assert same(plate.crop(14, 8, 30, 20), patch)
    outside = plate.y.copy()
    outside[8:28, 14:44] = WHOLE.y[8:28, 14:44]
    assert np.array_equal(outside, WHOLE.y)


def test_pasting_a_window_equals_converting_the_pasted_frame() -> None:
    rgb = FRAME.copy()
    rgb[10:40, 20:80] = 255 - rgb[10:40, 20:80]
    pasted = paste_yuv(WHOLE.copy(), rgb_to_yuv420(rgb[10:40, 20:80]), 20, 10)
    assert same(pasted, rgb_to_yuv420(rgb))


def test_bytes_round_trip() -> None:
    assert same(Yuv420.from_bytes(WHOLE.to_bytes(), 134, 96), WHOLE)


@pytest.mark.parametrize(
    ("x", "y", "w", "h"), [(1, 0, 2, 2), (0, 0, 3, 2), (0, 90, 2, 8), (-2, 0, 2, 2), (134, 0, 2, 2)]
)
def test_unaligned_or_outside_windows_are_refused(x: int, y: int, w: int, h: int) -> None:
    with pytest.raises(Bug):
        WHOLE.crop(x, y, w, h)


@pytest.mark.parametrize("shape", [(3, 4, 3), (4, 3, 3), (4, 4), (4, 4, 4), (0, 4, 3)])
def test_shapes_that_cannot_be_video_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(Bug):
        rgb_to_yuv420(np.zeros(shape, np.uint8))
