"""A frame's light on the face: smooth over it, and held near what is usual in the segment."""

from __future__ import annotations

import numpy as np

from models.face.occlusion.arrays import Float
from models.face.occlusion.layout import Layout, View

FIT_NOISE = np.array([0.06, 2.0, 2.0])
"""Standard deviation of an observation: log of L, a, b."""

FIT_WEIGHT = 12.0
"""Independent observations that a whole face's skin is worth."""

BLACK = 8.0
"""Added to L before its logarithm is taken."""


def match_light(layout: Layout, view: View, usual: Float, light: Float) -> Float:
    """Lab of a view in the segment's usual light, [h, w, 3]: see `fit_light`."""
    return _relight(layout, view.lab, fit_light(layout, view, usual, light))


def fit_light(layout: Layout, view: View, usual: Float, light: Float) -> Float:
    """Fit the log of L's gain and a's and b's offset as quadratics over the layout, [6, 3].

    Robust least squares (weights of Geman and McClure) on skin: what covers a minority of it has
    little say.

    Args:
        layout: that the view is laid out in.
        view: of the frame.
        usual: [h, w, 3] Lab of the face in the usual light.
        light: [2, 6, 3] the usual light, and how tightly it holds: one over the variance.
    """
    at = layout.skin[view.seen.ravel()[layout.skin]]
    waves = layout.waves.reshape(-1, 6)[at].astype(np.float64)
    now, then = (plane.reshape(-1, 3)[at].astype(np.float64) for plane in (view.lab, usual))
    gap = now - then
    gap[:, 0] = np.log((now[:, 0] + BLACK) / (then[:, 0] + BLACK))
    mean, hold = light.astype(np.float64)
    found = mean.copy()
    if len(at) == 0:
        return np.asarray(found, np.float32)
    found[0] += np.median(gap - waves @ mean, axis=0)
    for _ in range(5):
        error = (gap - waves @ found) / FIT_NOISE
        weight = 1 / (1 + np.square(error).sum(1) / 2) ** 2
        weight *= FIT_WEIGHT / max(weight.sum(), 1e-9)
        weighted = waves * weight[:, None]
        normal = (waves.T @ weighted) / np.square(FIT_NOISE)[:, None, None]
        normal += np.einsum("kc,kl->ckl", hold, np.eye(6))
        right = weighted.T @ gap / np.square(FIT_NOISE) + hold * mean
        found = np.linalg.solve(normal, right.T[..., None])[..., 0].T
    return np.asarray(found, np.float32)


def _relight(layout: Layout, lab: Float, light: Float) -> Float:
    smooth = layout.waves @ light
    lit = lab - smooth
    lit[..., 0] = (lab[..., 0] + BLACK) * np.exp(-smooth[..., 0]) - BLACK
    return np.asarray(lit, np.float32)
