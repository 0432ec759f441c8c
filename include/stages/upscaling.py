"""The upscaler of a key, loaded once per process, and exact upscaling of a window.

Frames are fed to it in batches of as many as it takes at once: one on the CPU, on a GPU as many as
the stage's share of its memory holds.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from include.backends import weights_file
from include.contracts.manifest import KeyMaterial
from include.devices.current import Device, device_for, failures_of_the_device
from include.errors import BadInput
from include.stages.specs import MAKER
from models.face.roi import Window
from models.upscale import load_upscaler, runs_on_a_gpu
from models.upscale.base import Upscaler

Image = NDArray[np.uint8]


def upscaler_for(material: KeyMaterial, threads: int, *, beside: int = 1) -> Upscaler | None:
    """The upscaler that an artifact's key names; None at scale 1.

    Where ``UNDERSTUDY_DEVICE`` says so it is on a GPU, of which the process takes a share first.

    Args:
        material: of a stage that upscales; names backend and scale.
        threads: worker threads; never changes the pixels.
        beside: how many threads of this process have one of their own; they share its share.

    Raises:
        BadInput: ``upscaler.weights``: missing, changed or of another network.
        DeviceUnavailable: no GPU has room.
        Misconfigured: there is no GPU, or no PyTorch for it.
    """
    scale = int(material.params["scale"])
    if scale == 1 or material.backend is None:
        return None
    name, maker = material.backend.name, MAKER[material.stage]
    device = device_for(maker.name, maker.gpu_memory_mib if runs_on_a_gpu(name) else 0)
    own = Device(device.name, device.memory_mib // beside)
    return _load(name, scale, threads, own, threading.get_ident())


@cache
def _load(name: str, scale: int, threads: int, device: Device, owner: int) -> Upscaler:
    """One for each thread that asks: an upscaler is not to be shared."""
    try:
        with failures_of_the_device():
            return load_upscaler(
                name,
                scale,
                threads=threads,
                device=device.name,
                memory_mib=device.memory_mib or None,
                weights=weights_file(name),
            )
    except ValueError as error:
        raise BadInput(f"upscaler {name}: {error}", code="upscaler.weights") from error


@dataclass(frozen=True)
class Reach:
    """Where a change shows after upscaling, and what has to be seen for that."""

    changed: Window
    """What differs from the template."""
    output: Window
    """Dilated by the receptive field: every pixel that the change can reach."""
    input: Window
    """Dilated once more, so that no pixel of the output sees the crop's edge."""


def reach_of(upscaler: Upscaler | None, changed: Window, size: tuple[int, int]) -> Reach:
    """Windows, in template pixels, for upscaling a change as if the whole frame had been upscaled.

    Args:
        upscaler: None leaves pixels as they are.
        changed: what differs from the template.
        size: (width, height) of the template.
    """
    if upscaler is None:
        return Reach(changed, changed, changed)
    output = changed.dilate(upscaler.receptive_field, size)
    return Reach(changed, output, output.dilate(upscaler.receptive_field, size))


def upscale_crop(upscaler: Upscaler | None, crop: Image, reach: Reach) -> Image:
    """Upscale a change.

    Args:
        upscaler: None leaves pixels as they are.
        crop: uint8 [h, w, 3] RGB, the pixels of ``reach.input``.
        reach: where it lies.

    Returns:
        The pixels of ``reach.output`` at the upscaler's scale.
    """
    return next(upscale_crops(upscaler, [crop], reach))


def upscale_crops(
    upscaler: Upscaler | None, crops: Iterable[Image], reach: Reach
) -> Iterator[Image]:
    """Upscale a change in frame after frame; reads ahead by one batch at most.

    Args:
        upscaler: None leaves pixels as they are.
        crops: as ``upscale_crop``'s; not changed once they were handed over.
        reach: where they lie.

    Yields:
        What ``upscale_crop`` returns, in order.
    """
    if upscaler is None:
        yield from crops
        return
    inner = reach.output.relative_to(reach.input)
    part = (inner.y, inner.x, inner.y + inner.h, inner.x + inner.w)
    most = upscaler.batch(reach.input.h, reach.input.w)
    source = iter(crops)
    while batch := list(islice(source, most)):
        with failures_of_the_device():
            made = upscaler.upscale_parts(batch, part)
        yield from made


def upscale_frames(upscaler: Upscaler, frames: Iterable[Image]) -> Iterator[tuple[Image, int]]:
    """Upscale whole frames; one that repeats the last one, as title cards do, costs nothing.

    Reads ahead by one batch of different frames at most.

    Args:
        upscaler: does it.
        frames: uint8 [h, w, 3] of one size, not changed once they were handed over.

    Yields:
        A picture, and how many frames in a row look like it.
    """
    runs = _runs(frames)
    first = next(runs, None)
    if first is None:
        return
    most = upscaler.batch(*first[0].shape[:2])
    batch = [first, *islice(runs, most - 1)]
    while batch:
        with failures_of_the_device():
            made = upscaler.upscale_many([frame for frame, _ in batch])
        yield from zip(made, (count for _, count in batch), strict=True)
        batch = list(islice(runs, most))


def _runs(frames: Iterable[Image]) -> Iterator[tuple[Image, int]]:
    """Frames that differ from the one before, and how often each is repeated."""
    last, count = None, 0
    for frame in frames:
        if last is not None and np.array_equal(frame, last):
            count += 1
            continue
        if last is not None:
            yield last, count
        last, count = frame, 1
    if last is not None:
        yield last, count
