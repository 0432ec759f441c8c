"""What a render's frames do from one to the next, against the template's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

STILL = 0.5
"""Mean step in code values under which a template does not move on, so that nothing can be said."""
REPEATED = 0.1
"""Of the template's own step: a smaller one is a frame shown twice."""
QUIET = 0.05
"""Code values of flicker that nobody sees; the least that a template is taken to have."""


def flicker(blocks: F32) -> float:
    """Flicker of a clip: how much the brightness of its parts goes up and down, in code values.

    Per block the root mean square of the second difference in time, which steady movement leaves at
    zero; of all blocks the median, so that a mouth that speaks does not count as flicker.

    Args:
        blocks: float32 [n, rows, columns], mean luma of each block of consecutive frames.

    Returns:
        0 for fewer than three frames.
    """
    if len(blocks) < 3:
        return 0.0
    bend = np.diff(blocks.astype(np.float64), n=2, axis=0)
    return float(np.median(np.sqrt((bend**2).mean(axis=0))))


def flicker_ratio(shown: list[F32], own: list[F32]) -> float | None:
    """Flicker of a render over that of its template: 1 is alike.

    Args:
        shown: clips as for ``flicker``.
        own: the template's same clips.

    Returns:
        None without a clip of three frames.
    """
    pairs = [(flicker(a), flicker(b)) for a, b in zip(shown, own, strict=True) if len(a) > 2]
    if not pairs:
        return None
    rendered, template = np.mean(pairs, axis=0)
    return float((rendered + QUIET) / (template + QUIET))


def doubled(shown: F32, own: F32) -> int:
    """Frames that show what the frame before showed, although the template moves on.

    Args:
        shown: float32 [n, rows, columns], small luma pictures of consecutive frames as delivered.
        own: the template's same frames.
    """
    steps, expected = (np.abs(np.diff(clip, axis=0)).mean(axis=(1, 2)) for clip in (shown, own))
    return int(((expected >= STILL) & (steps <= REPEATED * expected)).sum())
