"""How near an enlarged picture comes to the one that was made small."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

BORDER: Final = 8
"""Outer pixels that are left out: what an upscaler sees beyond the edge is its own affair."""
LUMA: Final = (0.299, 0.587, 0.114)


def fidelity(sharp: NDArray[np.uint8], found: NDArray[np.uint8]) -> dict[str, float]:
    """Compare two pictures.

    Args:
        sharp: uint8 [h, w, 3] RGB, the original; sides above twice ``BORDER`` and 11 pixels.
        found: uint8 [h, w, 3] RGB, what was made of the small one.

    Returns:
        ``psnr_y``: dB, on BT.601 luma, the convention of the super-resolution literature.
        ``psnr_rgb``: dB. ``ssim_y``: -1 to 1, on luma, with the Gaussian window of Wang et al.
        (2004), as scikit-image has it.
    """
    inner = slice(BORDER, -BORDER)
    a, b = sharp[inner, inner].astype(np.float64), found[inner, inner].astype(np.float64)
    luma_a, luma_b = a @ np.array(LUMA), b @ np.array(LUMA)
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    ssim: float = structural_similarity(luma_a, luma_b, data_range=255, **gaussian)  # type: ignore[no-untyped-call]
    return {"psnr_y": psnr(luma_a, luma_b), "psnr_rgb": psnr(a, b), "ssim_y": float(ssim)}


def psnr(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255."""
    return float(10 * np.log10(255**2 / max(float(np.mean((a - b) ** 2)), 1e-9)))
