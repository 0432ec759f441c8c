"""The network behind `compact`: plain 3x3 convolutions on luma at half the input's resolution.

Each 2x2 block of input pixels becomes one position with four channels, and each position predicts
the 4x4 luma corrections of its output pixels, on top of cubic interpolation (sub-pixel convolution,
Shi et al., CVPR 2016; the folded input as in FFDNet, Zhang et al., 2018). For the time of a network
at full resolution this one has four times the weights and looks twice as far. Convolutions are not
padded: the caller brings a margin, so that nothing depends on where a window was cut, as long as
it was cut between blocks.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

Kernel = tuple[torch.Tensor, torch.Tensor]
"""Weight [out, in, 3, 3] and bias [out] of one convolution."""

BLOCK: Final = 2
"""Side of the blocks of input pixels that share a position."""
SLOPE: Final = 0.1
"""Of the activation below zero: with none, whole networks died at the start of training."""


def correct(
    luma: torch.Tensor, kernels: Sequence[Kernel], inner: torch.dtype = torch.float32
) -> torch.Tensor:
    """Predict what to add to the cubic interpolation of a luma image.

    Args:
        luma: float32 [n, 1, h + 2 m, w + 2 m] in 0..1, h and w even; m is the `margin`.
        kernels: the convolutions.
        inner: what all but the first and the last convolution calculate in.

    Returns:
        float32 [n, 1, 2 h, 2 w], in the same unit.
    """
    x = F.pixel_unshuffle(luma - 0.5, BLOCK).contiguous(memory_format=torch.channels_last)
    last = len(kernels) - 1
    for index, (weight, bias) in enumerate(kernels):
        kind = inner if 0 < index < last else torch.float32
        x = F.conv2d(x.to(kind), weight.to(kind), bias.to(kind))
        if index < last:
            x = F.leaky_relu_(x, SLOPE)
    return F.pixel_shuffle(x, 2 * BLOCK)


def margin(kernels: Sequence[object]) -> int:
    """Input pixels on each side that `correct` consumes: one block for each 3x3 convolution."""
    return BLOCK * len(kernels)


def fresh(width: int, depth: int) -> list[Kernel]:
    """Draw kernels to start learning from: inner ones near identity, the last one near nothing.

    Args:
        width: channels between convolutions.
        depth: number of convolutions.
    """
    channels = [BLOCK**2] + [width] * (depth - 1) + [(2 * BLOCK) ** 2]
    kernels = []
    for index, (inputs, outputs) in enumerate(pairwise(channels)):
        identity = inputs == outputs
        gain = 0.1 if index == depth - 1 else 0.5 if identity else 1.0
        weight = gain * (2 / (9 * inputs)) ** 0.5 * torch.randn(outputs, inputs, 3, 3)
        if identity:
            weight += torch.nn.init.dirac_(torch.empty_like(weight))
        kernels.append((weight, torch.zeros(outputs)))
    return kernels


def grow(kernels: Sequence[Kernel], width: int, depth: int) -> list[Kernel]:
    """Widen and deepen learnt kernels: predictions hardly change, but there is more to learn.

    New channels are drawn as in `fresh`, and nobody listens to them yet; new convolutions go before
    the last and pass on what they get (Net2Net, Chen et al., ICLR 2016).

    Args:
        kernels: the learnt ones; left alone.
        width: channels, at least as many as there are.
        depth: number of convolutions, at least as many as there are.

    Raises:
        ValueError: the kernels are wider or deeper already.
    """
    new = fresh(width, depth)
    if depth < len(kernels) or width < len(kernels[0][1]):
        raise ValueError(f"{len(kernels)} convolutions of {len(kernels[0][1])} channels do not fit")
    added = depth - len(kernels)
    places = [*range(len(kernels) - 1), depth - 1]
    for place, (weight, bias) in zip(places, kernels, strict=True):
        outputs, inputs = weight.shape[:2]
        new[place][0][:outputs, inputs:] = 0
        new[place][0][:outputs, :inputs] = weight
        new[place][1][:outputs] = bias
    for place in range(depth - 1 - added, depth - 1):
        weight = new[place][0]
        weight.mul_(0.1)
        weight[:, :, 1, 1] += 0.9 * torch.eye(width)
    return new
