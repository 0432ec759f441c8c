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
    low, short = (signal.resample_poly(x.astype(np.float64), 1, factor) for x in (heard, sound))
    step = factor / rate
    if not short.any() or not low.any():
        return None
    reach = round(reach_s / step)
    first = round(at_s / step) - reach
    around = np.zeros(len(short) + 2 * reach)
    begin, end = max(0, first), min(len(low), first + len(around))
    if begin >= end:
        return None
    around[begin - first : end - first] = low[begin:end]
    match = signal.correlate(around, short, mode="valid", method="fft")
    return float((int(np.argmax(match)) - reach) * step + (round(at_s / step) * step - at_s))
