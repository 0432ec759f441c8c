"""`compact` on several frames at once, from bytes to bytes on one device.

What a GPU is good at: one copy in, everything there, one copy out. The network is the same as for
one frame on the CPU, and so is the cubic interpolation, which follows OpenCV's arithmetic for bytes
(weights in 1/2048, one rounding at the end). It runs on the CPU as well, for tests; there the outer
convolutions are in float32 to the last bit, while cuDNN may round their inputs to TF32, which has
float16's precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from models.upscale.network import BLOCK, correct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.upscale.network import Kernel

Part = tuple[int, int, int, int]
"""Top, left, bottom, right in input pixels."""

TAPS: Final = (-72, 536, 1800, -216)
"""OpenCV's weights in 1/2048 for a point a quarter of a pixel before the third of four pixels."""
BYTES_A_PIXEL: Final = 400
"""Device memory for an input pixel with its margin, while it is worked on. On the CPU the same work
takes 200 to 280; the rest is for cuDNN. Not measured on a GPU; out of memory halves a batch."""


def enlarge(
    frames: torch.Tensor,
    part: Part,
    scale: int,
    kernels: Sequence[Kernel],
    margin: int,
    inner: torch.dtype,
) -> torch.Tensor:
    """Enlarge the same part of several frames.

    Args:
        frames: uint8 [n, h, w, 3] on the device of the kernels.
        part: aligned as `Upscaler.upscale_part` asks.
        scale: 2, or 4 for twice 2.
        kernels: the network.
        margin: input pixels that the network looks beyond a part.
        inner: what all but the first and the last convolution calculate in.

    Returns:
        uint8 [n, (bottom - top) * scale, (right - left) * scale, 3] on the same device.
    """
    if scale == 2:
        return _double(frames, part, kernels, margin, inner)
    # The second pass sees its margin of the first one's result.
    further = -(-margin // (2 * BLOCK)) * BLOCK
    height, width = frames.shape[1:3]
    top, left = max(part[0] - further, 0), max(part[1] - further, 0)
    wider = (top, left, min(part[2] + further, height), min(part[3] + further, width))
    half = _double(frames, wider, kernels, margin, inner)
    again = (part[0] - top, part[1] - left, part[2] - top, part[3] - left)
    return _double(half, _scaled(again), kernels, margin, inner)


def _scaled(part: Part) -> Part:
    return 2 * part[0], 2 * part[1], 2 * part[2], 2 * part[3]


def _double(
    frames: torch.Tensor, part: Part, kernels: Sequence[Kernel], margin: int, inner: torch.dtype
) -> torch.Tensor:
    top, left, bottom, right = part
    window = _window(frames, part, margin)
    added = correct(_luma(window), kernels, inner).mul_(255).round_()
    tall, wide = 2 * (bottom - top), 2 * (right - left)
    out = _cubic(window, margin)[..., :tall, :wide]
    out += added[..., :tall, :wide]
    return out.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _window(frames: torch.Tensor, part: Part, margin: int) -> torch.Tensor:
    """A part in whole blocks with a margin, edges repeated: uint8 [n, 3, h, w]."""
    height, width = frames.shape[1:3]
    top, left, bottom, right = part
    bottom, right = bottom + (bottom - top) % BLOCK, right + (right - left) % BLOCK
    rows = torch.arange(top - margin, bottom + margin, device=frames.device).clamp_(0, height - 1)
    columns = torch.arange(left - margin, right + margin, device=frames.device)
    return frames[:, rows][:, :, columns.clamp_(0, width - 1)].permute(0, 3, 1, 2)


def _luma(rgb: torch.Tensor) -> torch.Tensor:
    """BT.601 luma in 0..1, summed in integers: float32 [n, 1, h, w]."""
    red, green, blue = rgb.to(torch.int32).unbind(1)
    return ((77 * red + 150 * green + 29 * blue) * (1 / 65280)).float()[:, None]


def _cubic(rgb: torch.Tensor, margin: int) -> torch.Tensor:
    """Twice the size by cubic interpolation without the margin: float32 whole code values."""
    near = rgb[:, :, margin - 2 : rgb.shape[2] - margin + 2, margin - 2 : rgb.shape[3] - margin + 2]
    across = _phases(near.float(), 3)  # whole numbers below 2^24: exact
    both = _phases(across.mul_(1 / (1 << 22)), 2)
    return both.round_().clamp_(0, 255)


def _phases(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Double an axis that reaches two pixels further on both sides, in units of 1/2048."""
    count = x.shape[axis] - 4
    before = [x.narrow(axis, first, count) for first in range(4)]
    after = [x.narrow(axis, first, count) for first in range(4, 0, -1)]
    even = sum(tap * plane for tap, plane in zip(TAPS, before, strict=True))
    odd = sum(tap * plane for tap, plane in zip(TAPS, after, strict=True))
    return torch.stack((even, odd), axis + 1).flatten(axis, axis + 1)  # type: ignore[arg-type]
