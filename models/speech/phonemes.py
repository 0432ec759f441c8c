"""Phoneme times of recorded speech, by PocketSphinx: aligned to its text, or recognised.

The acoustic model that the package ships is English (US). A recording in another language can
only be recognised, with English classes: mouth openings come out usable, their kind less so.
"""

from __future__ import annotations

import enum
import math
import os
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from pocketsphinx import Decoder, get_model_path
from scipy.signal import resample_poly

from models.speech.arpabet import CLASSES, SILENCE, Phoneme
from models.speech.synthesis import spell

RATE = 16_000
"""Hz, what the acoustic model was trained on."""
_FRAME = 0.01
_MIN_COVERAGE = 0.9
_MIN_SPEECH = 0.12
_BEAMS = (1e-60, 1e-48, 1e-120)
"""Widths of the alignment search, tried in turn: wider is not always better."""

Int16 = npt.NDArray[np.int16]


class Source(enum.Enum):
    """Where phoneme times come from, best first."""

    SYNTHESIS = "synthesis"
    ALIGNMENT = "alignment"
    RECOGNITION = "recognition"


@dataclass(frozen=True)
class Timing:
    """Phoneme times and how far to trust them.

    Attributes:
        phonemes: in order, without overlap; ``SIL`` where nobody speaks.
        source: how the times were found.
        coverage: share of the loud part of the recording that lies inside a sound, 0..1.
        reason: why alignment was not used although a text was given; empty otherwise.
    """

    phonemes: tuple[Phoneme, ...]
    source: Source
    coverage: float
    reason: str = ""


def to_model_rate(samples: npt.NDArray[np.generic], sample_rate: int) -> Int16:
    """Resample mono sound to 16 kHz with a polyphase filter.

    Args:
        samples: int16, or float in -1..1, [n] or [n, channels] (averaged).
        sample_rate: Hz, positive.
    """
    if sample_rate <= 0:
        raise ValueError(f"sample rate must be positive, is {sample_rate}")
    wave = samples.mean(axis=1, dtype=np.float64) if samples.ndim == 2 else samples.astype(float)
    if not np.issubdtype(samples.dtype, np.floating):
        wave /= 32768.0
    if sample_rate != RATE and len(wave):
        ratio = Fraction(RATE, sample_rate)
        wave = resample_poly(wave, ratio.numerator, ratio.denominator)
    return np.asarray(np.round(np.clip(wave, -1.0, 1.0) * 32767.0), np.int16)


def envelope(
    samples: npt.NDArray[np.generic], sample_rate: int, step: float = _FRAME
) -> npt.NDArray[np.float32]:
    """Return the RMS level of 30 ms windows, 0..1, one value every ``step`` seconds.

    Args:
        samples: as for :func:`to_model_rate`.
        sample_rate: Hz.
        step: seconds between values; value i is centred at i * step.
    """
    wave = to_model_rate(samples, sample_rate).astype(np.float64) / 32768.0
    total = np.concatenate([[0.0], np.cumsum(wave**2)])
    half = int(0.015 * RATE)
    centres = np.arange(0, len(wave) / RATE, step)
    at = np.round(centres * RATE).astype(np.int64)
    low, high = np.maximum(at - half, 0), np.minimum(at + half, len(wave))
    return np.asarray(np.sqrt(np.maximum(total[high] - total[low], 0) / (2 * half)), np.float32)


def recognise(samples: npt.NDArray[np.generic], sample_rate: int) -> list[Phoneme]:
    """Recognise phonemes without a text (allphone search, phone language model weight 2).

    Args:
        samples: as for :func:`to_model_rate`; any length, silence gives ``SIL`` only.
        sample_rate: Hz.

    Returns:
        Phonemes of :data:`~models.speech.arpabet.CLASSES`, contiguous.
    """
    wave = to_model_rate(samples, sample_rate)
    if len(wave) < _MIN_SPEECH * RATE or not wave.any():
        return [Phoneme(SILENCE, 0.0, len(wave) / RATE)] if len(wave) else []
    folder = os.path.join(get_model_path(), "en-us")
    decoder = Decoder(
        hmm=os.path.join(folder, "en-us"),
        allphone=os.path.join(folder, "en-us-phone.lm.bin"),
        lw=2.0,
        pip=0.3,
        beam=1e-20,
        pbeam=1e-20,
        dict=None,
        lm=None,
        loglevel="FATAL",
    )
    _decode(decoder, wave)
    return [
        Phoneme(_symbol(s.word), s.start_frame * _FRAME, (s.end_frame + 1) * _FRAME)
        for s in decoder.seg()
    ]


