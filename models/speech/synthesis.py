"""Text to speech with phoneme times, by espeak-ng.

The same text gives the same samples: see :mod:`models.speech.espeak_process`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from include.errors import BadInput, Bug, OutOfMemory
from models.speech import loudness, voices
from models.speech.arpabet import SILENCE, STOPS, Phoneme, from_espeak

__all__ = ["Phoneme", "Speech", "spell", "synthesise"]

TARGET_LUFS = -17.0
LEAD_IN, TAIL = 0.08, 0.2
"""Seconds of silence before the first and after the last sound: mouths move ahead of sound."""
JOIN = 0.06
"""Seconds of silence left where two languages' runs meet."""
_CHILD = Path(__file__).with_name("espeak_process.py")
_LONGEST_TEXT = 10_000
_TIMEOUT = 120.0

# A stop's event marks its burst when the synthesiser plays a recorded one (23-45 ms, after real
# silence); a voiced stop between vowels is an event of 60 ms and more that holds its own closure.
_BURST, _CLOSURE = 0.058, 0.05


@dataclass(frozen=True)
class Speech:
    """A spoken line.

    Attributes:
        samples: int16 [n], mono.
        sample_rate: Hz.
        phonemes: in order, without overlap, silence included as ``SIL``.
    """

    samples: npt.NDArray[np.int16]
    sample_rate: int
    phonemes: tuple[Phoneme, ...]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def synthesise(
    text: str,
    *,
    locale: str = "en",
    voice: str | None = None,
    rate_wpm: int = 160,
    pitch: int = 50,
) -> Speech:
    """Speak plain text.

    Args:
        text: plain text; markup is read out, never obeyed. Names in another alphabet are read by
            that alphabet's most common language.
        locale: BCP 47 tag; an unknown region falls back to its language.
        voice: None, ``female``, ``male`` or an espeak-ng variant such as ``f2``.
        rate_wpm: words a minute, 80..450.
        pitch: 0..99, 50 is the voice's own.

    Returns:
        Speech at about -17 LUFS with :data:`LEAD_IN` seconds of silence before it.

    Raises:
        BadInput: ``voice.unknown_locale``, ``voice.unknown``, ``voice.out_of_range``,
            ``script.silent``, ``script.too_long`` or ``script.unspeakable``.
    """
    if not 80 <= rate_wpm <= 450 or not 0 <= pitch <= 99:
        raise BadInput(
            f"The speaking rate must be 80 to 450 words a minute (is {rate_wpm}) and the pitch"
            f" 0 to 99 (is {pitch}).",
            code="voice.out_of_range",
        )
    if len(text) > _LONGEST_TEXT:
        raise BadInput(
            f"The script has {len(text)} characters; at most {_LONGEST_TEXT} are spoken: split it.",
            code="script.too_long",
        )
    language, variant = voices.language_for(locale), voices.variant_for(voice)
    runs = voices.split_by_language(text, language)
    request = {
        "runs": [{"voice": voices.voice_name(name, variant), "text": part} for name, part in runs],
        "rate_wpm": rate_wpm,
        "pitch": pitch,
    }
    parts = _speak(request) if runs else []
    spoken = [
        _trim(samples, events, rate, english=name.startswith("en"))
        for (name, _), (samples, events, rate) in zip(runs, parts, strict=True)
    ]
    spoken = [part for part in spoken if part[1]]
    if not spoken:
        raise BadInput(
            f"The script {text[:60]!r} has nothing that can be spoken: write at least one word.",
            code="script.silent",
        )
    return _join(spoken, parts[0][2])


def spell(words: Sequence[str], *, locale: str = "en") -> dict[str, tuple[str, ...]]:
    """Return the phoneme classes of each word on its own, silence left out.

    Args:
        words: any tokens, such as names and numbers.
        locale: BCP 47 tag.

    Returns:
        A mapping without the words that make no sound or cannot be read.

    Raises:
        BadInput: ``voice.unknown_locale``.
    """
    language = voices.language_for(locale)
    readable: dict[str, list[tuple[str, str]]] = {}
    for word in words:
        try:
            readable[word] = voices.split_by_language(word, language)
        except BadInput:
            continue
    flat = [(word, name, part) for word, runs in readable.items() for name, part in runs]
    request = {
        "runs": [{"voice": voices.voice_name(name), "text": part} for _, name, part in flat],
        "rate_wpm": 160,
        "pitch": 50,
    }
    out: dict[str, tuple[str, ...]] = {}
    spoken = _speak(request) if flat else []
    for (word, name, _), (samples, events, rate) in zip(flat, spoken, strict=True):
        sounds = _phonemes(events, len(samples), rate, name.startswith("en"))
        symbols = tuple(p.symbol for p in sounds if p.symbol != SILENCE)
        if symbols:
            out[word] = out.get(word, ()) + symbols
    return out


