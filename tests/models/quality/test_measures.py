"""Each measure sees the fault that it is for, made on purpose in real pictures and sounds."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from include.samples.shifts import blurred, noisy
from models import identity
from models.face.topology import FACE_OVAL
from models.quality import BACKENDS
from models.quality.identity import median_distance
from models.quality.motion import doubled, flicker, flicker_ratio
from models.quality.mouth import follow
from models.quality.offset import delay
from models.quality.picture import outside_difference, sharpness_ratio
from models.speech.synthesis import synthesise
from tests.models.portraits import astronaut, hopper, landmarks

WINDOW = (slice(100, 300), slice(150, 350))


def grey(rgb):
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)


def moving(frames: int = 24, still: tuple[int, ...] = ()) -> np.ndarray:
    """A real picture that drifts; frames in ``still`` repeat the one before."""
    picture, at = grey(astronaut()).astype(np.float32), 0.0
    clip = []
    for number in range(frames):
        at += 0 if number in still else 3.0
        move = np.float32([[1, 0, at], [0, 1, 0]])
        clip.append(cv2.resize(cv2.warpAffine(picture, move, (512, 512)), (16, 16)))
    return np.stack(clip)


def test_a_change_outside_the_window_is_seen_and_one_inside_is_not():
    plate = grey(astronaut())
    inside, outside = plate.copy(), plate.copy()
    inside[WINDOW] += 40
    outside[:50] += 40
    assert outside_difference(inside, plate, WINDOW) == 0
    assert outside_difference(outside, plate, WINDOW) == pytest.approx(
        np.abs(outside.astype(int) - plate)[:50].sum() / (plate.size - 200 * 200)
    )


def test_a_window_as_large_as_the_picture_leaves_nothing_outside():
    whole = (slice(None), slice(None))
    assert outside_difference(grey(hopper()), grey(hopper()) // 2, whole) == 0


def test_a_soft_face_has_a_lower_ratio_and_a_darker_one_does_not():
    plate, outline = grey(hopper()), landmarks("hopper")[FACE_OVAL, :2]
    assert sharpness_ratio(plate, plate, outline) == pytest.approx(1)
    assert sharpness_ratio(grey(blurred(hopper(), 2)), plate, outline) < 0.5
    assert sharpness_ratio((plate * 0.6).astype(np.uint8), plate, outline) == pytest.approx(
        1, abs=0.05
    )
    assert sharpness_ratio(plate, plate, outline + 10_000) is None


def test_brightness_that_goes_up_and_down_is_flicker_and_a_fade_is_none():
    still = np.tile(moving(1), (20, 1, 1))
    fade = still * np.linspace(1, 1.3, 20, dtype=np.float32)[:, None, None]
    pump = still + np.float32(4) * (np.arange(20) % 2)[:, None, None]
    assert flicker(still) == 0
    assert flicker(fade) < 0.01
    assert flicker(pump) > 4
    assert flicker_ratio([pump], [still]) > 10
    assert flicker_ratio([still], [still]) == 1
    assert flicker_ratio([still[:2]], [still[:2]]) is None


def test_a_mouth_that_moves_in_a_few_blocks_is_no_flicker():
    clip = np.tile(moving(1), (20, 1, 1))
    clip[:, 9:12, 5:10] += np.random.default_rng(1).normal(0, 20, (20, 3, 5)).astype(np.float32)
    assert flicker(clip) == 0


@pytest.mark.parametrize("still", [(), (7,), (5, 6, 20)])
def test_frames_shown_twice_are_counted_where_the_template_moves(still):
    assert doubled(moving(still=still), moving()) == len(still)


def test_a_template_that_rests_says_nothing_about_doubled_frames():
    rest = np.tile(moving(1), (10, 1, 1))
    assert doubled(rest, rest) == 0


@pytest.mark.parametrize("late", [-0.12, 0.0, 0.2])
def test_lips_that_are_late_are_found_to_be_late(late):
    clock = np.arange(100) / 25
    told = (0.5 + 0.5 * np.sin(clock * 11) * np.cos(clock * 3.3)).astype(np.float32)
    times = clock[::2].astype(np.float32)
    gaps = 0.28 * np.interp(times - late, clock, told).astype(np.float32)
    fit = follow(times, gaps, told, 25.0, 0.28)
    assert fit.lag == pytest.approx(late, abs=0.011)
    assert fit.correlation > 0.98
    assert fit.error < 0.05


def test_lips_that_do_not_follow_have_no_correlation_and_a_large_error():
    clock = np.arange(100) / 25
    told = (0.5 + 0.5 * np.sin(clock * 11)).astype(np.float32)
    closed = np.random.default_rng(2).normal(0.02, 0.001, 50).astype(np.float32)
    fit = follow(clock[::2].astype(np.float32), closed, told, 25.0, 0.28)
    assert fit.correlation < 0.6
    assert fit.error > 0.3


def test_too_few_frames_or_a_command_that_rests_say_nothing():
    clock = np.arange(100, dtype=np.float32) / 25
    moves = np.sin(clock * 11).astype(np.float32)
    assert follow(clock[:7], moves[:7], moves, 25.0, 0.3) is None
    assert follow(clock, moves, np.zeros(100, np.float32), 25.0, 0.3) is None
    unseen = np.full(100, np.nan, np.float32)
    assert follow(clock, unseen, moves, 25.0, 0.3) is None


@pytest.mark.parametrize("late", [-0.2, 0.0, 0.04, 0.3])
def test_a_voice_is_found_in_a_noisy_mix_to_a_millisecond(late):
    rate, at = 48_000, 1.0
    speech = synthesise("Hello there, come and see.", locale="en-US")
    clock = np.arange(round(len(speech.samples) * rate / speech.sample_rate)) / rate
    voice = np.interp(clock, np.arange(len(speech.samples)) / speech.sample_rate, speech.samples)
    voice = (voice / np.abs(voice).max()).astype(np.float32)
    heard = np.random.default_rng(3).normal(0, 0.02, len(voice) + 3 * rate).astype(np.float32)
    first = round((at + late) * rate)
    heard[first : first + len(voice)] += 0.5 * voice
    assert delay(heard, voice, rate, at) == pytest.approx(late, abs=0.001)


def test_a_delay_is_found_deep_in_a_long_sound():
    rate, at, late = 48_000, 61.3, -0.07
    voice = np.random.default_rng(5).normal(0, 0.1, rate).astype(np.float32)
    heard = np.zeros(90 * rate, np.float32)
    first = round((at + late) * rate)
    heard[first : first + rate] += voice
    assert delay(heard, voice, rate, at) == pytest.approx(late, abs=0.001)
    assert delay(heard, voice, rate, 20.0) is None


def test_silence_has_no_delay():
    silent = np.zeros(48_000, np.float32)
    assert delay(silent, silent[:100], 48_000, 0.1) is None


def test_identity_is_near_to_the_same_person_and_far_from_another():
    one, again = identity.embed(astronaut()), identity.embed(noisy(astronaut(), 4))
    other = identity.embed(hopper())
    assert median_distance([one, again], [one]) < 0.3
    assert median_distance([one, again], [other]) > identity.SAME_PERSON
    assert median_distance([], [one]) is None


def test_the_registered_digest_is_that_of_the_embeddings_weights():
    weights = identity._weights() / "dlib_face_recognition_resnet_model_v1.dat"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert BACKENDS["measures"].weights_sha256 == digest
