"""When a known sound is heard in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import signal

F32 = NDArray[np.float32]

RATE = 8000
"""Hz at which both are compared: an eighth of a millisecond."""


def delay(heard: F32, sound: F32, rate: int, at_s: float, reach_s: float = 0.5) -> float | None:
    """By how many seconds a sound is late in what is heard; negative: early.

    The highest cross-correlation around where it belongs.

    Args:
        heard: float32 [n], mono.
        sound: float32 [m], mono.
        rate: samples a second of both.
        at_s: when the sound should begin.
        reach_s: how far it is looked for to either side.

    Returns:
        None where either is silent.
    """
    factor = max(1, rate // RATE)
    short = signal.resample_poly(sound.astype(np.float64), 1, factor)
    step = factor / rate
    reach = round(reach_s / step)
    first = round(at_s / step) - reach
    around = np.zeros(len(short) + 2 * reach)
    low, begin = _part(heard, factor, first, first + len(around))
    if not len(low) or not short.any() or not low.any():
        return None
    around[begin - first : begin - first + len(low)] = low
    match = signal.correlate(around, short, mode="valid", method="fft")
    return float((int(np.argmax(match)) - reach) * step + (round(at_s / step) * step - at_s))


def _part(heard: F32, factor: int, first: int, stop: int) -> tuple[NDArray[np.float64], int]:
    """Samples ``first`` to ``stop`` of a sound at the lower rate, those that there are.

    Returns:
        float64 [n] as if all of the sound had been resampled, and the number of the first.
    """
    # resample_poly's filter reaches ten samples of the lower rate to either side.
    margin = 16
    begin, end = max(0, first - margin), max(0, stop + margin)
    low = signal.resample_poly(heard[begin * factor : end * factor].astype(np.float64), 1, factor)
    start = max(0, first)
    return low[start - begin : max(0, stop - begin)], start
