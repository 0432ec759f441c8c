"""The mesh swapper on real portraits: identity, seams, eyes, purity."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from models import identity
from models.face import geometry, topology
from models.face.roi import face_window
from models.face_swap import BACKENDS, load_swapper
from models.face_swap.reference import ColourReference, sample_frames
from tests.models.portraits import astronaut, hopper, landmarks, moved


@pytest.fixture(scope="module")
def target():
    """Hopper's face window, her landmarks in it, and the reference of that one-frame shot."""
    picture, points = hopper(), landmarks("hopper")
    window = face_window([points], (picture.shape[1], picture.shape[0]))
    part, local = picture[window.slice()].copy(), window.to_local(points)
    return part, local, ColourReference.measure([(part, local)])


@pytest.fixture(scope="module")
def swapper():
    return load_swapper("mesh", astronaut(), landmarks("astronaut"))


def test_the_result_is_the_photos_person_and_no_longer_the_actor(target, swapper):
    part, points, reference = target
    new, _ = swapper.swap(part, points, reference)
    result = identity.embed_points(new, points)
    source = identity.embed_points(astronaut(), landmarks("astronaut"))
    actor = identity.embed_points(part, points)
    assert identity.distance(result, source) < 0.55
    assert identity.distance(result, actor) > identity.distance(result, source) + 0.1


def test_pixels_where_the_mask_is_zero_are_the_inputs(target, swapper):
    part, points, reference = target
    new, mask = swapper.swap(part, points, reference)
    assert np.array_equal(new[mask == 0], part[mask == 0])
    assert 0.2 < (mask > 0).mean() < 0.6
    assert mask[0].max() == mask[-1].max() == mask[:, 0].max() == mask[:, -1].max() == 0


def test_the_input_is_not_changed(target, swapper):
    part, points, reference = target
    before, marks = part.copy(), points.copy()
    swapper.swap(part, points, reference)
    assert np.array_equal(part, before)
    assert np.array_equal(points, marks)


def test_there_is_no_seam_at_the_edge(target, swapper):
    part, points, reference = target
    new, mask = swapper.swap(part, points, reference)
    edge = (mask > 0) & (mask < 100)
    gap = np.abs(
        cv2.GaussianBlur(new, (0, 0), 3).astype(int) - cv2.GaussianBlur(part, (0, 0), 3).astype(int)
    )
    assert gap[edge].mean() < 8


def test_skin_takes_the_shots_colour(target, swapper):
    part, points, _ = target
    for cast in ((1.0, 0.8, 0.6), (0.5, 0.5, 0.5)):
        shot = (part * np.array(cast)).astype(np.uint8)
        new, _ = swapper.swap(shot, points, ColourReference.measure([(shot, points)]))
        skin = [50, 280, 101, 330, 151, 9, 205, 425]
        ours, theirs = (colour_at(picture, points[skin]) for picture in (new, shot))
        assert ours == pytest.approx(theirs, abs=15)


def colour_at(picture, points):
    soft = cv2.GaussianBlur(picture, (0, 0), 5)
    x, y = np.round(points[:, :2]).astype(int).T
    return soft[y, x].mean(0)


def test_the_mouths_inside_stays_the_actors(target, swapper):
    part, points, reference = target
    opened = points.copy()
    lower = [lower for _, lower in topology.LIP_PAIRS]
    opened[lower, 1] += 25
    _, mask = swapper.swap(part, opened, reference)
    x, y = opened[[13, 14], :2].mean(0).round().astype(int)
    assert mask[y, x] == 0


def closed_eyes(points, share: float):
    """Landmarks with both upper lids lowered towards the lower ones."""
    moved_points = points.copy()
    for upper, lower in (*topology.LEFT_LID_PAIRS, *topology.RIGHT_LID_PAIRS):
        moved_points[upper] += np.float32(share) * (points[lower] - points[upper])
    return moved_points


def test_a_blink_shows_the_actors_own_lids(target, swapper):
    part, points, reference = target
    shut = closed_eyes(points, 0.95)
    assert max(geometry.eye_openness(shut)) < 0.1
    _, opened_mask = swapper.swap(part, points, reference)
    _, shut_mask = swapper.swap(part, shut, reference)
    x, y = shut[topology.LEFT_EYE, :2].mean(0).round().astype(int)
    assert opened_mask[y, x] > 200
    assert shut_mask[y, x] < 20


def test_eyes_look_where_the_actor_looks(target, swapper):
    part, points, reference = target
    centres = []
    for shift in (-0.10, 0.10):
        looking = points.copy()
        width = np.linalg.norm(points[33, :2] - points[133, :2])
        for iris in (topology.LEFT_IRIS, topology.RIGHT_IRIS):
            looking[iris, 0] += np.float32(shift * width)
        new, _ = swapper.swap(part, looking, reference)
        x, y, w, h = cv2.boundingRect(points[topology.LEFT_EYE, :2])
        dark = 255 - cv2.cvtColor(new[y : y + h, x : x + w], cv2.COLOR_RGB2GRAY).astype(float)
        weight = np.clip(dark - np.percentile(dark, 70), 0, None)
        centres.append((weight.sum(0) @ np.arange(w)) / weight.sum() / width)
    assert centres[1] - centres[0] > 0.05


