"""The upscaler of a key, loaded once per process, and exact upscaling of a window."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from include.backends import weights_file
from include.contracts.manifest import KeyMaterial
from include.errors import BadInput
from models.face.roi import Window
from models.upscale import load_upscaler
from models.upscale.base import Upscaler

Image = NDArray[np.uint8]


def upscaler_for(material: KeyMaterial, threads: int) -> Upscaler | None:
    """The upscaler that an artifact's key names; None at scale 1.

    Args:
        material: of a stage that upscales; names backend and scale.
        threads: worker threads; never changes the pixels.

    Raises:
        BadInput: ``upscaler.weights``: missing, changed or of another network.
    """
    scale = int(material.params["scale"])
    if scale == 1 or material.backend is None:
        return None
    return _load(material.backend.name, scale, threads, threading.get_ident())


@cache
def _load(name: str, scale: int, threads: int, owner: int) -> Upscaler:
    """One for each thread that asks: an upscaler is not to be shared."""
    try:
        return load_upscaler(name, scale, threads=threads, weights=weights_file(name))
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
    if upscaler is None:
        return crop
    inner = reach.output.relative_to(reach.input)
    return upscaler.upscale_part(crop, (inner.y, inner.x, inner.y + inner.h, inner.x + inner.w))
