"""OpenCV's picture operations on batches of planes, wherever PyTorch computes.

Each gives what its namesake gives for one plane, but for the rounding of fixed-point arithmetic.
Planes are float32 [n, channels, h, w].
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def gaussian(planes: Tensor, sigma: float) -> Tensor:
    """``cv2.GaussianBlur`` of float32 with a kernel of its own choosing, borders reflected."""
    size = round(sigma * 8 + 1) | 1
    at = torch.arange(size, dtype=torch.float32, device=planes.device) - size // 2
    weights = torch.exp(-at.square() / (2 * sigma * sigma))
    return _separable(planes, weights / weights.sum())


def pyr_down(planes: Tensor) -> Tensor:
    """``cv2.pyrDown``: a 5-tap blur, then every second pixel."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=planes.device) / 16
    return _separable(planes, taps)[..., ::2, ::2]


def _separable(planes: Tensor, taps: Tensor) -> Tensor:
    count, channels, height, width = planes.shape
    reach = len(taps) // 2
    flat = planes.reshape(count * channels, 1, height, width)
    rows = _reflected(height, reach, planes.device)
    columns = _reflected(width, reach, planes.device)
    flat = functional.conv2d(flat[:, :, rows], taps.view(1, 1, -1, 1))
    flat = functional.conv2d(flat[..., columns], taps.view(1, 1, 1, -1))
    return flat.reshape(count, channels, height, width)


def _reflected(length: int, reach: int, device: torch.device) -> Tensor:
    """Indices of a line and its reflection to both sides (BORDER_REFLECT_101)."""
    at = torch.arange(-reach, length + reach, device=device)
    if length == 1:
        return torch.zeros_like(at)
    period = 2 * (length - 1)
    at = at.remainder(period)
    return torch.where(at < length, at, period - at)


def median5(planes: Tensor) -> Tensor:
    """``cv2.medianBlur`` over 5x5 pixels, borders repeated."""
    count, channels, height, width = planes.shape
    padded = functional.pad(planes, (2, 2, 2, 2), mode="replicate")
    around = padded.unfold(2, 5, 1).unfold(3, 5, 1)
    return around.reshape(count, channels, height, width, 25).median(-1).values


def resize(planes: Tensor, height: int, width: int) -> Tensor:
    """``cv2.resize``, bilinear."""
    return functional.interpolate(planes, (height, width), mode="bilinear", align_corners=False)


def area(planes: Tensor, height: int, width: int) -> Tensor:
    """``cv2.resize`` with INTER_AREA, to fewer pixels: means over fractions of pixels."""
    rows = _shares(planes.shape[2], height).to(planes.device)
    columns = _shares(planes.shape[3], width).to(planes.device)
    return rows @ planes @ columns.T


@lru_cache(maxsize=64)
def _shares(length: int, parts: int) -> Tensor:
    """How much of each pixel of a line lies in each part of it: float32 [parts, length]."""
    edges = np.arange(parts + 1) * (length / parts)
    pixels = np.arange(length)
    low = np.maximum(edges[:-1, None], pixels[None])
    high = np.minimum(edges[1:, None], pixels[None] + 1)
    inside = np.clip(high - low, 0, None)
    return torch.from_numpy((inside / inside.sum(1, keepdims=True)).astype(np.float32))


def nearest(planes: Tensor, height: int, width: int) -> Tensor:
    """``cv2.resize`` with INTER_NEAREST."""
    rows = _nearest(planes.shape[2], height, planes.device)
    columns = _nearest(planes.shape[3], width, planes.device)
    return planes[:, :, rows][..., columns]


def _nearest(length: int, parts: int, device: torch.device) -> Tensor:
    at = torch.arange(parts, device=device, dtype=torch.float64) * (length / parts)
    return at.floor().long().clamp(max=length - 1)


def remap(picture: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``cv2.remap``, bilinear, 0 beyond the border.

    Args:
        picture: float32 [1, channels, h, w]; the same for all of the batch.
        x: float32 [n, h', w'] where to look, pixels.
        y: the same.

    Returns:
        float32 [n, channels, h', w'].
    """
    height, width = picture.shape[2:]
    grid = torch.stack((2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), -1)
    shared = picture.expand(len(x), -1, -1, -1)
    return functional.grid_sample(
        shared, grid.clamp(-4, 4), mode="bilinear", padding_mode="zeros", align_corners=True
    )


def grow(labels: Tensor, cells: int) -> Tensor:
    """Continue labels [n, h, w] into the empty (0) cells around them; the highest wins."""
    spread = functional.max_pool2d(labels[:, None].float(), 2 * cells + 1, 1, cells)[:, 0]
    return torch.where(labels > 0, labels, spread.to(labels.dtype))


def pull_push(values: Tensor, weight: Tensor) -> Tensor:
    """Fill in values [n, c, h, w] from where their weight [n, 1, h, w] is high, smoothly."""
    stack = [(values * weight, weight)]
    while min(stack[-1][1].shape[2:]) > 2:
        stack.append((pyr_down(stack[-1][0]), pyr_down(stack[-1][1])))
    v, w = stack[-1]
    filled = v / (w + 1e-6)
    for v, w in reversed(stack[:-1]):
        up = resize(filled, w.shape[2], w.shape[3])
        own = (w * 4).clamp(0, 1)
        filled = own * v / (w + 1e-6) + (1 - own) * up
    return gaussian(filled, 1.5)
