"""Evidence of something in front of a face: what leaves its bounds and comes in from outside.

Whatever covers a face comes from beyond it, so evidence counts only where it reaches in from the
face's edge: features that move by themselves do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from models.face.occlusion.arrays import Float, Image, Mask
from models.face.occlusion.layout import Layout, View

NOISE = np.array([3.0, 1.6, 1.8, 2.2], np.float32)
"""How far L, a, b and fine detail of L leave their bounds at a unit of evidence."""

STRONG, WEAK = 4.0, 1.0
"""Evidence (squared, mean over 5x5 texels) that something is there, and of where it ends."""

EYE_WEAK = 30.0
"""Evidence needed in the eyes: lids, gaze and highlights differ from any sample."""

EDGE = 0.45
"""Evidence over the most nearby at the outline of what is in front."""

OPEN = 24.0
"""Distance of a texel's bounds in L from which it cannot tell what passes there."""

LEAST_AREA, LEAST_DEPTH = 0.006, 0.16
"""What is smaller (over the oval) or reaches in less (eye distances) is left out."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """Between what the face's features stay while nothing is in front of it."""

    low: Float
    """[h, w, 4] least L, a, b and fine detail of L of each texel."""
    high: Float
    """[h, w, 4] the most. Infinitely far apart where the face was never seen clear."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a view shows besides the face; masks are [h, w] of the layout."""

    cover: Mask
    """What comes in from beyond the face."""
    differs: Mask
    """What differs from the face or was never seen clear: there a hand could be."""
    enough: bool
    """Whether so much differs that something may be there, in `cover` or not."""


def face_features(layout: Layout, lit: Float) -> Float:
    """L, a, b and the fine detail of L, which light does not change: [h, w, 4]."""
    detail = lit[..., 0] - cv2.GaussianBlur(lit[..., 0], (0, 0), 0.06 * layout.eye)
    return np.asarray(np.dstack([lit, detail]), np.float32)


def reaching_in(layout: Layout, bounds: Bounds, view: View, features: Float) -> Evidence:
    """Find the evidence of a view, given its features in the usual light."""
    beyond = np.maximum(bounds.low - features, features - bounds.high)
    single = np.square(np.maximum(beyond, 0) / NOISE).sum(-1)
    single[~view.seen] = 0
    mean = cv2.boxFilter(np.minimum(single, 60), -1, (5, 5))
    root = np.sqrt(single)
    sharp = (single > WEAK) & (root > EDGE * cv2.dilate(root, layout.disc(0.05)))
    sharp = cv2.dilate(sharp.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    seeds = (mean > STRONG) & layout.oval & ~layout.mobile & (layout.depth > 0.05 * layout.eye)
    differs = (mean > WEAK) | np.isinf(bounds.high[..., 0])
    if seeds.sum() <= LEAST_AREA * layout.oval.sum():
        return Evidence(np.zeros_like(seeds), differs, enough=False)
    weak = sharp & layout.inside & (mean > np.where(layout.eyes, EYE_WEAK, WEAK))
    parts = cv2.morphologyEx(weak.astype(np.uint8), cv2.MORPH_OPEN, layout.disc(0.02))
    parts = _close(parts, layout.disc(0.09))
    deaf = ~view.seen | (bounds.high[..., 0] - bounds.low[..., 0] > OPEN)
    kept = _from_outside(layout, parts, seeds, deaf, mean, view.lab)
    cover = _filled(layout, kept, mean) if kept.any() else kept
    return Evidence(cover, differs, enough=True)


def _from_outside(
    layout: Layout, parts: Image, seeds: Mask, deaf: Mask, evidence: Float, lab: Float
) -> Mask:
    """Connected parts that are large, go deep enough, and go on outside the face.

    Outside they need evidence, a texel that cannot tell, or, for what is very clearly there, their
    own colour.
    """
    count, labels = cv2.connectedComponents(parts, connectivity=4)
    grown = cv2.dilate(labels.astype(np.int16), layout.disc(0.05))
    rim = layout.oval & (layout.depth < 0.12 * layout.eye) & (parts > 0)
    on_rim = np.maximum(np.bincount(labels[rim], minlength=count), 1)
    colour = np.stack(
        [np.bincount(labels[rim], plane[rim], count) for plane in np.moveaxis(lab, 2, 0)]
    )
    clear = np.bincount(labels[rim], evidence[rim], count) / on_rim > 25
    alike = (np.abs(lab - (colour / on_rim).T[grown]) * [0.6, 1, 1]).sum(-1) < 12
    leaves = layout.beyond & (grown > 0) & ((parts > 0) | deaf | (alike & clear[grown]))
    touches = layout.oval & (layout.depth < 0.08 * layout.eye)
    # Slivers along the edge are landmarks that missed it.
    core = cv2.morphologyEx(parts, cv2.MORPH_OPEN, layout.disc(0.06)) > 0
    deep = core & (layout.depth > LEAST_DEPTH * layout.eye)
    keep = np.bincount(labels[deep], minlength=count) > 0
    keep &= np.bincount(labels[seeds], minlength=count) > LEAST_AREA * layout.oval.sum()
    keep &= np.bincount(grown[leaves], minlength=count) > 0.15 * layout.eye
    keep &= np.bincount(labels[touches], minlength=count) > 0.10 * layout.eye
    keep[0] = False
    return np.asarray(keep[labels])


def _filled(layout: Layout, cover: Mask, evidence: Float) -> Mask:
    """Thin offshoots cut, gaps and holes closed, mouth and eyes taken along."""
    solid = cv2.morphologyEx(cover.astype(np.uint8), cv2.MORPH_OPEN, layout.disc(0.04))
    around = _close(np.asarray(solid, np.uint8), layout.disc(0.3))
    solid = solid | (around & (layout.mobile & (evidence > WEAK)))
    solid = _close(np.asarray(solid, np.uint8), layout.disc(0.14))
    outlines, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(solid, outlines, -1, (1,), -1)
    return np.asarray(solid > 0) & layout.inside


def _close(mask: Image, element: Image) -> Image:
    """Morphological closing that does not stick to the picture's edge."""
    pad = element.shape[0]
    wide = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0,))
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, element)
    return np.ascontiguousarray(closed[pad:-pad, pad:-pad], np.uint8)
