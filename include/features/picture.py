"""What a picture looks like in figures: light, colour, sharpness, noise, traces of compression.

Every figure is of one picture; a video's are the medians over sampled frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
F32 = NDArray[np.float32]
Figures = dict[str, float | None]

COLOUR_WIDTH, SHARPNESS_WIDTH = 320, 640
"""Pixels of width at which colour and sharpness are measured, so that size does not matter."""
NATIVE_SIDE = 768
"""Noise and blockiness are looked at pixel by pixel: of a larger picture, in its middle."""
BLACK = 24
"""Luma up to which a row at the border may be a letterbox bar: limited-range black and noise."""

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_TO_XYZ = np.array(
    [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], np.float64
)


def measure_picture(rgb: Image) -> Figures:
    """Measure one picture: the features that the catalogue lists for all pictures.

    Args:
        rgb: uint8 [h, w, 3], sRGB, at least 16 pixels a side.
    """
    small = _at_width(rgb, COLOUR_WIDTH)
    luma = small.astype(np.float32) @ _LUMA
    native = _middle(rgb)
    grey = native.astype(np.float32) @ _LUMA
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return {
        "luma": float(luma.mean()),
        "contrast": float(luma.std()),
        "saturation": float(cv2.cvtColor(small, cv2.COLOR_RGB2HSV)[..., 1].mean() / 255),
        "colour_temperature": colour_temperature(small),
        "tint": float(lab[..., 1].mean()),
        "warmth": float(lab[..., 2].mean()),
        "blur": blur(_at_width(rgb, SHARPNESS_WIDTH).astype(np.float32) @ _LUMA),
        "noise": noise(grey),
        "blockiness": blockiness(_middle(rgb, 8).astype(np.float32) @ _LUMA),
    }


def median_of(measured: Iterable[Mapping[str, float | None]]) -> Figures:
    """The median of each figure over several pictures; null where it is null for all of them."""
    rows = list(measured)
    known = {name: [v for row in rows if (v := row[name]) is not None] for name in rows[0]}
    return {name: float(np.median(values)) if values else None for name, values in known.items()}


def colour_temperature(rgb: Image) -> float:
    """Correlated colour temperature of a picture's mean light, kelvin.

    McCamy, "Correlated color temperature as an explicit function of chromaticity coordinates",
    Color Research and Application 17(2), 1992. Kept within 1,667 to 25,000, where it means
    something; a neutral picture has 6,500.
    """
    linear = _linear(rgb.reshape(-1, 3)).mean(0)
    x, y, z = _TO_XYZ @ (linear + 1e-6)
    total = x + y + z
    n = (x / total - 0.3320) / (0.1858 - y / total)
    kelvin = 449.0 * n**3 + 3525.0 * n**2 + 6823.3 * n + 5520.33
    return float(np.clip(kelvin, 1667.0, 25_000.0))


def _linear(rgb: Image) -> NDArray[np.float64]:
    table = np.arange(256) / 255
    curve = np.where(table <= 0.04045, table / 12.92, ((table + 0.055) / 1.055) ** 2.4)
    return np.asarray(curve[rgb], np.float64)


def blur(grey: F32) -> float:
    """How blurred a picture is: 0 sharp, 1 fully blurred.

    Crete et al., "The blur effect: perception and estimation with a new no-reference perceptual
    blur metric", SPIE 6492, 2007: a sharp picture loses much of its variation when it is blurred
    again, a blurred one does not. The worse of both directions; 1 for a picture without variation.

    Args:
        grey: float32 [h, w].
    """
    worst = 0.0
    for axis in (0, 1):
        size = (9, 1) if axis else (1, 9)
        again = cv2.blur(grey, size)
        before = np.abs(np.diff(grey, axis=axis))
        lost = np.maximum(0.0, before - np.abs(np.diff(again, axis=axis)))
        total = float(before.sum())
        worst = max(worst, (total - float(lost.sum())) / total if total > 0 else 1.0)
    return worst


def noise(grey: F32) -> float:
    """Standard deviation of noise in code values, on the calmer half of the picture.

    Immerkaer, "Fast noise variance estimation", CVIU 64(2), 1996; edges left out as Tai and Yang
    proposed (2008), because their Laplacian is no noise.

    Args:
        grey: float32 [h, w], 0 to 255.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    answer = np.abs(cv2.filter2D(grey, cv2.CV_32F, mask))[1:-1, 1:-1]
    smooth = cv2.blur(grey, (5, 5))  # else the noise itself would say where the picture is calm
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    steep = (np.abs(across) + np.abs(down))[1:-1, 1:-1]
    calm = answer[steep <= np.median(steep)]
    return float(np.sqrt(np.pi / 2) / 6 * calm.mean()) if calm.size else 0.0


def blockiness(grey: F32) -> float:
    """Steps across the borders of 8x8 blocks over steps elsewhere: 1 without blocks.

    Wang, Bovik and Evans, "Blind measurement of blocking artifacts in images", ICIP 2000, in its
    plain form.

    Args:
        grey: float32 [h, w], its corner on the corner of a block.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
        border = np.arange(len(steps)) % 8 == 7
        elsewhere = float(steps[~border].mean())
        if border.any() and elsewhere > 0:
            ratios.append(float(steps[border].mean()) / elsewhere)
    return float(np.mean(ratios)) if ratios else 1.0


def letterbox(frames: Iterable[Image]) -> float:
    """Share of the picture that is covered by black bars in every frame, 0 to 1.

    Args:
        frames: uint8 RGB [h, w, 3] each, of one size. All black counts as no bar.
    """
    brightest: Image | None = None
    for frame in frames:
        most = frame.max(axis=2)
        brightest = most if brightest is None else np.maximum(brightest, most)
    if brightest is None or brightest.max() <= BLACK:
        return 0.0
    # A few pixels of noise or ringing must not hide a bar.
    rows = np.percentile(brightest, 98, axis=1) > BLACK
    columns = np.percentile(brightest, 98, axis=0) > BLACK
    kept = 1.0
    for lit in (rows, columns):
        if lit.any():
            first, last = np.flatnonzero(lit)[[0, -1]]
            kept *= (last - first + 1) / len(lit)
    return float(1 - kept)


def _at_width(rgb: Image, width: int) -> Image:
    if rgb.shape[1] <= width:
        return rgb
    size = (width, max(16, round(rgb.shape[0] * width / rgb.shape[1])))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _middle(rgb: Image, grid: int = 1) -> Image:
    """The middle of a large picture, its corner on a grid."""
    height, width = rgb.shape[:2]
    y = max(0, height - NATIVE_SIDE) // 2 // grid * grid
    x = max(0, width - NATIVE_SIDE) // 2 // grid * grid
    return rgb[y : y + NATIVE_SIDE, x : x + NATIVE_SIDE]
