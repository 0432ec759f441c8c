"""The music bed: eight seconds of soft keys, plucked strings and light percussion, synthesised.

The level follows the ad: open on the cards, lower while somebody speaks. What is exported is what
stays under any voice, so the mix of a recipient's ad and of the template itself agree.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from models.speech import loudness

Sound = npt.NDArray[np.float64]

RATE = 48000
BEAT = 0.5
"""Seconds: 120 beats a minute, so that eight seconds are four whole bars."""
CHORDS = ((48, 55, 64, 71, 74), (45, 55, 60, 64, 71), (41, 53, 60, 64, 69), (43, 55, 62, 67, 71))
"""One chord a bar, MIDI notes, bass first: Cmaj9, Am9, Fmaj7, G; the ring-out lands on the end."""
PATTERN = (2, 3, 4, 3, 1, 3, 4, 2)
"""Which note of the chord each half beat plucks."""
OPEN_LUFS, UNDER_LUFS = -22.5, -29.0
"""Of the mean of both channels; together they are 3 LU louder."""


def _hz(note: float) -> float:
    return float(440.0 * 2 ** ((note - 69) / 12))


def _add(track: Sound, start: float, tone: Sound, pan: float, gain: float) -> None:
    i = round(start * RATE)
    n = min(len(tone), track.shape[1] - i)
    if n > 0:
        track[0, i : i + n] += tone[:n] * gain * np.cos((pan + 1) * np.pi / 4)
        track[1, i : i + n] += tone[:n] * gain * np.sin((pan + 1) * np.pi / 4)


def _keys(note: int, seconds: float) -> Sound:
    """A soft electric piano: two-operator FM with a slow swell and chorus."""
    t = np.arange(int(seconds * RATE)) / RATE
    out = np.zeros_like(t)
    for cents in (-4.0, 4.0):
        f = _hz(note + cents / 100)
        out += np.sin(2 * np.pi * f * t + 0.55 * np.exp(-2.2 * t) * np.sin(2 * np.pi * f * t))
    swell = np.minimum(t / 0.06, 1) * np.exp(-0.55 * t) * np.minimum((seconds - t) / 0.25, 1)
    return np.asarray(out * swell / 2, np.float64)


def _pluck(note: int, seconds: float, seed: int) -> Sound:
    """A nylon string (Karplus and Strong 1983), damped and softened."""
    period = RATE / _hz(note) - 0.5
    n = int(period)
    rng = np.random.default_rng(seed)
    excite = np.zeros(int(seconds * RATE))
    excite[:n] = lfilter([0.25, 0.5, 0.25], [1.0], rng.uniform(-1, 1, n))
    # the loop: a delay of a fraction of a sample more than n, a two-point mean, a small loss
    frac, keep = period - n, 0.996
    a = np.zeros(n + 3)
    a[0] = 1.0
    a[n : n + 3] = -0.5 * keep * np.array([1 - frac, 1.0, frac])
    tone = lfilter([1.0], a, excite)
    sos = butter(1, 2600, "lowpass", fs=RATE, output="sos")
    return np.asarray(
        sosfilt(sos, tone) * np.minimum((seconds - np.arange(len(tone)) / RATE) / 0.2, 1)
    )


def _shaker(seed: int) -> Sound:
    t = np.arange(int(0.09 * RATE)) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(t))
    sos = butter(2, (5200, 11000), "bandpass", fs=RATE, output="sos")
    return np.asarray(sosfilt(sos, noise) * np.minimum(t / 0.012, 1) * np.exp(-t / 0.022))


def _kick() -> Sound:
    t = np.arange(int(0.28 * RATE)) / RATE
    sweep = 46 * t + 60 * 0.03 * (1 - np.exp(-t / 0.03))
    return np.asarray(np.sin(2 * np.pi * sweep) * np.exp(-t / 0.09) * np.minimum(t / 0.003, 1))


def _room(track: Sound) -> Sound:
    """A short, dark room: exponentially decaying noise, convolved."""
    t = np.arange(int(0.9 * RATE)) / RATE
    rng = np.random.default_rng(5)
    sos = butter(1, (250, 4200), "bandpass", fs=RATE, output="sos")
    wet = np.stack(
        [
            fftconvolve(c, sosfilt(sos, rng.standard_normal(len(t)) * np.exp(-t / 0.22)))[
                : track.shape[1]
            ]
            for c in track
        ]
    )
    return np.asarray(track + 0.16 * wet / (np.abs(wet).max() + 1e-9) * np.abs(track).max())


def compose(seconds: float, quiet: tuple[float, float]) -> Sound:
    """Play the bed.

    Args:
        seconds: its length; bars repeat or stop accordingly.
        quiet: from and to which second somebody speaks over it.

    Returns:
        float64 [2, n] at 48 kHz, in -1..1.
    """
    track = np.zeros((2, round(seconds * RATE)))
    bar = 4 * BEAT
    for k in range(int(np.ceil(seconds / bar))):
        chord = CHORDS[k % 4] if (k + 1) * bar < seconds else CHORDS[0]
        for j, note in enumerate(chord):
            _add(track, k * bar, _keys(note, bar + 0.5), (j - 2) * 0.2, 0.16 if j else 0.24)
        last = (k + 1) * bar >= seconds
        for j, step in enumerate(PATTERN[: 5 if last else 8]):
            tone = _pluck(chord[step] + (12 if j % 4 == 3 else 0), 1.4, 40 + 8 * k + j)
            _add(track, k * bar + j * BEAT / 2, tone, 0.45 * (-1) ** j, 0.34)
        for j in range(0 if last else 8):
            _add(track, k * bar + j * BEAT / 2, _shaker(j % 3), 0.3, 0.10 if j % 2 else 0.05)
        for j in (0, 2):
            _add(track, k * bar + j * BEAT, _kick(), 0.0, 0.30 if not (last and j) else 0.0)
    return _levelled(_room(track), seconds, quiet)


def _levelled(track: Sound, seconds: float, quiet: tuple[float, float]) -> Sound:
    mono = track.mean(0)
    track = track * 10 ** ((OPEN_LUFS - loudness.loudness(mono, RATE)) / 20)
    t = np.arange(track.shape[1]) / RATE
    under = 10 ** ((UNDER_LUFS - OPEN_LUFS) / 20)
    fall, rise = quiet
    duck = np.clip((t - fall + 0.30) / 0.35, 0, 1) * np.clip((rise + 0.45 - t) / 0.5, 0, 1)
    gain = 1 + (under - 1) * duck**2 * (3 - 2 * duck)
    gain *= np.clip(t / 0.25, 0, 1) * np.clip((seconds - t) / 0.9, 0, 1) ** 1.5
    return np.asarray(np.tanh(track * gain * 1.02) / 1.02)
