"""How a segment's face looks with nothing in front: bounds of every texel, learned from samples.

Bounds from samples of each place are the idea of Barnich and Van Droogenbroeck, "ViBe: a universal
background subtraction algorithm for video sequences", IEEE TIP 20(6), 2011.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face.occlusion.arrays import Float, Image, Mask, Points
from models.face.occlusion.evidence import Bounds, face_features, reaching_in
from models.face.occlusion.hands import HandFinder, hands_seen
from models.face.occlusion.layout import Layout, View, check_frame, layout_points
from models.face.occlusion.light import fit_light, match_light

STRAY = np.array([10.0, 5.0, 6.0, 7.0], np.float32)
"""The most that a texel's bounds lie from its usual value: more is no face that moves."""

KNOWN = 3
"""Clean samples of a texel below which it says nothing."""

LOOSE = np.array([0.30, 0.15, 0.15, 0.08, 0.08, 0.08])[:, None] * [1.0, 30.0, 30.0]
"""Standard deviation of light before anything is known: log of L, a, b."""

LEAST_LIGHT = np.array([1.0, 0.6, 0.6, 0.6, 0.6, 0.6])[:, None] * [0.03, 0.8, 0.8]
"""The least that light varies, whatever the samples say."""


@dataclass(frozen=True, eq=False)
class FaceStatistics:
    """How a segment's face looks while nothing is in front of it."""

    points: Points
    """[478, 2] where the landmarks lie in the layout, texels."""
    usual: Float
    """[h, w, 3] median Lab over the samples."""
    light: Float
    """[2, 6, 3] usual light and how tightly it holds: see `light.fit_light`."""
    low: Float
    """[h, w, 4] least L, a, b and fine detail of L of each texel."""
    high: Float
    """[h, w, 4] the most. Infinitely far apart where the face was never seen clear."""
    hands: bool
    """Whether a sample shows a hand at the face: then every frame is searched for one."""

    @classmethod
    def learn(
        cls, samples: Sequence[tuple[Image, Points]], find: HandFinder | None = None
    ) -> FaceStatistics:
        """Learn a segment's face; a pure function of the samples.

        Args:
            samples: (uint8 [h, w, 3] RGB of the segment's window, float32 [478, 2 or 3] pixels in
                it) of the frames that `sample_numbers` picks. What covers a place in up to about a
                third of them is found; a hand also when it never leaves.
            find: as for `occlusion_masks`.

        Raises:
            ValueError: there are no samples, or one has the wrong shape or type.
        """
        if not samples:
            raise ValueError("samples: at least one frame is needed to learn the face")
        for frame, points in samples:
            check_frame(frame, points)
        layout = Layout(layout_points([points for _, points in samples]))
        views = [layout.view(frame, points) for frame, points in samples]
        return _learn(layout, views, hands_seen(layout, samples, views, find))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, to be stored."""
        return {
            "points": self.points, "usual": self.usual, "light": self.light,
            "low": self.low, "high": self.high, "hands": np.array(self.hands),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Back from `arrays`, with the same masks as before.

        Raises:
            ValueError: an array is missing.
        """
        names = ("points", "usual", "light", "low", "high", "hands")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"face statistics lack {', '.join(missing)}: learn them again")
        points, usual, light, low, high = (
            np.asarray(arrays[name], np.float32) for name in names[:-1]
        )
        return cls(points, usual, light, low, high, bool(arrays["hands"]))

    @cached_property
    def layout(self) -> Layout:
        """The layout that the arrays are in."""
        return Layout(self.points)

    @property
    def bounds(self) -> Bounds:
        """`low` and `high`."""
        return Bounds(self.low, self.high)


def _learn(layout: Layout, views: list[View], hands: list[Mask]) -> FaceStatistics:
    seen = np.stack([v.seen & ~hand for v, hand in zip(views, hands, strict=True)])
    usual, light = _usual_light(layout, views, seen)
    features = np.stack(
        [face_features(layout, match_light(layout, v, usual, light)) for v in views]
    )
    centre = _quantile(features, seen, 0.5)
    strays = features - centre
    # Narrow bounds first, from the calmer third: they show which samples have something in front.
    narrow = np.minimum(2.2 * _quantile(np.abs(strays), seen, 0.35), STRAY)
    first = _with_neighbours(layout, centre - narrow, centre + narrow)
    clean = seen.copy()
    for index, (view, feature) in enumerate(zip(views, features, strict=True)):
        cover = reaching_in(layout, first, view, feature).cover
        clean[index] &= cv2.dilate(cover.astype(np.uint8), layout.disc(0.05)) == 0
    low = np.clip(_quantile(strays, clean, 0.04), -STRAY, 0)
    high = np.clip(_quantile(strays, clean, 0.96), 0, STRAY)
    bounds = _with_neighbours(layout, centre + low, centre + high)
    unknown = clean.sum(0) < min(KNOWN, len(views))
    bounds.low[unknown], bounds.high[unknown] = -np.inf, np.inf
    shown = any(hand.any() for hand in hands)
    return FaceStatistics(layout.points, usual, light, bounds.low, bounds.high, shown)


def _usual_light(layout: Layout, views: list[View], seen: NDArray[np.bool_]) -> tuple[Float, Float]:
    """Median Lab in the median light, and that light with its tightness, [2, 6, 3]."""
    loose = np.stack([np.zeros_like(LOOSE), LOOSE**-2]).astype(np.float32)
    usual = _quantile(np.stack([v.lab for v in views]), seen, 0.5)
    for _ in range(2):
        lit = np.stack([match_light(layout, view, usual, loose) for view in views])
        usual = _quantile(lit, seen, 0.5)
    fits = np.stack([fit_light(layout, view, usual, loose) for view in views])
    mean = np.median(fits, axis=0)
    spread = 1.5 * 1.4826 * np.median(np.abs(fits - mean), axis=0)
    spread = np.clip(spread, LEAST_LIGHT, 5 * LEAST_LIGHT)
    return usual, np.stack([mean, spread**-2]).astype(np.float32)


def _quantile(values: Float, valid: NDArray[np.bool_], part: float) -> Float:
    """Quantile over the first axis of [n, h, w, c] where [n, h, w] is valid; 0 where nothing is."""
    ordered = np.sort(np.where(valid[..., None], values, np.float32(np.inf)), axis=0)
    count = valid.sum(0)
    rank = np.round(part * np.maximum(count - 1, 0)).astype(np.intp)
    picked = np.take_along_axis(ordered, rank[None, ..., None], axis=0)[0]
    return np.asarray(np.where(count[..., None] > 0, picked, 0), np.float32)


def _with_neighbours(layout: Layout, low: Float, high: Float) -> Bounds:
    """Bounds that also hold those of nearby texels, more of them where landmarks are uncertain."""
    near, far = layout.disc(0.018), layout.disc(0.05)
    where = layout.uncertain[..., None]
    low = np.where(where, cv2.erode(low, far), cv2.erode(low, near))
    high = np.where(where, cv2.dilate(high, far), cv2.dilate(high, near))
    return Bounds(low.astype(np.float32), high.astype(np.float32))
