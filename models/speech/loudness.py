"""Programme loudness after ITU-R BS.1770-4, mono, and the gentle finish of synthetic speech."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter, sosfiltfilt

Float = npt.NDArray[np.float64]

_BLOCK, _HOP = 0.4, 0.1
_OFFSET = -0.691
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0


def _shelf(rate: int, centre: float, gain_db: float, slope: float, *, high: bool) -> Float:
    """Return the (b, a) rows of a shelving biquad (Audio EQ Cookbook, R. Bristow-Johnson)."""
    a = 10 ** (gain_db / 40)
    w = 2 * np.pi * centre / rate
    sign = 1.0 if high else -1.0
    alpha = np.sin(w) / 2 * np.sqrt((a + 1 / a) * (1 / slope - 1) + 2)
    root, cos = 2 * np.sqrt(a) * alpha, np.cos(w)
    b = [
        a * ((a + 1) + sign * (a - 1) * cos + root),
        -sign * 2 * a * ((a - 1) + sign * (a + 1) * cos),
        a * ((a + 1) + sign * (a - 1) * cos - root),
    ]
    den = [
        (a + 1) - sign * (a - 1) * cos + root,
        sign * 2 * ((a - 1) - sign * (a + 1) * cos),
        (a + 1) - sign * (a - 1) * cos - root,
    ]
    return np.asarray([b, den])


def loudness(samples: Float, sample_rate: int) -> float:
    """Return integrated loudness in LUFS; ``-inf`` for silence.

    Args:
        samples: float64 [n] in -1..1, mono.
        sample_rate: Hz. The K-weighting is built for this rate, not resampled to 48 kHz.
    """
    shelf = _shelf(sample_rate, 1681.97, 4.0, 1.0, high=True)
    b, a = butter(2, 38.1, "highpass", fs=sample_rate)
    weighted = lfilter(b, a, lfilter(shelf[0], shelf[1], samples))
    size, hop = int(_BLOCK * sample_rate), int(_HOP * sample_rate)
    if len(weighted) < size:
        weighted = np.pad(weighted, (0, size - len(weighted)))
    total = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(weighted) - size + 1, hop)
    power = np.maximum((total[starts + size] - total[starts]) / size, 0.0)
    levels = _OFFSET + 10 * np.log10(power + 1e-20)
    kept = power[levels > _ABSOLUTE_GATE]
    if not len(kept):
        return float("-inf")
    gate = _OFFSET + 10 * np.log10(kept.mean()) + _RELATIVE_GATE
    kept = kept[_OFFSET + 10 * np.log10(kept) > gate]
    return float(_OFFSET + 10 * np.log10(kept.mean()))


def soften(samples: Float, sample_rate: int) -> Float:
    """Take the buzz off formant synthesis: a little warmth, a gentle roll-off at the top.

    Args:
        samples: float64 [n] in -1..1.
        sample_rate: Hz.
    """
    warm = _shelf(sample_rate, 240.0, 2.5, 0.7, high=False)
    bright = _shelf(sample_rate, 4200.0, -4.5, 0.7, high=True)
    out = lfilter(bright[0], bright[1], lfilter(warm[0], warm[1], samples))
    sos = butter(2, 0.85 * sample_rate / 2, "lowpass", fs=sample_rate, output="sos")
    return np.asarray(sosfiltfilt(sos, out)) if len(out) > 12 else np.asarray(out)


def normalise(samples: Float, sample_rate: int, target: float, peak: float = 0.84) -> Float:
    """Bring speech to a loudness without clipping.

    Args:
        samples: float64 [n] in -1..1.
        sample_rate: Hz.
        target: LUFS.
        peak: highest absolute sample value allowed; louder peaks are bent smoothly (tanh above
            70% of it), which keeps plosives from deciding the level of the whole line.
    """
    level = loudness(samples, sample_rate)
    if not np.isfinite(level):
        return samples
    out = samples * 10 ** ((target - level) / 20)
    knee = 0.7 * peak
    over = np.abs(out) > knee
    bent = knee + (peak - knee) * np.tanh((np.abs(out) - knee) / (peak - knee))
    return np.asarray(np.where(over, np.sign(out) * bent, out))
