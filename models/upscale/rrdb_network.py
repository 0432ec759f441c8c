"""RRDBNet (ESRGAN: Wang et al., ECCV 2018 workshops), evaluated a few rows at a time.

The published network is one deep stack over the whole picture. Here every part of it receives rows
as they come, keeps the few that its next rows need, and hands on what is finished, so that memory
grows with the picture's width and not with its height, and every pixel is made once, from the same
sums as in the whole picture. Around the picture each convolution sees zeros, as published.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from models.upscale.rrdb_file import Kernel, Parameters

SLOPE: Final = 0.2
"""Of the leaky rectifier below zero."""
RESIDUAL: Final = 0.2
"""What a block's result is scaled by before it is added to its input."""
STRIP: Final = 16_384
"""Input pixels to push into the trunk at a time."""
FINE: Final = 65_536
"""Output pixels to make at a time: the last convolutions work on all features of each."""
LEAST_ROWS: Final = 4

Rows = torch.Tensor
"""Float [1, channels, rows, width], channels last in memory."""


class Network:
    """The network on one device.

    Args:
        parameters: its convolutions.
        device: where to compute.
    """

    def __init__(self, parameters: Parameters, device: torch.device) -> None:
        def place(kernel: Kernel) -> Kernel:
            weight = kernel[0].to(device, memory_format=torch.channels_last)
            return weight, kernel[1].to(device)

        self.scale = parameters.scale
        self.unshuffle = parameters.unshuffle
        self._doublings = len(parameters.ups)
        self._device = device
        self._first = place(parameters.first)
        self._blocks = [
            [[place(kernel) for kernel in dense] for dense in block] for block in parameters.blocks
        ]
        self._body = place(parameters.body)
        self._ups = [place(kernel) for kernel in parameters.ups]
        self._hr, self._last = place(parameters.hr), place(parameters.last)

    @property
    def radius(self) -> int:
        """How far an output pixel can look in theory, in input pixels."""
        trunk = 2 + 15 * len(self._blocks)
        tail = 2  # 1/2 + 2/2 after one doubling, 1/2 + 1/4 + 2/4 after two, rounded up
        return (trunk + tail) * self.unshuffle + self.unshuffle - 1

    def strips(self, picture: torch.Tensor) -> Iterator[torch.Tensor]:
        """Enlarge a picture.

        Args:
            picture: float [1, 3, h, w] in 0..1 on the network's device; h and w are multiples of
                ``unshuffle``.

        Yields:
            float [1, 3, rows, w * scale] from the top, h * scale rows in all; not clipped.
        """
        x = F.pixel_unshuffle(picture, self.unshuffle) if self.unshuffle > 1 else picture
        height, width = x.shape[2:]
        trunk, tail = self._trunk(), self._tail()
        rows = max(LEAST_ROWS, STRIP // width)
        fine = max(LEAST_ROWS, FINE // (width * 4**self._doublings))
        for top in range(0, height, rows):
            strip = x[:, :, top : top + rows].contiguous(memory_format=torch.channels_last)
            done = trunk.push(strip, top + rows >= height)
            if done is None:
                continue
            for start in range(0, done.shape[2], fine):
                part = done[:, :, start : start + fine]
                last = top + rows >= height and start + fine >= done.shape[2]
                made = tail.push(part, last)
                if made is not None:
                    yield made

    def _trunk(self) -> _Part:
        blocks = [
            _Add(_Chain([_Window(5, _Dense(dense)) for dense in block]), RESIDUAL)
            for block in self._blocks
        ]
        deep = _Chain([*blocks, _Window(1, _Conv(self._body))])
        return _Chain([_Window(1, _Conv(self._first)), _Add(deep, 1.0)])

    def _tail(self) -> _Part:
        ups: list[_Part] = []
        for up in self._ups:
            ups += [_Double(), _Window(1, _Conv(up, leaky=True))]
        return _Chain(
            [*ups, _Window(1, _Conv(self._hr, leaky=True)), _Window(1, _Conv(self._last))]
        )


class _Part(ABC):
    """Something that rows pass through from top to bottom, once."""

    @abstractmethod
    def push(self, rows: Rows, last: bool) -> Rows | None:
        """Take the next rows; give those that are finished, with the last rows all the rest."""


class _Chain(_Part):
    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts

    def push(self, rows: Rows, last: bool) -> Rows | None:
        done: Rows | None = rows
        for part in self._parts:
            if done is None:
                return None
            done = part.push(done, last)
        return done


class _Window(_Part):
    """Runs a function of ``radius`` rows around each row, with zeros above and below the picture.

    The function pads with zeros wherever its input ends, so up to ``radius`` rows at an inner edge
    come out wrong; they are cut off and made again with the next rows.
    """

    def __init__(self, radius: int, function: _Function) -> None:
        self._radius, self._function = radius, function
        self._held: Rows | None = None
        self._above = 0
        """Rows held only because the next ones look at them."""

    def push(self, rows: Rows, last: bool) -> Rows | None:
        held = _join(self._held, rows)
        ready = held.shape[2] - (0 if last else self._radius)
        if ready <= self._above:
            self._held = held
            return None
        made = self._function(held)[:, :, self._above : ready]
        keep = max(0, ready - self._radius)
        self._held, self._above = held[:, :, keep:], ready - keep
        return made


class _Add(_Part):
    """Adds what comes out of a part, scaled, to what went in."""

    def __init__(self, part: _Part, weight: float) -> None:
        self._part, self._weight = part, weight
        self._held: Rows | None = None

    def push(self, rows: Rows, last: bool) -> Rows | None:
        held = _join(self._held, rows)
        made = self._part.push(rows, last)
        count = 0 if made is None else made.shape[2]
        self._held = held[:, :, count:]
        return None if made is None else torch.add(held[:, :, :count], made, alpha=self._weight)


class _Double(_Part):
    """Repeats every pixel twice along each side."""

    def push(self, rows: Rows, last: bool) -> Rows | None:
        return F.interpolate(rows, scale_factor=2.0, mode="nearest")


class _Function(ABC):
    @abstractmethod
    def __call__(self, rows: Rows) -> Rows: ...


class _Conv(_Function):
    """One convolution, padded with zeros, and its rectifier."""

    def __init__(self, kernel: Kernel, *, leaky: bool = False) -> None:
        self._kernel, self._leaky = kernel, leaky

    def __call__(self, rows: Rows) -> Rows:
        made = _conv(rows, self._kernel)
        return F.leaky_relu_(made, SLOPE) if self._leaky else made


class _Dense(_Function):
    """A dense block: each convolution sees the input and all results before its own."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._kernels = kernels

    def __call__(self, rows: Rows) -> Rows:
        seen = rows
        for kernel in self._kernels[:-1]:
            seen = torch.cat((seen, F.leaky_relu_(_conv(seen, kernel), SLOPE)), 1)
        return torch.add(rows, _conv(seen, self._kernels[-1]), alpha=RESIDUAL)


def _conv(rows: Rows, kernel: Kernel) -> Rows:
    if rows.is_cuda:
        return F.conv2d(rows, *kernel, padding=1)
    # `conv2d` takes another algorithm for small inputs, which rounds differently: name this one.
    return torch.mkldnn_convolution(rows, *kernel, (1, 1), (1, 1), (1, 1), 1)


def _join(held: Rows | None, rows: Rows) -> Rows:
    return rows if held is None or not held.shape[2] else torch.cat((held, rows), 2)
