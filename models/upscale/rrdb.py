"""`rrdb`: an RRDBNet (ESRGAN, Real-ESRGAN) with its owner's weights, as a declared backend."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch

from models.upscale.base import Upscaler, check_picture
from models.upscale.batches import (
    MEMORY_MIB,
    check_alike,
    frames_that_fit,
    in_halves,
    open_device,
    to_device,
    to_host,
)
from models.upscale.rrdb_file import Parameters, read_parameters
from models.upscale.rrdb_network import Network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from models.registry import Declaration

HALF_MAY_DIFFER: Final = 0.5
"""Code values, before rounding, that half precision may be off: one code value after it."""


class Rrdb(Upscaler):
    """An RRDBNet on RGB, a few rows at a time: memory grows with the width only.

    A whole picture comes out as the published network gives it, zeros beyond its edges included,
    and is the same for any number of threads. A window that reaches `receptive_field` pixels
    further than what is wanted gives the picture's pixels to within one code value: with a
    declared margin that is measured (`models.upscale.margin`), with the theoretical radius it is
    certain. A network that takes blocks of 2x2 pixels (Real-ESRGAN x2) needs windows that begin at
    even pixels, as all windows here do.

    On CUDA frames of one size are worked on together, and in half precision where that gives the
    code values of full precision on a picture that is tried when the weights are loaded: trained
    networks pass, weights whose sums leave float16's range do not.

    Args:
        name: what the backend is called.
        parameters: the network's convolutions.
        margin: effective radius in input pixels; ``None`` takes the theoretical one.
        threads: CPU threads for one picture.
        device: ``cpu``, or ``cuda`` with an optional index.
        memory_mib: what a batch may take of the device's memory.
        kind: what to calculate in; default by device.

    Raises:
        ValueError: the margin is larger than the theoretical radius, or the device is not there.
    """

    def __init__(
        self,
        name: str,
        parameters: Parameters,
        *,
        margin: int | None = None,
        threads: int = 1,
        device: str = "cpu",
        memory_mib: int = MEMORY_MIB,
        kind: torch.dtype | None = None,
    ) -> None:
        self._device = open_device(device)
        self._memory_mib = memory_mib
        self._batched = self._device.type == "cuda"
        if kind is None:
            half = self._batched and half_holds(parameters, self._device)
            kind = torch.float16 if half else torch.float32
        self._network = Network(parameters, self._device, kind)
        self._threads = threads
        self.name = name
        self.scale = parameters.scale
        self.radius = self._network.radius
        """Theoretical radius in input pixels."""
        self.receptive_field = margin or self.radius
        if self.receptive_field > self.radius:
            raise ValueError(
                f"margin: {margin} is more than the network can look, {self.radius}; measure it "
                "again, or leave it out"
            )

    @classmethod
    def declared(
        cls,
        item: Declaration,
        *,
        threads: int = 1,
        device: str = "cpu",
        memory_mib: int | None = None,
        weights: Path | None = None,
    ) -> Rrdb:
        """Load a declared backend.

        Args:
            item: the declaration.
            threads: CPU threads for one picture.
            device: ``cpu`` or ``cuda``.
            memory_mib: what a batch may take of the device's memory; None for a modest default.
            weights: where the file lies here; default where the declaration says.

        Raises:
            ValueError: the file is missing, changed, no RRDBNet, or of another scale.
        """
        path = weights or Path(item.weights)
        parameters = read_parameters(path, item.sha256)
        if parameters.scale != item.scale:
            raise ValueError(
                f"weights {path} enlarge by {parameters.scale}, but {item.name} is declared with "
                f"scale {item.scale}; correct the declaration"
            )
        return cls(
            item.name,
            parameters,
            margin=item.margin,
            threads=threads,
            device=device,
            memory_mib=memory_mib or MEMORY_MIB,
        )

    def upscale(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """See `Upscaler.upscale`."""
        return self._enlarge([rgb])[0]

    def batch(self, height: int, width: int) -> int:
        """See `Upscaler.batch`."""
        if not self._batched:
            return 1
        return frames_that_fit(self._memory_mib, self._network.bytes_a_picture(height, width))

    def upscale_many(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        """See `Upscaler.upscale_many`."""
        if not frames:
            return []
        most = self.batch(*frames[0].shape[:2])
        batches = [frames[first : first + most] for first in range(0, len(frames), most)]
        return [made for batch in batches for made in in_halves(self._enlarge, batch)]

    def upscale_parts(
        self, frames: Sequence[npt.NDArray[np.uint8]], part: tuple[int, int, int, int]
    ) -> list[npt.NDArray[np.uint8]]:
        """See `Upscaler.upscale_parts`."""
        top, left, bottom, right = (side * self.scale for side in part)
        made = self.upscale_many(frames)
        return [np.ascontiguousarray(rgb[top:bottom, left:right]) for rgb in made]

    def _enlarge(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        check_picture(frames[0])
        height, width = (side * self.scale for side in frames[0].shape[:2])
        with _threads(self._threads), torch.inference_mode():
            strips = [
                strip.permute(0, 2, 3, 1).mul(255).clip_(0, 255).round_().to(torch.uint8)
                for strip in self._strips(frames)
            ]
            made = torch.cat(strips, 1)[:, :height, :width]
            return to_host(made.contiguous())

    def codes(self, rgb: npt.NDArray[np.uint8]) -> Iterator[torch.Tensor]:
        """Enlarge a picture without rounding.

        Args:
            rgb: uint8 [h, w, 3].

        Yields:
            float32 [rows, w * scale, 3] in code values from the top, not clipped; with a network
            that takes 2x2 blocks, up to one block more below and to the right.

        Raises:
            ValueError: not such a picture.
        """
        with _threads(self._threads), torch.inference_mode():
            for strip in self._strips([rgb]):
                yield strip[0].permute(1, 2, 0) * 255

    def _strips(self, frames: Sequence[npt.NDArray[np.uint8]]) -> Iterator[torch.Tensor]:
        for rgb in frames:
            check_picture(rgb)
        check_alike(frames)
        even = [_whole_blocks(rgb, self._network.unshuffle) for rgb in frames]
        pixels = to_device(even, self._device)
        return self._network.strips(pixels.permute(0, 3, 1, 2).float() / 255)


def half_holds(parameters: Parameters, device: torch.device) -> bool:
    """Whether half precision gives full precision's code values, tried on one made-up picture."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
    picture = np.asarray(cv2.resize(coarse, (48, 36), interpolation=cv2.INTER_CUBIC), np.uint8)
    picture[:, 20:30] = rng.integers(0, 256, (36, 10, 3), np.uint8)  # smooth, edges and noise
    pixels = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        exact, half = (
            torch.cat(list(Network(parameters, device, kind).strips(pixels)), 2)
            for kind in (torch.float32, torch.float16)
        )
        # Beyond black and white nothing shows; what is not finite differs by more than anything.
        apart = (exact.clip(0, 1) - half.clip(0, 1)).abs().nan_to_num(nan=1.0).max()
    return float(apart) * 255 <= HALF_MAY_DIFFER


def _whole_blocks(rgb: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Mirror the last pixels so that blocks of this side cover the picture."""
    below, beside = -rgb.shape[0] % side, -rgb.shape[1] % side
    mode = "reflect" if min(rgb.shape[:2]) > 1 else "edge"  # one pixel has no mirror image
    return np.pad(rgb, ((0, below), (0, beside), (0, 0)), mode=mode)  # type: ignore[call-overload,no-any-return]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use a number of PyTorch's threads, and give back what was set."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
