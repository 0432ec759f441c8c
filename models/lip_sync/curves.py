"""From phonemes to mouth movement: two curves, one value per video frame.

Coarticulation follows Cohen and Massaro, "Modeling Coarticulation in Synthetic Visual Speech"
(1993): each phoneme has a target and a dominance that falls off exponentially around it, and the
curve is the dominance-weighted mean of the targets. Lip closure does not blend: /p b m/ gate the
opening to zero, and a frame takes the strongest gate of its whole interval, so that a low frame
rate never skips one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from models.speech.arpabet import LABIAL_STOPS, SILENCE, Phoneme

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

STEP = 0.005
"""Seconds between samples of the curves before they are taken per frame."""
SIGMA = 0.035
"""Seconds in which a phoneme's dominance falls to 1/e."""
LEAD = 0.020
"""Seconds by which the mouth leads the sound."""
ENERGY_GAIN = 0.6
"""How much of the opening follows the sound's level when phonemes were only recognised."""
_REACH = 0.25

# (open 0..1, width -1 rounded .. 1 spread, weight): what the lips do for each class, from the
# vowel chart (height opens, rounding narrows) and the places of articulation. Consonants that the
# tongue makes are light: the vowels around them show through. Labials insist.
_TARGETS: dict[str, tuple[float, float, float]] = {
    "AA": (1.00, 0.00, 1.0), "AE": (0.90, 0.40, 1.0), "AH": (0.60, 0.05, 0.9),
    "AO": (0.80, -0.50, 1.0), "AW": (0.85, -0.35, 1.0), "AY": (0.85, 0.25, 1.0),
    "EH": (0.65, 0.35, 1.0), "ER": (0.40, -0.35, 1.0), "EY": (0.50, 0.55, 1.0),
    "IH": (0.42, 0.40, 0.9), "IY": (0.30, 0.80, 1.1), "OW": (0.55, -0.75, 1.1),
    "OY": (0.60, -0.45, 1.0), "UH": (0.38, -0.55, 1.0), "UW": (0.24, -1.00, 1.3),
    "P": (0.02, 0.00, 3.0), "B": (0.02, 0.00, 3.0), "M": (0.02, 0.00, 3.0),
    "F": (0.10, 0.10, 2.6), "V": (0.10, 0.10, 2.4), "W": (0.14, -1.00, 1.6),
    "TH": (0.24, 0.10, 0.6), "DH": (0.24, 0.10, 0.5), "S": (0.14, 0.35, 0.7),
    "Z": (0.14, 0.35, 0.7), "SH": (0.20, -0.65, 0.9), "ZH": (0.20, -0.65, 0.9),
    "CH": (0.20, -0.55, 0.9), "JH": (0.20, -0.55, 0.9), "T": (0.20, 0.20, 0.4),
    "D": (0.20, 0.20, 0.4), "N": (0.22, 0.15, 0.4), "L": (0.32, 0.10, 0.4),
    "R": (0.24, -0.50, 0.6), "K": (0.30, 0.10, 0.35), "G": (0.30, 0.10, 0.35),
    "NG": (0.28, 0.10, 0.35), "Y": (0.24, 0.55, 0.5), "HH": (0.45, 0.10, 0.1),
    SILENCE: (0.00, 0.00, 0.8),
}  # fmt: skip
_CLOSURE_FALL, _BITE_FALL, _BITE = 0.022, 0.025, 0.6


@dataclass(frozen=True)
class MouthCurves:
    """What the mouth shall do, one value per video frame.

    Attributes:
        open: float32 [n], 0 closed .. 1 the clip's own wide opening (its 95th percentile).
        width: float32 [n], -1 fully rounded .. 0 at rest .. 1 fully spread.
        fps: frames a second; frame i covers [i / fps, (i + 1) / fps).
    """

    open: Float32
    width: Float32
    fps: Fraction

    def __len__(self) -> int:
        return len(self.open)


def mouth_curves(
    phonemes: Sequence[Phoneme],
    frames: int,
    fps: float | Fraction,
    *,
    offset: float = 0.0,
    energy: Float32 | None = None,
) -> MouthCurves:
    """Turn timed phonemes into mouth curves.

    Args:
        phonemes: in order; what they leave out is silence, with the mouth closed.
        frames: number of video frames.
        fps: frames a second.
        offset: seconds of video before the sound begins.
        energy: level of the sound every 10 ms (see :func:`models.speech.phonemes.envelope`).
            Give it for recognised phonemes, whose kind is often wrong, and leave it out for
            synthesised or aligned ones.

    Returns:
        Curves of ``frames`` values.

    Raises:
        ValueError: ``frames`` is negative or ``fps`` not positive.
    """
    rate = Fraction(fps).limit_denominator(100_000)
    if frames < 0 or rate <= 0:
        raise ValueError(f"frames must be >= 0 and fps > 0, are {frames} and {fps}")
    count = int(np.ceil(frames / float(rate) / STEP)) + 1
    times = np.arange(count) * STEP
    moved = [
        Phoneme(p.symbol, p.start + offset - LEAD, p.end + offset - LEAD)
        for p in _with_silence(phonemes, frames / float(rate))
    ]
    opening, width = _blend(moved, times)
    speaking = np.zeros(count, np.bool_)
    for p in moved:
        if p.symbol != SILENCE:
            speaking[_span(p.start, p.end, count)] = True
    if energy is not None:
        opening *= _energy_gain(energy, times + LEAD - offset)
    smooth = 0.0125 / STEP
    opening, width = gaussian_filter1d(opening, smooth), gaussian_filter1d(width, smooth)
    opening, width = _normalised(opening, width, speaking)
    return _per_frame(opening, width, _gate(moved, times), frames, rate)


