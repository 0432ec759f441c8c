"""Photosensitive flashes: a measured badness series, and an own counter on frames.

The counter follows the definitions of ITU-R BT.1702-3 and WCAG 2.2 (2.3.1): a general flash is a
pair of opposing changes in relative luminance of at least 0.1 where the darker side is below 0.8; a
red flash is the same for saturated red; either counts when a quarter of the picture does it
together, and three in a second are the limit. The picture is judged on a coarse grid, so that grain
and fine texture do not count.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.safety.finding import Finding, unavailable
from models.safety.policy import DEFAULT_POLICY, Limits, Policy

CHECK = "flash"
GRID = (18, 32)
"""Cells, down and across."""
SAMPLES = 6
"""Pixels looked at per cell and axis."""
AREA = 0.25
TOGETHER_S = 0.1
"""Changes within this time count as one change of the picture."""
LUMINANCE_STEP, DARK_BELOW = 0.1, 0.8
RED_STEP, RED_SATURATION = 20.0, 0.8
RUN_GAP_S = 1.0

_Cells = npt.NDArray[np.float32]


def _linear_table() -> _Cells:
    """SRGB code value to linear light, IEC 61966-2-1."""
    code = np.arange(256, dtype=np.float64) / 255.0
    light = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return light.astype(np.float32)


_LINEAR = _linear_table()


@dataclass(frozen=True)
class FlashPeak:
    """The worst second."""

    kind: str
    """``general`` or ``red``."""
    flashes: int
    """Whole flashes (pairs of opposing changes) within one second."""
    time_s: float


class FlashCounter:
    """Counts flashes frame by frame; memory does not grow with the video's length."""

    def __init__(self) -> None:
        self._tracks = {
            "general": _Track(LUMINANCE_STEP, DARK_BELOW),
            "red": _Track(RED_STEP, float("inf")),
        }
        self._frames = 0

    def add(self, time_s: float, rgb: npt.NDArray[np.uint8]) -> None:
        """Add the next frame.

        Args:
            time_s: its time, growing from frame to frame.
            rgb: uint8 [h, w, 3].

        Raises:
            ValueError: the array is no frame.
        """
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise ValueError(f"a frame is uint8 [h, w, 3], not {rgb.dtype} {rgb.shape}")
        luminance, red = _measure(rgb)
        self._tracks["general"].add(time_s, luminance)
        self._tracks["red"].add(time_s, red)
        self._frames += 1

    def peak(self) -> FlashPeak:
        """The worst second so far."""
        kind, track = max(self._tracks.items(), key=lambda item: item[1].worst)
        return FlashPeak(kind, track.worst // 2, track.worst_time)

    def findings(self, policy: Policy = DEFAULT_POLICY) -> list[Finding]:
        """The verdict: one finding, ``unavailable`` when there was no frame."""
        if self._frames == 0:
            return [unavailable(CHECK, "there was no frame to look at")]
        peak = self.peak()
        limits = policy.flash_per_second
        return [
            Finding(
                rule=f"{CHECK}.{peak.kind}",
                verdict=limits.verdict(peak.flashes),
                score=float(peak.flashes),
                threshold=limits.crossed(peak.flashes),
                time_s=peak.time_s,
                detail=f"{peak.flashes} {peak.kind} flashes within a second",
            )
        ]


def check_badness(
    series: Sequence[tuple[float, float]], policy: Policy = DEFAULT_POLICY
) -> list[Finding]:
    """Judge a series measured by ffmpeg's ``photosensitivity`` filter.

    Args:
        series: time in seconds and badness, in order.
        policy: holds the limits.

    Returns:
        One finding for each stretch above the review limit, at its worst moment; one ``pass`` with
        the highest badness when there is none; ``unavailable`` for an empty series.
    """
    if not series:
        return [unavailable(CHECK, "nothing was measured")]
    limits = policy.flash_badness
    stretches: list[list[tuple[float, float]]] = []
    for time_s, badness in series:
        if badness < limits.review:
            continue
        if stretches and time_s - stretches[-1][-1][0] <= RUN_GAP_S:
            stretches[-1].append((time_s, badness))
        else:
            stretches.append([(time_s, badness)])
    peaks = [max(stretch, key=lambda point: point[1]) for stretch in stretches]
    peaks = peaks or [max(series, key=lambda point: point[1])]
    return [_badness_finding(time_s, badness, limits) for time_s, badness in peaks]


def _badness_finding(time_s: float, badness: float, limits: Limits) -> Finding:
    return Finding(
        rule=f"{CHECK}.badness",
        verdict=limits.verdict(badness),
        score=badness,
        threshold=limits.crossed(badness),
        time_s=time_s,
        detail=f"photosensitivity badness {badness:.1f}",
    )


class _Track:
    """Opposing changes of one quantity, per cell, and those that the picture makes together."""

    def __init__(self, step: float, dark_below: float) -> None:
        self._step, self._dark_below = step, dark_below
        self._low: _Cells | None = None
        self._high: _Cells | None = None
        self._direction = np.zeros(GRID, np.int8)
        self._changed = {1: np.full(GRID, -np.inf), -1: np.full(GRID, -np.inf)}
        self._events: deque[float] = deque()
        self._last_event = 0
        self.worst, self.worst_time = 0, 0.0

    def add(self, time_s: float, value: _Cells) -> None:
        if self._low is None or self._high is None:
            self._low, self._high = value.copy(), value.copy()
            return
        low, high = self._low, self._high
        np.minimum(low, value, out=low)
        np.maximum(high, value, out=high)
        rose = (self._direction <= 0) & (value - low >= self._step) & (low < self._dark_below)
        fell = (self._direction >= 0) & (high - value >= self._step) & (value < self._dark_below)
        for way, cells in ((1, rose), (-1, fell)):
            self._direction[cells] = way
            low[cells] = high[cells] = value[cells]
            self._changed[way][cells] = time_s
            self._note(time_s, way)
        while self._events and self._events[0] <= time_s - 1.0:
            self._events.popleft()
        if len(self._events) > self.worst:
            self.worst, self.worst_time = len(self._events), self._events[0]

    def _note(self, time_s: float, way: int) -> None:
        """Note a change of the picture when enough cells changed in this direction together."""
        changed = self._changed[way]
        if way != self._last_event and np.mean(changed > time_s - TOGETHER_S) >= AREA:
            self._events.append(time_s)
            self._last_event = way
            changed[:] = -np.inf


def _measure(rgb: npt.NDArray[np.uint8]) -> tuple[_Cells, _Cells]:
    """Relative luminance and saturated red (WCAG's (R - G - B) x 320) per cell."""
    rows = np.linspace(0, rgb.shape[0] - 1, GRID[0] * SAMPLES).round().astype(np.intp)
    columns = np.linspace(0, rgb.shape[1] - 1, GRID[1] * SAMPLES).round().astype(np.intp)
    sampled = _LINEAR[rgb[rows[:, None], columns[None, :]]]
    cells = sampled.reshape(GRID[0], SAMPLES, GRID[1], SAMPLES, 3).mean(axis=(1, 3))
    red, green, blue = cells[..., 0], cells[..., 1], cells[..., 2]
    luminance = (0.2126 * red + 0.7152 * green + 0.0722 * blue).astype(np.float32)
    saturated = red >= RED_SATURATION * (red + green + blue + 1e-6)
    excess = np.where(saturated, np.maximum(red - green - blue, 0.0) * 320.0, 0.0)
    return luminance, excess.astype(np.float32)
