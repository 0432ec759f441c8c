from __future__ import annotations

import itertools

import numpy as np
import pytest

from models.speech.arpabet import CLASSES, LABIAL_STOPS, SILENCE, from_espeak
from models.speech.phonemes import RATE, Source, align, envelope, recognise, to_model_rate
from models.speech.synthesis import synthesise

LINE = "Hello Priya, our summer sale begins on Monday. Buy two pairs and save 20% on everything."


@pytest.fixture(scope="module")
def speech():
    return synthesise(LINE, voice="female")


def labials(phonemes) -> list[float]:
    return [(p.start + p.end) / 2 for p in phonemes if p.symbol in LABIAL_STOPS]


def test_alignment_finds_each_labial_where_it_was_spoken(speech):
    found = align(speech.samples, speech.sample_rate, LINE)
    assert found.source is Source.ALIGNMENT
    assert found.coverage > 0.95
    true, seen = labials(speech.phonemes), labials(found.phonemes)
    assert len(true) == len(seen)
    assert np.median(np.abs(np.array(true) - np.array(seen))) < 0.025
    assert np.abs(np.array(true) - np.array(seen)).max() < 0.06


def test_alignment_goes_on_behind_a_long_pause(speech):
    later = synthesise("And this comes after a long pause.", voice="female")
    pause = np.zeros(2 * speech.sample_rate, np.int16)
    wave = np.concatenate([speech.samples, pause, later.samples])
    found = align(wave, speech.sample_rate, LINE + " And this comes after a long pause.")
    assert found.source is Source.ALIGNMENT
    assert found.coverage > 0.9


def test_a_wrong_text_falls_back_to_recognition_and_says_so():
    short = synthesise("Buy two pairs and save.", voice="female")
    found = align(short.samples, short.sample_rate, "No.")
    assert found.source is Source.RECOGNITION
    assert found.reason
    assert found.phonemes


def test_recognition_gives_contiguous_known_phonemes(speech):
    found = recognise(speech.samples, speech.sample_rate)
    assert all(p.symbol in CLASSES and p.end > p.start for p in found)
    for before, after in itertools.pairwise(found):
        assert after.start == pytest.approx(before.end, abs=0.011)
    assert len({p.symbol for p in found}) > 10


@pytest.mark.parametrize("length", [0, 100, RATE])
def test_silence_and_nothing_are_silence(length):
    found = recognise(np.zeros(length, np.int16), RATE)
    assert {p.symbol for p in found} <= {SILENCE}
    assert align(np.zeros(length, np.int16), RATE, "hello").source is Source.RECOGNITION


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_any_rate_and_channels_become_16_khz_mono(rate):
    t = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * t)
    stereo = np.stack([tone, tone], axis=1).astype(np.float32)
    wave = to_model_rate(stereo, rate)
    assert wave.dtype == np.int16
    assert abs(len(wave) - RATE) <= 1
    peak = np.fft.rfftfreq(len(wave), 1 / RATE)[np.argmax(np.abs(np.fft.rfft(wave)))]
    assert peak == pytest.approx(440, abs=2)


def test_the_envelope_follows_the_level():
    wave = np.zeros(RATE, np.float32)
    wave[RATE // 2 :] = 0.5
    level = envelope(wave, RATE)
    assert len(level) == 100
    assert level[20] == 0
    assert level[80] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("mnemonic", "symbol"),
    [
        ("'oU", "OW"), ("tS;h", "CH"), ("t_s\\", "S"), ("n^", "N"), ("'y:", "UW"), ("_:", SILENCE),
        ("(en)", None), ("_|", None), ("'A~", "AA"), ("'W", "UH"), ("a#", "AH"), ("a", "AE"),
    ],
)  # fmt: skip
def test_espeak_mnemonics_become_classes(mnemonic, symbol):
    assert from_espeak(mnemonic) == symbol


def test_an_a_is_open_outside_english():
    assert from_espeak("a", english=False) == "AA"


def test_r_rounds_the_lips_in_english_only():
    assert from_espeak("r") == "R"
    assert from_espeak("r", english=False) == "D"
