"""Whom rendered faces look like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.identity import Embedding, distance


def median_distance(faces: Sequence[Embedding], others: Sequence[Embedding]) -> float | None:
    """Median distance of faces to another person's, over all pairs; None without a pair.

    Args:
        faces: float32 [128] each.
        others: pictures of one person, float32 [128] each.
    """
    pairs = [distance(face, other) for face in faces for other in others]
    return float(np.median(pairs)) if pairs else None
