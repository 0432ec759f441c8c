from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.face.roi import RING, Window, face_window, ring_points
from tests.models.portraits import landmarks

SIZE = (640, 360)
coordinates = st.floats(-50, 700, allow_nan=False)


@given(coordinates, coordinates, st.floats(1, 300), st.floats(1, 300))
def test_a_window_is_even_inside_the_frame_and_covers_the_box(x, y, w, h):
    try:
        window = Window.around(x, y, x + w, y + h, SIZE)
    except ValueError:
        assert x >= SIZE[0] or y >= SIZE[1] or x + w <= 0 or y + h <= 0
        return
    x0, y0, x1, y1 = window.box
    assert not any(value % 2 for value in (x0, y0, x1, y1))
    assert x0 >= 0
    assert y0 >= 0
    assert x1 <= SIZE[0]
    assert y1 <= SIZE[1]
    assert x0 <= max(x, 0)
    assert x1 >= min(x + w, SIZE[0])


def test_dilating_stays_even_and_in_the_frame():
    window = Window(10, 20, 100, 50)
    assert window.dilate(5, SIZE) == Window(4, 14, 112, 62)
    assert window.dilate(1000, SIZE) == Window(0, 0, *SIZE)


def test_union_contains_both_and_slice_cuts_the_window_out():
    a, b = Window(0, 4, 10, 10), Window(20, 0, 6, 8)
    both = a.union(b)
    assert both.contains(a)
    assert both.contains(b)
    assert not a.contains(b)
    frame = np.zeros((360, 640, 3), np.uint8)
    assert frame[both.slice()].shape == (both.h, both.w, 3)


def test_face_window_holds_the_ring_of_every_frame():
    base = landmarks("astronaut")
    track = [base, None, base + np.float32(12), base * np.float32(1.1)]
    window = face_window(track, (600, 600))
    for points in track:
        if points is not None:
            edge = window.to_local(np.pad(ring_points(points, RING), ((0, 0), (0, 1))))
            assert edge[:, :2].min() >= 0
            assert edge[:, 0].max() <= window.w - 1
            assert edge[:, 1].max() <= window.h - 1


def test_a_track_without_a_face_has_no_window():
    with pytest.raises(ValueError, match="no frame"):
        face_window([None, None], SIZE)
