"""The upscaler of a key, loaded once per process, and exact upscaling of a window."""

from __future__ import annotations

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
        material: of ``upscale_plate``, ``upscale`` or ``compose``; names backend and scale.
        threads: worker threads; never changes the pixels.

    Raises:
        BadInput: ``upscaler.weights``: missing, changed or of another network.
    """
    scale = int(material.params["scale"])
    if scale == 1 or material.backend is None:
        return None
    return _load(material.backend.name, scale, threads)


@cache
def _load(name: str, scale: int, threads: int) -> Upscaler:
    try:
        return load_upscaler(name, scale, threads=threads, weights=weights_file(name))
    except ValueError as error:
        raise BadInput(f"upscaler {name}: {error}", code="upscaler.weights") from error


def upscale_window(
    upscaler: Upscaler | None, frame: Image, changed: Window
) -> tuple[Image, Window]:
    """Upscale what a change inside a window can reach, as if the whole frame had been upscaled.

    The output window is the changed one dilated by the receptive field; the input window adds
    another receptive field, so that no pixel of the output sees the crop's edge.

    Args:
        frame: uint8 [h, w, 3] RGB, the whole frame at template size.
        changed: where it differs from the template.
        upscaler: None leaves pixels as they are.

    Returns:
        The upscaled output window's pixels, and that window in template pixels.
    """
    size = (frame.shape[1], frame.shape[0])
    if upscaler is None:
        return frame[changed.slice()], changed
    reach = changed.dilate(upscaler.receptive_field, size)
    crop = reach.dilate(upscaler.receptive_field, size)
    big = upscaler.upscale(np.ascontiguousarray(frame[crop.slice()]))
    inner = Window(reach.x - crop.x, reach.y - crop.y, reach.w, reach.h)
    return big[inner.scaled(upscaler.scale).slice()], reach
