"""Lips as they are seen against what they were told to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.lip_sync.sync import REACH, correlation

F32 = NDArray[np.float32]

STEP = 0.01
"""Seconds between the lags that are tried."""


@dataclass(frozen=True)
class MouthFit:
    """How lips follow their command."""

    error: float
    """Mean absolute difference of openness at the best lag; 1 is the clip's own wide opening."""
    correlation: float
    """Pearson's, at the best lag."""
    lag: float
    """Seconds by which the lips are late."""


def follow(times: F32, gaps: F32, command: F32, fps: float, wide: float) -> MouthFit | None:
    """Compare sampled lips with their command.

    Args:
        times: float32 [n], seconds of the sampled frames on the template's time line.
        gaps: float32 [n], lip gap in eye distances there; NaN where it was not seen.
        command: float32 [frames], openness told to every frame, 0 closed to 1 wide.
        fps: frames a second.
        wide: lip gap that an openness of 1 stands for.

    Returns:
        None where fewer than 8 frames were seen, or the command stays the same.
    """
    seen = ~np.isnan(gaps)
    if seen.sum() < 8 or wide <= 0:
        return None
    times, gaps = times[seen], gaps[seen]
    clock = np.arange(len(command)) / fps
    steps = round(REACH / STEP)
    lags = STEP * np.arange(-steps, steps + 1)  # none at all is nought, not nearly
    told = [np.interp(times - lag, clock, command).astype(np.float32) for lag in lags]
    if float(np.std(told[len(told) // 2])) < 1e-3:
        return None
    fits = np.array([correlation(gaps, each) for each in told])
    best = int(np.argmax(fits))
    error = float(np.abs(gaps / wide - told[best]).mean())
    return MouthFit(error, float(fits[best]), float(lags[best]))