def align(samples: npt.NDArray[np.generic], sample_rate: int, text: str) -> Timing:
    """Align a recording with the English text that is spoken in it.

    Words outside the pronouncing dictionary (names, numbers) get espeak-ng's pronunciation. When
    the search stops at a pause, it is continued behind it with the words that are left. When the
    result does not cover the speech, the phonemes are recognised instead.

    Args:
        samples: as for :func:`to_model_rate`.
        sample_rate: Hz.
        text: what is said; punctuation and case do not matter.

    Returns:
        Times, their source and the reason where alignment was given up.
    """
    wave = to_model_rate(samples, sample_rate)
    audible = len(wave) >= _MIN_SPEECH * RATE and bool(_loud(envelope(wave, RATE)).any())
    reason = "the text has no words" if audible else "the recording is silent"
    for beam in _BEAMS if audible else ():
        # The words are given, so no language model is loaded.
        decoder = Decoder(loglevel="FATAL", beam=beam, wbeam=beam * 1e20, pbeam=beam, lm=None)
        words = _dictionary_words(decoder, text)
        if not words:
            break
        found, left = _align_all(decoder, wave, words)
        coverage = _coverage(found, wave)
        if left == 0 and coverage >= _MIN_COVERAGE:
            return Timing(tuple(_filled(found, len(wave) / RATE)), Source.ALIGNMENT, coverage)
        reason = (
            f"{left} of {len(words)} words found no place in the sound"
            if left
            else f"the text covers {coverage:.0%} of the speech"
        )
    recognised = recognise(samples, sample_rate)
    return Timing(tuple(recognised), Source.RECOGNITION, _coverage(recognised, wave), reason)


def _symbol(name: str) -> str:
    bare = name.strip("+").rstrip("0123456789").split("(")[0]
    return bare if bare in CLASSES else SILENCE


def _decode(decoder: Decoder, wave: Int16) -> None:
    decoder.start_utt()
    decoder.process_raw(wave.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()


def _dictionary_words(decoder: Decoder, text: str) -> list[str]:
    """Return dictionary keys for the text's words, adding pronunciations for those it lacks."""
    tokens = re.findall(r"[^\W_]+(?:['’.,][^\W_]+)*%?", text.lower())
    tokens = [t.replace("’", "'") for t in tokens]
    unknown = sorted({t for t in tokens if not decoder.lookup_word(t)})
    spelled = spell(unknown) if unknown else {}
    keys = {}
    for index, token in enumerate(unknown):
        if spelled.get(token):
            keys[token] = f"zz-{index}"
            last = index + 1 == len(unknown)
            decoder.add_word(keys[token], " ".join(spelled[token]), update=last)
    return [keys.get(t, t) for t in tokens if t in keys or t not in unknown]


def _align_once(
    decoder: Decoder, wave: Int16, words: list[str]
) -> tuple[list[list[Phoneme]], list[str]]:
    """Align one stretch; return phonemes of each word that was placed, and silence apart."""
    try:
        decoder.set_align_text(" ".join(words))
        _decode(decoder, wave)
        if decoder.hyp() is None:
            return [], words
        decoder.set_alignment()
        _decode(decoder, wave)
    except RuntimeError:  # PocketSphinx's word for "the search reached no final state"
        return [], words
    alignment = decoder.get_alignment()
    placed = []
    for word in alignment or ():
        phones = [
            Phoneme(_symbol(p.name), p.start * _FRAME, (p.start + p.duration) * _FRAME)
            for p in word
            if p.duration > 0
        ]
        if word.name.startswith("<") or all(p.symbol == SILENCE for p in phones):
            continue
        placed.append(phones)
    return placed, words[len(placed) :]


def _align_all(decoder: Decoder, wave: Int16, words: list[str]) -> tuple[list[Phoneme], int]:
    """Align stretch after stretch until the words are used up; return them and how many remain."""
    found: list[Phoneme] = []
    offset, left = 0.0, words
    while left:
        rest = wave[int(offset * RATE) :]
        if len(rest) < _MIN_SPEECH * RATE:
            break
        placed, behind = _align_once(decoder, rest, left)
        if not placed:
            break
        found += [
            Phoneme(p.symbol, offset + p.start, offset + p.end) for word in placed for p in word
        ]
        left = behind
        offset = _next_speech(wave, found[-1].end)
    return found, len(left)


def _next_speech(wave: Int16, after: float) -> float:
    """Return when speech goes on after a pause, a little early."""
    level = envelope(wave, RATE)
    loud = np.flatnonzero(_loud(level))
    later = loud[loud * _FRAME > after]
    return max(after, float(later[0]) * _FRAME - 0.05) if len(later) else len(wave) / RATE


def _loud(level: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Mark speech: above 6% of the loud level, which is what remains 24 dB under it."""
    if not len(level):
        return np.zeros(0, np.bool_)
    return np.asarray(level > max(0.06 * float(np.percentile(level, 95)), 1e-4))


def _coverage(phonemes: list[Phoneme], wave: Int16) -> float:
    loud = _loud(envelope(wave, RATE))
    if not loud.any():
        return 1.0
    inside = np.zeros(len(loud), np.bool_)
    for p in phonemes:
        if p.symbol != SILENCE:
            low = max(0, math.floor(p.start / _FRAME) - 3)
            inside[low : math.ceil(p.end / _FRAME) + 3] = True
    return float((inside & loud).sum() / loud.sum())


def _filled(phonemes: list[Phoneme], duration: float) -> list[Phoneme]:
    """Put silence into the gaps, so that intervals are contiguous from 0 to ``duration``."""
    out: list[Phoneme] = []
    at = 0.0
    for p in phonemes:
        if p.start > at + 1e-6:
            out.append(Phoneme(SILENCE, at, p.start))
        start = max(p.start, at)
        if p.end > start:
            out.append(Phoneme(p.symbol, start, p.end))
            at = p.end
    if duration > at + 1e-6:
        out.append(Phoneme(SILENCE, at, duration))
    return out
