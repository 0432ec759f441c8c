"""Figures of real speech, music made by code, and what is done to them."""

from __future__ import annotations

import tracemalloc
import wave

import numpy as np
import pytest

from include.errors import CorruptArtifact
from include.features.sound import SOUND_FIGURES, measure_sound, speech_seconds
from include.media.audio import Audio, normalise_loudness, read_own_wav, write_wav
from include.samples import music
from include.samples.shifts import louder
from models.speech.synthesis import synthesise


@pytest.fixture(scope="module")
def voice() -> Audio:
    speech = synthesise("Hello there, come and see what we made for you.", locale="en-US")
    samples = speech.samples.astype(np.float32)[:, None] / 32768
    level = normalise_loudness(samples, speech.sample_rate, -20.0, -3.0)
    return Audio(level, speech.sample_rate)


def test_speech_is_heard_as_speech(voice):
    found = measure_sound(voice)
    assert found["speech_present"] is True
    assert found["loudness"] == pytest.approx(-20, abs=0.6)
    assert found["clipping"] < 1e-3


def test_measuring_a_long_sound_takes_little_memory_beside_it():
    noise = np.random.default_rng(2).normal(0, 0.1, (30 * 48_000, 2)).astype(np.float32)
    tracemalloc.start()
    measure_sound(Audio(noise, 48_000))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1.6 * noise.nbytes


def test_a_music_bed_tone_noise_and_silence_are_no_speech():
    rate = 48_000
    clock = np.arange(4 * rate) / rate
    tone = 0.2 * np.sin(2 * np.pi * 220 * clock)
    hiss = np.random.default_rng(1).normal(0, 0.05, 4 * rate)
    for sound in (tone, hiss, np.zeros(4 * rate)):
        audio = Audio(sound.astype(np.float32)[:, None], rate)
        assert measure_sound(audio)["speech_present"] is False


def test_the_samples_music_is_no_speech_and_becomes_it_with_a_voice_over_it(voice):
    bed = Audio(music.compose(8.0, (1.0, 6.0)).T.astype(np.float32), music.RATE)
    assert measure_sound(bed)["speech_present"] is False
    rate = bed.rate
    clock = np.arange(len(bed.samples)) / rate
    said = np.interp(
        clock, np.arange(len(voice.samples)) / voice.rate, voice.samples[:, 0], right=0
    )
    mixed = Audio((0.2 * bed.samples + said[:, None]).astype(np.float32), rate)
    assert measure_sound(mixed)["speech_present"] is True


@pytest.mark.parametrize("decibels", [-12.0, 5.0])
def test_loudness_and_peak_follow_a_gain(voice, decibels):
    before = measure_sound(voice)
    after = measure_sound(Audio(louder(voice.samples, decibels), voice.rate))
    for name in ("loudness", "true_peak"):
        assert after[name] - before[name] == pytest.approx(decibels, abs=0.8)


def test_clipping_is_seen_even_when_it_was_turned_down_afterwards(voice):
    clipped = louder(voice.samples, 24)
    for samples in (clipped, clipped * np.float32(0.3)):
        assert measure_sound(Audio(samples, voice.rate))["clipping"] > 0.01


def test_pauses_count_as_silence(voice):
    before = measure_sound(voice)["silence"]
    pause = np.zeros_like(voice.samples)
    after = measure_sound(Audio(np.concatenate([voice.samples, pause]), voice.rate))["silence"]
    assert after == pytest.approx((before + 1) / 2, abs=0.03)


def test_digital_silence_has_no_loudness_and_no_sound_has_no_figures():
    silent = measure_sound(Audio(np.zeros((48_000, 2), np.float32), 48_000))
    assert silent["loudness"] is None
    assert silent["true_peak"] is None
    assert silent["silence"] == 1
    assert measure_sound(None) == dict.fromkeys(SOUND_FIGURES)


def test_a_sound_shorter_than_a_frame_has_no_speech():
    assert speech_seconds(Audio(np.ones((100, 1), np.float32), 48_000)) == 0


def test_our_own_wav_is_read_as_written_and_a_cut_one_is_corrupt(voice, tmp_path):
    path = tmp_path / "voice.wav"
    write_wav(path, voice)
    again = read_own_wav(path)
    assert again.rate == voice.rate
    assert np.abs(again.samples - voice.samples).max() < 1e-4
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CorruptArtifact, match="make it again"):
        read_own_wav(path)


def test_a_wav_of_another_width_is_not_ours(tmp_path):
    with wave.open(str(tmp_path / "x.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(8000)
        file.writeframes(b"\x80" * 800)
    with pytest.raises(CorruptArtifact, match="8 bits"):
        read_own_wav(tmp_path / "x.wav")
