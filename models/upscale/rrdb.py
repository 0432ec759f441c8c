"""`rrdb`: an RRDBNet (ESRGAN, Real-ESRGAN) with its owner's weights, as a declared backend."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.upscale.base import Upscaler, check_picture
from models.upscale.rrdb_file import Parameters, read_parameters
from models.upscale.rrdb_network import Network

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from models.registry import Declaration


class Rrdb(Upscaler):
    """An RRDBNet on RGB, a few rows at a time: memory grows with the width only.

    A whole picture comes out as the published network gives it, zeros beyond its edges included,
    and is the same for any number of threads. A window that reaches `receptive_field` pixels
    further than what is wanted gives the picture's pixels to within one code value: with a
    declared margin that is measured (`models.upscale.margin`), with the theoretical radius it is
    certain. A network that takes blocks of 2x2 pixels (Real-ESRGAN x2) needs windows that begin at
    even pixels, as all windows here do.

    Args:
        name: what the backend is called.
        parameters: the network's convolutions.
        margin: effective radius in input pixels; ``None`` takes the theoretical one.
        threads: CPU threads for one picture.
        device: ``cpu``, or ``cuda`` with an optional index.

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
    ) -> None:
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError("device 'cuda' is not available here; use device 'cpu'")
        self._network = Network(parameters, self._device)
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
        weights: Path | None = None,
    ) -> Rrdb:
        """Load a declared backend.

        Args:
            item: the declaration.
            threads: CPU threads for one picture.
            device: ``cpu`` or ``cuda``.
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
        return cls(item.name, parameters, margin=item.margin, threads=threads, device=device)

    def upscale(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """See `Upscaler.upscale`."""
        height, width = (side * self.scale for side in rgb.shape[:2])
        out = np.empty((height, width, 3), np.uint8)
        top = 0
        for codes in self.codes(rgb):
            part = codes.clip_(0, 255).round_().to(torch.uint8).cpu().numpy()
            rows = out[top : top + part.shape[0]]
            rows[:] = part[: rows.shape[0], :width]
            top += part.shape[0]
        return out

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
        check_picture(rgb)
        even = np.ascontiguousarray(_whole_blocks(rgb, self._network.unshuffle))
        with _threads(self._threads), torch.inference_mode():
            picture = torch.from_numpy(even).to(self._device).permute(2, 0, 1)[None].float() / 255
            for strip in self._network.strips(picture):
                yield strip[0].permute(1, 2, 0) * 255


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
