"""How well a rendered mouth follows its command, from the landmarks of the rendered frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d

from models.lip_sync import basis
from models.lip_sync.curves import LEAD, MouthCurves
from models.speech.arpabet import LABIAL_STOPS, Phoneme

Float32 = npt.NDArray[np.float32]

REACH = 0.4
"""Seconds of lag that are searched to either side; real clips carry up to 0.28 of their own."""
CLOSED = 0.045
"""Lip gap in eye distances that counts as closed: the landmark network rarely reads 0."""
CLOSURE_WINDOW = 0.06
"""Seconds around a bilabial in which the lips must be seen closed."""


@dataclass(frozen=True)
class Score:
    """Agreement of a rendered mouth with its command.

    Attributes:
        openness: correlation of lip gap and command at lag 0, -1..1.
        width: correlation of mouth width and command at lag 0.
        lag: seconds by which the picture is late against the command, at the best joint fit.
        closure: share of bilabials seen closed, 0..1; NaN when there is none.
        bilabials: how many there are.
        jitter: see :func:`jitter`.
    """

    openness: float
    width: float
    lag: float
    closure: float
    bilabials: int
    jitter: float


def measure(points: Float32) -> tuple[Float32, Float32]:
    """Return lip gap and mouth width per frame in eye distances, the head's movement taken out.

    Args:
        points: float32 [n, 478, 3] pixels, NaN rows without a face.

    Returns:
        Two float32 [n], NaN where there is no face.

    Raises:
        ValueError: no frame has a face.
    """
    heads = basis.heads_in_blocks(points, basis.head_poses(points))
    figures = [(basis.lip_gap(head), basis.corner_width(head)) for head in heads]
    gaps, widths = zip(*figures, strict=True)
    return np.concatenate(gaps), np.concatenate(widths)


def score(
    points: Float32, command: MouthCurves, phonemes: Sequence[Phoneme] = (), offset: float = 0.0
) -> Score:
    """Compare rendered frames with what was commanded.

    Args:
        points: float32 [n, 478, 3] landmarks of the rendered frames.
        command: the curves they were rendered from, n values.
        phonemes: of the speech, for the closure rate.
        offset: seconds of video before the speech begins.
    """
    gap, width = measure(points)
    fps = float(command.fps)
    wider = np.array([basis.width_change(float(w)) for w in command.width], np.float32)
    hits = closures(gap, phonemes, fps, offset)
    return Score(
        correlation(gap, command.open),
        correlation(width, wider),
        lag((gap, width), (command.open, wider), fps),
        float(np.mean(hits)) if hits else float("nan"),
        len(hits),
        jitter(gap),
    )


def correlation(a: Float32, b: Float32) -> float:
    """Pearson correlation over the frames where both are known; 0 where either is constant."""
    known = ~(np.isnan(a) | np.isnan(b))
    a, b = a[known].astype(np.float64), b[known].astype(np.float64)
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def lag(seen: tuple[Float32, Float32], command: tuple[Float32, Float32], fps: float) -> float:
    """Find by how many seconds the picture is late, from opening and width together.

    The sum of both correlations is taken over shifts of +-:data:`REACH`; a parabola through the
    best three gives the place between frames.

    Args:
        seen: lip gap and width, float32 [n] each.
        command: the same from the command or from other speech.
        fps: frames a second.
    """
    reach = min(round(REACH * fps), len(seen[0]) // 2)
    shifts = np.arange(-reach, reach + 1)
    total = np.array(
        [
            sum(correlation(*_shifted(s, c, int(k))) for s, c in zip(seen, command, strict=True))
            for k in shifts
        ]
    )
    best = int(np.argmax(total))
    fine = 0.0
    if 0 < best < len(total) - 1:
        before, at, after = total[best - 1 : best + 2]
        bend = before - 2 * at + after
        fine = 0.5 * (before - after) / bend if bend < 0 else 0.0
    return float((shifts[best] + fine) / fps)


def _shifted(seen: Float32, command: Float32, shift: int) -> tuple[Float32, Float32]:
    if shift >= 0:
        return seen[shift:], command[: len(command) - shift]
    return seen[:shift], command[-shift:]


def closures(
    gap: Float32, phonemes: Sequence[Phoneme], fps: float, offset: float = 0.0
) -> list[bool]:
    """Return for each /p b m/ inside the clip whether the lips were seen closed around it."""
    hits = []
    for p in phonemes:
        if p.symbol not in LABIAL_STOPS:
            continue
        centre = (p.start + p.end) / 2 + offset - LEAD
        low = max(0, int(np.floor((centre - CLOSURE_WINDOW) * fps)))
        high = int(np.ceil((centre + CLOSURE_WINDOW) * fps)) + 1
        near = gap[low:high]
        if high <= len(gap) and not np.isnan(near).all():
            hits.append(bool(np.nanmin(near) < CLOSED))
    return hits


def jitter(gap: Float32) -> float:
    """Return the spread of what changes from frame to frame over the whole spread.

    Real talkers have 0.15-0.35: the part of the lip gap that a Gaussian of one frame removes.
    """
    known = gap[~np.isnan(gap)].astype(np.float64)
    if len(known) < 5 or known.std() < 1e-9:
        return 0.0
    return float((known - gaussian_filter1d(known, 1.0)).std() / known.std())
