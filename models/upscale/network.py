"""The network behind `compact`: its inference form and its training form.

It sees luma only and predicts the four luma corrections of each pixel's 2x2 output pixels, on top
of cubic interpolation (sub-pixel convolution: Shi et al., CVPR 2016). Convolutions are not padded:
the caller brings a margin, so that nothing depends on where a window was cut.

In training every convolution is an over-parameterised linear block (wide 3x3, then 1x1, plus a
fixed kernel) that is collapsed into one 3x3 kernel before it is applied (Bhardwaj et al.,
"Collapsible Linear Blocks for Super-Efficient Super Resolution", MLSys 2022), so that inference
costs the same as without it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

Kernel = tuple[torch.Tensor, torch.Tensor]
"""Weight [out, in, 3, 3] and bias [out] of one convolution."""


def correct(luma: torch.Tensor, kernels: Sequence[Kernel]) -> torch.Tensor:
    """Predict what to add to the cubic interpolation of a luma image.

    Args:
        luma: float [n, 1, h + 2 m, w + 2 m] in 0..1, contiguous; m is the `margin` of the kernels.
        kernels: the convolutions; what the last one gives beyond four channels is left out.

    Returns:
        float [n, 1, 2 h, 2 w], in the same unit.
    """
    # With one channel the strides leave the layout open; these name it channels-last, or the first
    # convolution answers in the other layout and the second spends its time converting.
    height, width = luma.shape[2:]
    x = luma.as_strided(luma.shape, (height * width, 1, width, 1))
    last = len(kernels) - 1
    for index, (weight, bias) in enumerate(kernels):
        x = F.conv2d(x, weight, bias)
        if index < last:
            x = F.relu_(x)
    return F.pixel_shuffle(x[:, :4], 2)


def margin(kernels: Sequence[object]) -> int:
    """Input pixels on each side that `correct` consumes: one for each 3x3 convolution."""
    return len(kernels)


class Collapsible(nn.Module):
    """A linear block that trains wide and runs as one 3x3 convolution.

    Args:
        weight: [out, in, 3, 3], the kernel that the trained part is added to.
        bias: [out], where the bias starts.
        expansion: channels between the wide convolution and the 1x1.
        gain: standard deviation of the added kernel at the start, in units of He's.
    """

    weight: torch.Tensor

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, expansion: int, gain: float
    ) -> None:
        super().__init__()
        outputs, inputs = weight.shape[:2]
        self.register_buffer("weight", weight.detach().clone())
        self.wide = nn.Parameter(torch.empty(expansion, inputs, 3, 3))
        self.narrow = nn.Parameter(torch.empty(outputs, expansion))
        self.bias = nn.Parameter(bias.detach().clone())
        nn.init.normal_(self.wide, std=(2 / (9 * inputs)) ** 0.5)
        nn.init.normal_(self.narrow, std=gain * expansion**-0.5)

    def collapse(self) -> Kernel:
        """Return the equal 3x3 kernel; differentiable."""
        weight = self.weight + torch.einsum("oe,eikl->oikl", self.narrow, self.wide)
        return weight.contiguous(memory_format=torch.channels_last), self.bias


class TrainedForm(nn.Module):
    """The network while it learns; `kernels` gives what is kept.

    Args:
        blocks: its convolutions in order, from `fresh` or `resumed`.
    """

    def __init__(self, blocks: Sequence[Collapsible]) -> None:
        super().__init__()
        self._blocks = list(blocks)
        self.registered = nn.ModuleList(self._blocks)

    @classmethod
    def fresh(cls, width: int, depth: int, expansion: int = 128) -> TrainedForm:
        """Start near plain cubic interpolation, inner convolutions near identity."""
        channels = [1] + [width] * (depth - 1) + [4]
        blocks = []
        for index, (inputs, outputs) in enumerate(pairwise(channels)):
            kernel = torch.zeros(outputs, inputs, 3, 3)
            if inputs == outputs:
                nn.init.dirac_(kernel)
            gain = 0.1 if index == depth - 1 else 0.5 if inputs == outputs else 1.0
            blocks.append(Collapsible(kernel, torch.zeros(outputs), expansion, gain))
        return cls(blocks)

    @classmethod
    def resumed(cls, kernels: Sequence[Kernel], expansion: int = 128) -> TrainedForm:
        """Start from trained kernels exactly."""
        return cls([Collapsible(weight, bias, expansion, 0.0) for weight, bias in kernels])

    def kernels(self) -> list[Kernel]:
        """Collapse every block; differentiable."""
        return [block.collapse() for block in self._blocks]
