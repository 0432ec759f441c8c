from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.contracts.brief import FaceAt
from include.stages.presenter import MAX_GAP, by_choice, follow
from include.stages.segments import Segment, find_segments, runs, shot_ranges
from include.stages.track_face import clean, watch
from models.face.landmarks import Face
from models.face.roi import Window


def face(x: float, y: float, size: float) -> Face:
    rng = np.random.default_rng(7)
    return Face(np.float32(rng.random((478, 3)) * size + (x - size / 2, y - size / 2, 0)))


def seen(points) -> list[int]:
    return [int(i) for i in np.flatnonzero(~np.isnan(points[:, 0, 0]))]


def track(length: int, frames: set[int]):
    points = np.full((length, 478, 3), np.nan, np.float32)
    for i in frames:
        points[i] = face(100 + i, 100, 50).points
    return points


def cleaned(points, shots: list[int]):
    points = points.copy()
    clean(points, shots)
    return points


def test_a_face_is_followed_through_a_shot_although_another_is_larger_for_a_moment() -> None:
    ours = [face(100 + i, 100, 80) for i in range(10)]
    other = face(400, 100, 120)
    found = [[other, f] if i == 4 else [f] for i, f in enumerate(ours)]
    points = follow(found, [0], by_choice("largest", fps=25))
    assert np.allclose(points, np.stack([f.points for f in ours]))


def test_the_largest_face_of_each_shot_is_taken() -> None:
    small, large = face(50, 50, 40), face(300, 100, 90)
    points = follow([[large, small]] * 5 + [[small]] * 5, [0, 5], by_choice("largest", fps=25))
    assert np.allclose(points[0], large.points)
    assert np.allclose(points[9], small.points)


def test_a_point_chooses_the_face_nearest_to_it_at_that_time() -> None:
    left, right = face(100, 100, 90), face(400, 100, 60)
    choice = FaceAt(at=(410, 95), time=0.1)
    points = follow([[left, right]] * 10, [0], by_choice(choice, fps=25))
    assert np.allclose(points, right.points)


def test_a_chooser_that_knows_nobody_leaves_a_shot_without_a_presenter() -> None:
    found = [[face(100, 100, 90)]] * 10
    points = follow(found, [0, 4], lambda tracks, shot: tracks[0] if 4 in shot else None)
    assert seen(points) == list(range(4, 10))


def test_short_gaps_are_bridged_and_long_ones_kept() -> None:
    whole = set(range(40))
    short, long = {10, 11}, set(range(20, 20 + MAX_GAP + 1))
    points = cleaned(track(40, whole - short - long), [0])
    assert seen(points) == sorted(whole - long)


def test_nothing_is_bridged_or_smoothed_across_a_cut() -> None:
    points = track(20, set(range(20)))
    points[10:] += 500
    assert np.allclose(cleaned(points, [0, 10])[9], cleaned(points[:10], [0])[9])
    gap = cleaned(track(20, set(range(20)) - {9, 10}), [0, 10])
    assert 9 not in seen(gap)
    assert 10 not in seen(gap)


def test_a_face_that_flashes_up_is_dropped() -> None:
    assert seen(cleaned(track(30, {3, 20, 21, 22, 23}), [0])) == [20, 21, 22, 23]


def test_smoothing_keeps_a_steady_face_where_it_is() -> None:
    points = np.repeat(face(100, 100, 60).points[None], 12, axis=0)
    assert np.allclose(cleaned(points, [0]), points, atol=1e-3)


def test_segments_do_not_cross_cuts_and_keep_their_shots_window() -> None:
    points = track(30, set(range(2, 28)))
    windows = [Window(0, 0, 64, 64), None, Window(10, 10, 32, 32)]
    segments = find_segments(points, [0, 10, 20], (200, 200), windows)
    assert [(s.start, s.stop, s.window.w) for s in segments] == [(2, 10, 64), (20, 28, 32)]


def test_a_segment_survives_a_manifest() -> None:
    segment = Segment(3, 10, 25, Window(2, 4, 60, 80))
    assert Segment.from_fact(segment.as_fact()) == segment


@given(st.lists(st.booleans(), max_size=60))
def test_runs_cover_exactly_what_is_seen(flags: list[bool]) -> None:
    covered = {i for a, b in runs(np.array(flags, bool)) for i in range(a, b)}
    assert covered == {i for i, flag in enumerate(flags) if flag}


@pytest.mark.parametrize("shots", [[0], [0, 4], [0, 1, 2]])
def test_shot_ranges_cover_the_video(shots: list[int]) -> None:
    ranges = shot_ranges(shots, 9)
    assert [i for a, b in ranges for i in range(a, b)] == list(range(9))


@pytest.mark.parametrize("first", [0, 1, 4, 7, 19])
def test_a_newcomer_is_found_in_the_first_frame_that_shows_it(first: int) -> None:
    looked: list[int] = []

    def detect(frame: np.ndarray) -> list[Face]:
        number = int(frame[0])
        looked.append(number)
        return [face(100, 100, 50)] if number >= first else []

    found = list(watch(detect, [np.array([i]) for i in range(20)]))
    assert [bool(faces) for faces in found] == [i >= first for i in range(20)]
    if first == 19:
        assert len(looked) < 12, "frames that show nobody are mostly passed over"
