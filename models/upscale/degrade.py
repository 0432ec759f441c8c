"""The named ways in which a picture loses half of its resolution.

The names are part of the benchmark's contract: a figure is quoted with one of them.

- ``bicubic``: antialiased cubic filter (a = -0.5, support widened by 2), the convention of the
  super-resolution literature, rounded to 8 bits.
- ``area``: mean of each 2x2 block, what a camera or a player does when binning.
- ``bicubic_jpeg90``: ``bicubic`` followed by JPEG at quality 90, a stand-in for mild compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    import numpy.typing as npt

NAMES: Final = ("bicubic", "area", "bicubic_jpeg90")


def halve(rgb: npt.NDArray[np.uint8], degradation: str) -> npt.NDArray[np.uint8]:
    """Halve a picture's resolution in a named way.

    Args:
        rgb: uint8 [h, w, 3] with even sides.
        degradation: one of `NAMES`.

    Returns:
        uint8 [h / 2, w / 2, 3].

    Raises:
        ValueError: unknown name, or an odd side.
    """
    if degradation not in NAMES:
        raise ValueError(f"degradation {degradation!r} is unknown; take one of {', '.join(NAMES)}")
    height, width = rgb.shape[:2]
    if height % 2 or width % 2:
        raise ValueError(f"picture of {width}x{height} has an odd side; crop it to even")
    if degradation == "area":
        size = (width // 2, height // 2)
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    planes = torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))[None].float()
    small = halve_bicubic(planes).round_().clamp_(0, 255)[0].permute(1, 2, 0)
    out = np.ascontiguousarray(small.numpy().astype(np.uint8))
    return jpeg(out, 90) if degradation == "bicubic_jpeg90" else out


def halve_bicubic(batch: torch.Tensor) -> torch.Tensor:
    """Halve float images [n, c, h, w] with the antialiased cubic filter, unrounded."""
    return F.interpolate(batch, scale_factor=0.5, mode="bicubic", antialias=True)


def jpeg(picture: npt.NDArray[np.uint8], quality: int) -> npt.NDArray[np.uint8]:
    """Compress and decompress uint8 [h, w] or [h, w, 3] (RGB) at a JPEG quality of 1..100."""
    _, data = cv2.imencode(
        ".jpg",
        picture[..., ::-1] if picture.ndim == 3 else picture,
        [cv2.IMWRITE_JPEG_QUALITY, quality],
    )
    flag = cv2.IMREAD_COLOR if picture.ndim == 3 else cv2.IMREAD_GRAYSCALE
    back = np.asarray(cv2.imdecode(data, flag), np.uint8)
    return np.ascontiguousarray(back[..., ::-1]) if picture.ndim == 3 else back