def _with_silence(phonemes: Sequence[Phoneme], duration: float) -> list[Phoneme]:
    """Add the silence before the first and after the last sound, far enough to hold the edges."""
    if not phonemes:
        return [Phoneme(SILENCE, -1.0, duration + 1.0)]
    first, last = phonemes[0].start, phonemes[-1].end
    ends = max(duration, last) + 1.0
    return [Phoneme(SILENCE, first - 1.0, first), *phonemes, Phoneme(SILENCE, last, ends)]


def _span(start: float, end: float, count: int) -> slice:
    low = int(np.clip(np.floor(start / STEP), 0, count))
    return slice(low, int(np.clip(np.ceil(end / STEP) + 1, low, count)))


def _blend(phonemes: Sequence[Phoneme], times: Float64) -> tuple[Float64, Float64]:
    """Mean of the targets, weighted by dominance: opening and width on the fine grid."""
    total = np.full(len(times), 1e-9)
    opening, width = np.zeros(len(times)), np.zeros(len(times))
    for p in phonemes:
        target_open, target_width, weight = _TARGETS.get(p.symbol, _TARGETS[SILENCE])
        span = _span(p.start - _REACH, p.end + _REACH, len(times))
        away = np.maximum(np.maximum(p.start - times[span], times[span] - p.end), 0.0)
        dominance = weight * np.exp(-away / SIGMA)
        total[span] += dominance
        opening[span] += dominance * target_open
        width[span] += dominance * target_width
    return opening / total, width / total


def _gate(phonemes: Sequence[Phoneme], times: Float64) -> Float64:
    """How far the lips must close, 0..1: fully for /p b m/, partly for /f v/."""
    gate = np.zeros(len(times))
    for p in phonemes:
        if p.symbol not in LABIAL_STOPS and p.symbol not in ("F", "V"):
            continue
        closure = p.symbol in LABIAL_STOPS
        centre, half = (p.start + p.end) / 2, (p.end - p.start) / 2
        hold = max(half - 0.010, 0.012) if closure else half
        fall = _CLOSURE_FALL if closure else _BITE_FALL
        span = _span(centre - hold - 5 * fall, centre + hold + 5 * fall, len(times))
        away = np.maximum(np.abs(times[span] - centre) - hold, 0.0)
        strength = (1.0 if closure else _BITE) * np.exp(-0.5 * (away / fall) ** 2)
        gate[span] = np.maximum(gate[span], strength)
    return gate


def _energy_gain(energy: Float32, times: Float64) -> Float64:
    """Gain on the opening from the sound's level, between its own quiet and loud."""
    if not len(energy):
        return np.ones(len(times))
    level = np.log(energy.astype(np.float64) + 1e-4)
    quiet, loud = np.percentile(level, 15), np.percentile(level, 92)
    relative = np.clip((level - quiet) / max(loud - quiet, 1e-6), 0.0, 1.15)
    relative = gaussian_filter1d(relative, 4.0)
    at = np.interp(times, np.arange(len(relative)) * 0.01, relative, left=0.0, right=0.0)
    return np.asarray((1 - ENERGY_GAIN) + ENERGY_GAIN * 1.25 * at)


def _normalised(
    opening: Float64, width: Float64, speaking: npt.NDArray[np.bool_]
) -> tuple[Float64, Float64]:
    """Scale so that the loudest vowels use the clip's range, without blowing up a hum."""
    if not speaking.any():
        return opening, width
    top = max(float(np.percentile(opening[speaking], 95)), 0.35)
    wide = max(float(np.percentile(np.abs(width[speaking]), 95)), 0.45)
    return np.clip(opening / top, 0.0, 1.0), np.clip(width / wide, -1.0, 1.0)


def _per_frame(
    opening: Float64, width: Float64, gate: Float64, frames: int, rate: Fraction
) -> MouthCurves:
    """Mean of the curves and maximum of the gate over each frame's interval."""
    out_open, out_width = np.zeros(frames, np.float32), np.zeros(frames, np.float32)
    for i in range(frames):
        low = round(float(i / rate) / STEP)
        high = max(low + 1, round(float((i + 1) / rate) / STEP))
        out_open[i] = opening[low:high].mean() * (1.0 - gate[low:high].max())
        out_width[i] = width[low:high].mean()
    return MouthCurves(out_open, out_width, rate)