def test_the_answer_depends_on_the_arguments_alone(target):
    part, points, reference = target
    fresh = load_swapper("mesh", astronaut(), landmarks("astronaut"))
    used = load_swapper("mesh", astronaut(), landmarks("astronaut"))
    for i in range(3):
        used.swap(part // 2, points + np.float32(3 * i), reference)
    again = ColourReference.measure([(part, points)])
    a, mask_a = fresh.swap(part, points, reference)
    b, mask_b = used.swap(part, points, again)
    assert np.array_equal(a, b)
    assert np.array_equal(mask_a, mask_b)


def test_colour_is_steady_while_the_head_moves(swapper):
    picture, marks = hopper(), landmarks("hopper")
    frames = [moved(picture, 4 * np.sin(i), 3 * np.cos(i)) for i in range(8)]
    points = [marks + np.array([4 * np.sin(i), 3 * np.cos(i), 0], np.float32) for i in range(8)]
    window = face_window(points, (picture.shape[1], picture.shape[0]))
    local = [window.to_local(p) for p in points]
    parts = [frame[window.slice()] for frame in frames]
    picks = sample_frames(local)
    reference = ColourReference.measure([(parts[i], local[i]) for i in picks])
    means = []
    for part, p in zip(parts, local, strict=True):
        new, _ = swapper.swap(part, p, reference)
        x, y = np.round(p[50, :2]).astype(int)
        means.append(new[y - 10 : y + 10, x - 10 : x + 10].mean((0, 1)))
    assert np.ptp(means, axis=0).max() < 3


def turned(points, degrees: float):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)
    centre = points.mean(0)
    return ((points - centre) @ turn.T + centre).astype(np.float32)


def test_a_head_in_profile_is_left_alone_and_a_turned_one_fades(target, swapper):
    part, points, reference = target
    assert swapper.swap(part, points, reference)[1].max() == 255
    assert 0 < swapper.swap(part, turned(points, 55), reference)[1].max() < 200
    assert swapper.swap(part, turned(points, 75), reference)[1].max() == 0


def test_a_face_partly_or_wholly_outside_the_window_is_no_error(target, swapper):
    part, points, reference = target
    for shift in (-0.4, 0.6, 5):
        away = points.copy()
        away[:, 0] += np.float32(shift * part.shape[1])
        new, mask = swapper.swap(part, away, reference)
        assert new.shape == part.shape
        assert np.array_equal(new[mask == 0], part[mask == 0])


def test_a_large_photo_on_a_small_face_does_not_alias(target):
    part, points, _ = target
    small = cv2.resize(part, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    marks = points * np.float32(0.25)
    noisy = astronaut().copy()
    noisy[::2, ::2] = np.clip(noisy[::2, ::2].astype(int) + 60, 0, 255)
    large = cv2.resize(noisy, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    reference = ColourReference.measure([(small, marks)])
    clean = load_swapper("mesh", astronaut(), landmarks("astronaut"))
    dirty = load_swapper("mesh", large, landmarks("astronaut") * np.float32(3))
    a, _ = clean.swap(small, marks, reference)
    b, _ = dirty.swap(small, marks, reference)
    assert np.abs(a.astype(int) - b.astype(int)).mean() < 6


def test_without_a_reference_the_frame_itself_is_measured(target, swapper):
    part, points, reference = target
    with_one, _ = swapper.swap(part, points, reference)
    without, _ = swapper.swap(part, points)
    assert np.array_equal(with_one, without)


def test_samples_are_spread_over_the_frames_with_a_face():
    track = [None if i < 10 else np.zeros((478, 2), np.float32) for i in range(80)]
    picks = sample_frames(track, 5)
    assert len(picks) == 5
    assert min(picks) >= 10
    assert np.diff(picks).min() > 8
    assert sample_frames([None, None]) == []


def test_wrong_shapes_and_unknown_backends_are_refused(target):
    with pytest.raises(ValueError, match="points"):
        load_swapper("mesh", astronaut(), landmarks("astronaut")[:, :2])
    with pytest.raises(ValueError, match="uint8"):
        load_swapper("mesh", astronaut().astype(np.float32), landmarks("astronaut"))
    with pytest.raises(KeyError, match="mesh"):
        load_swapper("morph", astronaut(), landmarks("astronaut"))


def test_the_backend_declares_its_licence_and_limits():
    mesh = BACKENDS["mesh"]
    assert (mesh.stage, mesh.name, mesh.weights_sha256) == ("face_swap", "mesh", None)
    assert {"photo", "target", "glasses", "beard"} <= set(mesh.limits)
