"""`compact`: a small convolutional network that sharpens cubic interpolation.

The eye and the video codec both spend most of their resolution on luma, so the network predicts a
luma correction only, and red, green and blue get the same one. Chroma is interpolated.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch

from models.upscale import BACKENDS, weights
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
from models.upscale.compact_batch import BYTES_A_PIXEL, enlarge
from models.upscale.network import BLOCK, correct, margin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

STRIP: Final = 270
"""Most input rows in the network at once, even: bounds memory."""
LEAST_PIXELS: Final = 20_481
"""For smaller inputs PyTorch takes another convolution algorithm, which rounds differently."""


class Compact(Upscaler):
    """A luma network of seven 3x3 convolutions and 64 channels on top of cubic interpolation.

    It works on blocks of 2x2 pixels, so windows must be cut between blocks. Scale 4 is scale 2
    applied twice. On the CPU a window gives the same bytes as the frame, for any even position and
    number of threads (tested; the sums are made in the same order for every pixel). Processors with
    and without bfloat16, and CUDA, where the library may choose its algorithm by shape, can differ
    by one code value at scale 2. At scale 4 the second pass sharpens what the first one rounded
    differently: up to 6 code values, more than one in 0.5% of them with bfloat16 and in 0.07% with
    float16 (measured on seven photographs).

    On CUDA whole batches are worked on, in half precision but for the first and the last
    convolution, without leaving the device (`models.upscale.compact_batch`).

    Args:
        scale: 2 or 4.
        threads: CPU threads for one picture.
        device: ``cpu``, or ``cuda`` with an optional index.
        memory_mib: what a batch may take of the device's memory.
        batched: take the path of CUDA, or not; default by device.

    Raises:
        ValueError: the weights are not the declared ones, or the device is not there.
    """

    name = "compact"
    alignment = BLOCK

    def __init__(
        self,
        scale: int,
        *,
        threads: int = 1,
        device: str = "cpu",
        memory_mib: int = MEMORY_MIB,
        batched: bool | None = None,
    ) -> None:
        self.scale = scale
        self._threads = threads
        self._memory_mib = memory_mib
        self._device = open_device(device)
        self._batched = self._device.type == "cuda" if batched is None else batched
        digest = BACKENDS[self.name].weights_sha256
        kernels = weights.load(Path(__file__).with_name("compact_x2.npz"), digest or "")
        layout = torch.channels_last
        self._kernels = [
            (w.to(self._device).contiguous(memory_format=layout), b.to(self._device))
            for w, b in kernels
        ]
        self._margin = margin(kernels)
        self._inner = _inner_type(self._device)
        # At scale 4 the second pass looks further by its margin, in pixels of half the size.
        further = -(-self._margin // (2 * BLOCK)) * BLOCK if scale == 4 else 0
        self.receptive_field = self._margin + further

    def upscale(self, rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """See `Upscaler.upscale`."""
        check_picture(rgb)
        return self.upscale_part(rgb, (0, 0, rgb.shape[0], rgb.shape[1]))

    def upscale_part(
        self, rgb: npt.NDArray[np.uint8], part: tuple[int, int, int, int]
    ) -> npt.NDArray[np.uint8]:
        """See `Upscaler.upscale_part`."""
        check_picture(rgb)
        if self._batched:
            return self.upscale_parts([rgb], part)[0]
        with _threads(self._threads), torch.inference_mode():
            if self.scale == 4:  # the second pass sees its margin of the first one's result
                wider = _dilated(part, self.receptive_field - self._margin, rgb.shape)
                rgb = self._double(rgb, wider)
                top, left, bottom, right = part
                part = (top - wider[0], left - wider[1], bottom - wider[0], right - wider[1])
                part = (2 * part[0], 2 * part[1], 2 * part[2], 2 * part[3])
            return self._double(rgb, part)

    def batch(self, height: int, width: int) -> int:
        """See `Upscaler.batch`."""
        if not self._batched:
            return 1
        around = 2 * self.receptive_field
        # The second pass of scale 4 works on twice the height and width.
        pixels = (height + around) * (width + around) * (self.scale // 2) ** 2
        return frames_that_fit(self._memory_mib, pixels * BYTES_A_PIXEL)

    def upscale_many(self, frames: Sequence[npt.NDArray[np.uint8]]) -> list[npt.NDArray[np.uint8]]:
        """See `Upscaler.upscale_many`."""
        if not frames:
            return []
        return self.upscale_parts(frames, (0, 0, frames[0].shape[0], frames[0].shape[1]))

    def upscale_parts(
        self, frames: Sequence[npt.NDArray[np.uint8]], part: tuple[int, int, int, int]
    ) -> list[npt.NDArray[np.uint8]]:
        """See `Upscaler.upscale_parts`."""
        for rgb in frames:
            check_picture(rgb)
        check_alike(frames)
        if not frames or not self._batched:
            return super().upscale_parts(frames, part)
        most = self.batch(*frames[0].shape[:2])
        with _threads(self._threads), torch.inference_mode():
            batches = [frames[first : first + most] for first in range(0, len(frames), most)]
            return [
                made
                for batch in batches
                for made in in_halves(lambda some: self._enlarge(some, part), batch)
            ]

    def _enlarge(
        self, frames: Sequence[npt.NDArray[np.uint8]], part: tuple[int, int, int, int]
    ) -> list[npt.NDArray[np.uint8]]:
        pixels = to_device(frames, self._device)
        kernels, inner = self._kernels, self._inner
        return to_host(enlarge(pixels, part, self.scale, kernels, self._margin, inner))

    def _double(
        self, rgb: npt.NDArray[np.uint8], part: tuple[int, int, int, int]
    ) -> npt.NDArray[np.uint8]:
        """Twice the size of a part, whose sides lie between blocks or at the picture's edge."""
        height, width = rgb.shape[:2]
        top, left, bottom, right = part
        cubic = cv2.resize(rgb, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
        out = np.array(cubic[2 * top : 2 * bottom, 2 * left : 2 * right], np.uint8)
        m = self._margin
        odd = height % BLOCK, width % BLOCK  # the last block of an odd side repeats its edge
        luma = np.pad(_luma(rgb), ((m, m + odd[0]), (m, m + odd[1])), mode="edge")
        # What a part needs of the padded picture: its own pixels, whole blocks, and a margin.
        tall, wide = (side + side % BLOCK for side in (bottom - top, right - left))
        luma = luma[top : top + tall + 2 * m, left : left + wide + 2 * m]
        for row in range(0, tall, STRIP):
            window = out[2 * row : 2 * (row + STRIP)]
            added = self._correction(luma[row : row + STRIP + 2 * m])
            added = added[: window.shape[0], : window.shape[1]]
            cv2.add(window, cv2.merge([added, added, added]), dst=window, dtype=cv2.CV_8U)
        return out

    def _correction(self, luma: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
        """Run the network on a strip [h + 2 m, w + 2 m]; int16 [2 h, 2 w] in code values."""
        height, width = (side - 2 * self._margin for side in luma.shape)
        missing = -(-LEAST_PIXELS // luma.shape[1]) - luma.shape[0]
        if missing > 0:  # extra rows below change nothing above
            luma = np.pad(luma, ((0, missing + missing % BLOCK), (0, 0)))
        batch = torch.from_numpy(np.ascontiguousarray(luma)).to(self._device)[None, None]
        found = correct(batch, self._kernels, self._inner)[0, 0, : 2 * height, : 2 * width]
        added: npt.NDArray[np.int16] = found.mul(255).round_().to(torch.int16).cpu().numpy()
        return added


def _dilated(
    part: tuple[int, int, int, int], by: int, shape: tuple[int, ...]
) -> tuple[int, int, int, int]:
    top, left, bottom, right = part
    return (
        max(top - by, 0),
        max(left - by, 0),
        min(bottom + by, shape[0]),
        min(right + by, shape[1]),
    )


def _inner_type(device: torch.device) -> torch.dtype:
    """Bfloat16 where the processor multiplies it, for 1.7 times the speed at the same PSNR.

    Float16 on CUDA: activations stay below ten, and it has three more bits than bfloat16.
    """
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu":
        can = torch.cpu.get_capabilities()
        if can.get("avx512_bf16") or can.get("amx_bf16"):
            return torch.bfloat16
    return torch.float32


def _luma(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """BT.601 luma in 0..1, summed in integers so that it is exact wherever the pixel lies."""
    red, green, blue = (plane.astype(np.uint16) for plane in cv2.split(rgb))
    luma = red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29)
    return np.asarray(luma * np.float32(1 / 65280), np.float32)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Use a number of threads in both libraries, and give back what was set."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
