"""Batches of frames on a device: how many fit, how they get there and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Image = npt.NDArray[np.uint8]

MOST_FRAMES: Final = 16
"""More at once only costs memory here and there: a GPU is busy by then."""
MEMORY_MIB: Final = 2048
"""What a batch may take of the device where nobody says."""


def frames_that_fit(memory_mib: int, bytes_a_frame: int) -> int:
    """How many frames to work on at once, at least one."""
    return max(1, min(MOST_FRAMES, (memory_mib << 20) // bytes_a_frame))


def open_device(device: str) -> torch.device:
    """The device of that name.

    Raises:
        ValueError: it is not there.
    """
    found = torch.device(device)
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is not available here; use device 'cpu'")
    return found


def to_device(frames: Sequence[Image], device: torch.device) -> torch.Tensor:
    """Copy frames of one size to a device, all at once and from pinned memory.

    Returns:
        uint8 [n, h, w, 3].
    """
    shape = (len(frames), *frames[0].shape)
    staged = torch.empty(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
    view = staged.numpy()
    for index, frame in enumerate(frames):
        view[index] = frame
    return staged.to(device, non_blocking=True)


def to_host(made: torch.Tensor) -> list[Image]:
    """Copy uint8 [n, h, w, 3] back, all at once; one new array a frame."""
    if made.device.type == "cpu":
        return list(np.asarray(made.numpy(), np.uint8))
    staged = torch.empty(made.shape, dtype=torch.uint8, pin_memory=True)
    return list(np.asarray(staged.copy_(made).numpy(), np.uint8))


def in_halves(
    work: Callable[[Sequence[Image]], list[Image]], frames: Sequence[Image]
) -> list[Image]:
    """Work on frames together, or on fewer at a time where the device has no room for all.

    Raises:
        MemoryError: there is no room for a single one.
    """
    try:
        return work(frames)
    except torch.OutOfMemoryError as error:
        if len(frames) == 1:
            height, width = frames[0].shape[:2]
            raise MemoryError(
                f"the device has no room for a picture of {width}x{height}"
            ) from error
    torch.cuda.empty_cache()
    middle = len(frames) // 2
    return [*in_halves(work, frames[:middle]), *in_halves(work, frames[middle:])]


def check_alike(frames: Sequence[Image]) -> None:
    """Refuse frames of different sizes."""
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        raise ValueError(f"a batch takes pictures of one size, not {sorted(sizes)}")
