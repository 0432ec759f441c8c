"""Smooth image warps and seamless collages: the two operations that sample people are made with."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

Image = npt.NDArray[np.float32]
Points = npt.NDArray[np.float32]
Maps = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]

GRID = 16
"""Pixels between the nodes at which a displacement field is evaluated; it is smooth in between."""


def similarity(src: Points, dst: Points) -> npt.NDArray[np.float64]:
    """Fit the scale, rotation and shift that bring ``src`` onto ``dst`` (Umeyama 1991, 2D).

    Args:
        src: float32 [n, 2].
        dst: float32 [n, 2].

    Returns:
        float64 [2, 3], to be multiplied with ``[x, y, 1]``.
    """
    a, b = src.mean(0), dst.mean(0)
    p, q = (src - a).astype(np.float64), (dst - b).astype(np.float64)
    u, s, vt = np.linalg.svd(q.T @ p)
    d = np.diag([1.0, float(np.sign(np.linalg.det(u @ vt)))])
    rot = u @ d @ vt
    scale = float((s * np.diag(d)).sum() / (p**2).sum())
    lin = scale * rot
    return np.hstack([lin, (b - lin @ a)[:, None]])


def apply(matrix: npt.NDArray[np.float64], pts: Points) -> Points:
    """Transform points, float32 [n, 2], by a [2, 3] matrix."""
    return np.asarray(pts @ matrix[:, :2].T + matrix[:, 2], np.float32)


def field(dst: Points, src: Points, size: tuple[int, int], smoothing: float = 0.0) -> Maps:
    """Thin-plate-spline map that reads ``src`` where ``dst`` is to appear.

    Args:
        dst: float32 [n, 2], control points in the output.
        src: float32 [n, 2], the same points in the input.
        size: (height, width) of the output.
        smoothing: 0 interpolates exactly; more trades exactness for smoothness.

    Returns:
        x and y coordinates to sample at, float32 [h, w] each.
    """
    h, w = size
    gx = np.arange(0, w + GRID, GRID, dtype=np.float64)
    gy = np.arange(0, h + GRID, GRID, dtype=np.float64)
    nodes = np.stack(np.meshgrid(gx, gy), -1).reshape(-1, 2)
    spline = RBFInterpolator(dst, src - dst, kernel="thin_plate_spline", smoothing=smoothing)
    coarse = spline(nodes).astype(np.float32).reshape(len(gy), len(gx), 2)
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    d = cv2.remap(coarse, xx / GRID, yy / GRID, cv2.INTER_LINEAR)
    return xx + d[..., 0], yy + d[..., 1]


def sample(image: Image, maps: Maps, empty_outside: bool = False) -> Image:
    """Read an image through the maps of `field`, bicubic.

    Args:
        image: float32 [h, w] or [h, w, c].
        maps: where to read.
        empty_outside: 0 beyond the edges, for masks; else the picture is mirrored there.
    """
    border = cv2.BORDER_CONSTANT if empty_outside else cv2.BORDER_REFLECT
    return np.asarray(cv2.remap(image, *maps, cv2.INTER_CUBIC, borderMode=border), np.float32)


def polygon(
    pts: Points | Sequence[tuple[float, float]], size: tuple[int, int], feather: float
) -> npt.NDArray[np.float32]:
    """Soft mask of a polygon, float32 [h, w] in 0..1; ``feather`` is the blur's sigma in pixels."""
    mask = np.zeros(size, np.uint8)
    scaled = np.round(np.asarray(pts, np.float32) * 16).astype(np.int32)
    cv2.fillPoly(mask, [scaled], 255, cv2.LINE_AA, 4)
    soft = mask.astype(np.float32) / 255
    return blur(soft, feather) if feather > 0 else soft


def blur(image: Image, sigma: float) -> Image:
    """Gaussian blur; wide ones run on a reduced image, which looks the same and costs little."""
    if sigma > 12:
        k = int(sigma / 5)
        h, w = image.shape[:2]
        small = cv2.resize(image, (max(w // k, 1), max(h // k, 1)), interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / k)
        return np.asarray(cv2.resize(small, (w, h), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def masked_blur(image: Image, mask: npt.NDArray[np.float32], sigma: float) -> Image:
    """Blur that only averages where ``mask`` is, and extends that outwards."""
    m = mask[..., None] if image.ndim == 3 else mask
    den = blur(mask, sigma) + 1e-4
    return blur(np.asarray(image * m, np.float32), sigma) / (
        den[..., None] if image.ndim == 3 else den
    )


def collage(base: Image, top: Image, mask: npt.NDArray[np.float32], levels: int = 5) -> Image:
    """Join two pictures in a Laplacian pyramid, so that no seam shows (Burt and Adelson 1983).

    Args:
        base: float32 [h, w, 3].
        top: float32 [h, w, 3], seen where the mask is 1.
        mask: float32 [h, w], 0..1.
        levels: octaves; the coarsest decides how far colours mix.
    """
    h, w = base.shape[:2]
    step = 1 << levels
    pad = ((0, -h % step), (0, -w % step))
    a = np.pad(base, (*pad, (0, 0)), mode="edge")
    b = np.pad(top, (*pad, (0, 0)), mode="edge")
    m = np.pad(mask, pad, mode="edge")
    bands: list[Image] = []
    for _ in range(levels):
        a2, b2, m2 = cv2.pyrDown(a), cv2.pyrDown(b), cv2.pyrDown(m)
        la, lb = a - cv2.pyrUp(a2), b - cv2.pyrUp(b2)
        bands.append(la + (lb - la) * m[..., None])
        a, b, m = a2, b2, m2
    out = a + (b - a) * m[..., None]
    for band in reversed(bands):
        out = cv2.pyrUp(out) + band
    return np.asarray(out[:h, :w], np.float32)


def over(base: Image, top: Image, alpha: npt.NDArray[np.float32]) -> Image:
    """Plain alpha composite of ``top`` over ``base``."""
    return np.asarray(base + (top - base) * alpha[..., None], np.float32)
