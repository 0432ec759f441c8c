"""RRDBNet (ESRGAN: Wang et al., ECCV 2018 workshops), evaluated a few rows at a time.

The published network is one deep stack over the whole picture. Here every part of it receives rows
as they come, keeps the few that its next rows need, and hands on what is finished, so that memory
grows with the picture's width and not with its height, and every pixel is made once, from the same
sums as in the whole picture. Around the picture each convolution sees zeros, as published.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
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
TAIL: Final = 2
"""Radius of what follows the trunk: 1/2 + 2/2 pixels after one doubling, 1/2 + 1/4 + 2/4 after two,
rounded up."""

Rows = torch.Tensor
"""Float [n, channels, rows, width], channels last in memory."""


class Network:
    """The network on one device.

    Args:
        parameters: its convolutions.
        device: where to compute.
        kind: what to compute in.
    """

    def __init__(
        self, parameters: Parameters, device: torch.device, kind: torch.dtype = torch.float32
    ) -> None:
        def place(kernel: Kernel) -> Kernel:
            weight = kernel[0].to(device, kind, memory_format=torch.channels_last)
            return weight, kernel[1].to(device, kind)

        self._kind = kind

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
        return (trunk + TAIL) * self.unshuffle + self.unshuffle - 1

    def bytes_a_picture(self, height: int, width: int) -> int:
        """Roughly what a picture takes of the device while it is worked on, its result included.

        Counted, not measured: rows that windows and sums hold back, a strip with the channels of a
        dense block in three copies, and the last convolutions at the output's size.
        """
        features, grown = self._first[0].shape[0], self._blocks[0][0][-1][0].shape[1]
        wide = -(-width // self.unshuffle)
        held = len(self._blocks) * (3 * 10 + 15) * wide * features
        strip = 3 * max(STRIP, LEAST_ROWS * wide) * grown
        tail = 4 * max(FINE, LEAST_ROWS * self.scale * width) * features
        bytes_each = torch.finfo(self._kind).bits // 8
        return (held + strip + tail) * bytes_each + 3 * height * width * (5 + self.scale**2)

    def strips(self, picture: torch.Tensor) -> Iterator[torch.Tensor]:
        """Enlarge pictures.

        Args:
            picture: float32 [n, 3, h, w] in 0..1 on the network's device; h and w are multiples of
                ``unshuffle``.

        Yields:
            float32 [n, 3, rows, w * scale] from the top, h * scale rows in all; not clipped.
        """
        picture = picture.to(self._kind)
        x = F.pixel_unshuffle(picture, self.unshuffle) if self.unshuffle > 1 else picture
        height, width = x.shape[2:]
        tail = self._tail(height)
        fine = max(LEAST_ROWS, FINE // (width * 4**self._doublings))
        done = 0
        for strip in self._deep(x):
            for start in range(0, strip.shape[2], fine):
                part = strip[:, :, start : start + fine]
                done += part.shape[2]
                made, _ = tail.push(part, done if done < height else height + TAIL)
                if made is not None:
                    yield made.float()

    def _deep(self, x: torch.Tensor) -> Iterator[Rows]:
        """Run the trunk; features of the picture's rows from the top."""
        height, width = x.shape[2:]
        rows = max(LEAST_ROWS, STRIP // width)
        trunk = self._trunk(height)
        depth = 2 + 15 * len(self._blocks)
        # After its last row the picture goes on with nothing, so that what is still under way comes
        # out a strip at a time too.
        for top in range(0, height + depth, rows):
            strip = x[:, :, top : top + rows].contiguous(memory_format=torch.channels_last)
            made, _ = trunk.push(strip if strip.shape[2] else None, top + rows)
            if made is not None:
                yield made

    def _trunk(self, height: int) -> _Part:
        deep: list[_Part] = []
        for block in self._blocks:
            parts = [_Window(5, _Dense(dense), height) for dense in block]
            deep.append(_Add(_Chain(parts), RESIDUAL))
        deep.append(_Window(1, _Conv(self._body), height))
        return _Chain([_Window(1, _Conv(self._first), height), _Add(_Chain(deep), 1.0)])

    def _tail(self, height: int) -> _Part:
        parts: list[_Part] = []
        for up in self._ups:
            height *= 2
            parts += [_Double(), _Window(1, _Conv(up, leaky=True), height)]
        parts += [_Window(1, _Conv(self._hr, leaky=True), height)]
        return _Chain([*parts, _Window(1, _Conv(self._last), height)])


class _Part(ABC):
    """Something that rows pass through from top to bottom, once."""

    @abstractmethod
    def push(self, rows: Rows | None, until: int) -> tuple[Rows | None, int]:
        """Take the next rows and give those that are finished.

        Args:
            rows: what follows the rows before; ``None`` for none.
            until: rows pushed so far; more than the picture has where it has ended.

        Returns:
            Finished rows, and how many there are so far, counted in the same way.
        """


class _Chain(_Part):
    def __init__(self, parts: Sequence[_Part]) -> None:
        self._parts = parts

    def push(self, rows: Rows | None, until: int) -> tuple[Rows | None, int]:
        for part in self._parts:
            rows, until = part.push(rows, until)
        return rows, until


class _Window(_Part):
    """Runs a function of ``radius`` rows around each row, with zeros above and below the picture.

    The function pads with zeros wherever its input ends, so up to ``radius`` rows at an inner edge
    come out wrong; they are cut off and made again with the next rows.
    """

    def __init__(self, radius: int, function: _Function, height: int) -> None:
        self._radius, self._function, self._height = radius, function, height
        self._held: Rows | None = None
        self._start = 0
        """Where the held rows begin."""
        self._done = 0

    def push(self, rows: Rows | None, until: int) -> tuple[Rows | None, int]:
        held = self._held = _join(self._held, rows)
        ready = min(self._height, until - self._radius)
        if held is None or ready <= self._done:
            return None, until - self._radius
        made = self._function(held)[:, :, self._done - self._start : ready - self._start]
        keep = max(0, ready - self._radius)
        self._held = held[:, :, keep - self._start :]
        self._start, self._done = keep, ready
        return made, until - self._radius


class _Add(_Part):
    """Adds what comes out of a part, scaled, to what went in."""

    def __init__(self, part: _Part, weight: float) -> None:
        self._part, self._weight = part, weight
        self._held: deque[Rows] = deque()

    def push(self, rows: Rows | None, until: int) -> tuple[Rows | None, int]:
        if rows is not None:
            self._held.append(rows)
        made, until = self._part.push(rows, until)
        if made is None:
            return None, until
        return torch.add(self._take(made.shape[2]), made, alpha=self._weight), until

    def _take(self, count: int) -> Rows:
        taken = []
        while count:
            first = self._held.popleft()
            taken.append(first[:, :, :count])
            if first.shape[2] > count:
                self._held.appendleft(first[:, :, count:])
            count -= taken[-1].shape[2]
        return taken[0] if len(taken) == 1 else torch.cat(taken, 2)


class _Double(_Part):
    """Repeats every pixel twice along each side."""

    def push(self, rows: Rows | None, until: int) -> tuple[Rows | None, int]:
        if rows is None:
            return None, 2 * until
        return F.interpolate(rows, scale_factor=2.0, mode="nearest"), 2 * until


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
    if rows.is_cuda or rows.dtype == torch.float16:
        return F.conv2d(rows, *kernel, padding=1)
    # `conv2d` takes another algorithm for small inputs, which rounds differently: name this one.
    return torch.mkldnn_convolution(rows, *kernel, (1, 1), (1, 1), (1, 1), 1)


def _join(held: Rows | None, rows: Rows | None) -> Rows | None:
    if held is None or rows is None or not held.shape[2]:
        return held if rows is None else rows
    return torch.cat((held, rows), 2)