Run = tuple[npt.NDArray[np.int16], list[tuple[str, int]], int]


def _speak(request: dict[str, Any]) -> list[Run]:
    """Run the synthesiser; return samples, events and rate of each run."""
    done = subprocess.run(
        [sys.executable, "-I", str(_CHILD)],
        input=json.dumps(request).encode(),
        capture_output=True,
        timeout=_TIMEOUT,
        check=False,
    )
    if done.returncode == -signal.SIGKILL:
        raise OutOfMemory("The speech synthesiser was killed by the system; it is run again.")
    if done.returncode != 0:
        raise Bug(f"The speech synthesiser failed: {done.stderr.decode(errors='replace')[-400:]}")
    line, _, raw = done.stdout.partition(b"\n")
    header = json.loads(line)
    samples = np.frombuffer(raw, "<i2")
    out, at = [], 0
    for run in header["runs"]:
        events = [(str(name), int(sample)) for name, sample in run["events"]]
        out.append((samples[at : at + run["count"]], events, int(header["sample_rate"])))
        at += run["count"]
    return out


def _phonemes(events: list[tuple[str, int]], count: int, rate: int, english: bool) -> list[Phoneme]:
    """Turn events (each the start of a sound) into intervals, with stops from their closure on."""
    out: list[Phoneme] = []
    for index, (mnemonic, sample) in enumerate(events):
        following = events[index + 1][1] if index + 1 < len(events) else count
        start, end = sample / rate, min(following, count) / rate
        if end <= start:
            continue
        symbol = from_espeak(mnemonic, english=english)
        if symbol is None or (out and symbol == SILENCE == out[-1].symbol):
            if out:
                out[-1] = Phoneme(out[-1].symbol, out[-1].start, end)
            continue
        if symbol in STOPS and end - start < _BURST:
            start = _claim_closure(out, start)
        out.append(Phoneme(symbol, start, end))
    return out


def _claim_closure(out: list[Phoneme], start: float) -> float:
    """Shorten the sound before a burst by the closure, at most by 60% of it; return the start."""
    if not out:
        return max(start - _CLOSURE, 0.0)
    before = out[-1]
    share = 1.0 if before.symbol == SILENCE else 0.6
    moved = max(start - _CLOSURE, before.end - share * (before.end - before.start))
    if moved <= before.start:
        out.pop()
    else:
        out[-1] = Phoneme(before.symbol, before.start, moved)
    return moved


def _trim(
    samples: npt.NDArray[np.int16], events: list[tuple[str, int]], rate: int, *, english: bool
) -> tuple[npt.NDArray[np.int16], list[Phoneme]]:
    """Cut the silence around a run; no phonemes are left when it holds no sound."""
    phonemes = _phonemes(events, len(samples), rate, english)
    sounds = [p for p in phonemes if p.symbol != SILENCE]
    if not sounds or not samples.size or np.abs(samples.astype(np.int32)).max() < 64:
        return samples[:0], []
    first, last = int(sounds[0].start * rate), int(np.ceil(sounds[-1].end * rate))
    last = min(last + int(0.02 * rate), len(samples))
    kept = phonemes[phonemes.index(sounds[0]) : phonemes.index(sounds[-1]) + 1]
    shift = first / rate
    return samples[first:last], [Phoneme(p.symbol, p.start - shift, p.end - shift) for p in kept]


def _join(parts: list[tuple[npt.NDArray[np.int16], list[Phoneme]]], rate: int) -> Speech:
    pieces, phonemes, at = [np.zeros(int(LEAD_IN * rate))], [Phoneme(SILENCE, 0.0, LEAD_IN)], 0.0
    at = len(pieces[0]) / rate
    for index, (samples, run) in enumerate(parts):
        pieces.append(_faded(samples / 32768.0, rate))
        start = at
        at += len(samples) / rate
        phonemes += [Phoneme(p.symbol, start + p.start, start + p.end) for p in run]
        gap = int((TAIL if index == len(parts) - 1 else JOIN) * rate)
        pieces.append(np.zeros(gap))
        at += gap / rate
        phonemes.append(Phoneme(SILENCE, phonemes[-1].end, at))
    wave = loudness.soften(np.concatenate(pieces), rate)
    wave = loudness.normalise(wave, rate, TARGET_LUFS)
    samples16 = np.round(np.clip(wave, -1.0, 1.0) * 32767.0).astype(np.int16)
    return Speech(samples16, rate, tuple(phonemes))


def _faded(samples: npt.NDArray[np.float64], rate: int) -> npt.NDArray[np.float64]:
    """Fade 4 ms in and 12 ms out, so that a cut never clicks."""
    out = samples.copy()
    rise, fall = min(int(0.004 * rate), len(out)), min(int(0.012 * rate), len(out))
    out[:rise] *= np.linspace(0.0, 1.0, rise)
    out[len(out) - fall :] *= np.linspace(1.0, 0.0, fall)
    return out
