"""What is in front of a face, put back over a changed picture."""

from __future__ import annotations

import numpy as np

from models.face.occlusion.arrays import Image


def keep_occluders(original: Image, changed: Image, mask: Image) -> Image:
    """Put what is in front of the face back over a changed picture.

    Args:
        original: uint8 [h, w, 3].
        changed: uint8 [h, w, 3], the same size.
        mask: uint8 [h, w] of `occlusion_masks`.

    Returns:
        uint8 [h, w, 3]: exactly ``original`` where the mask is 255, ``changed`` where it is 0.

    Raises:
        ValueError: sizes differ.
    """
    if original.shape != changed.shape or mask.shape != original.shape[:2]:
        raise ValueError(
            f"sizes differ: original {original.shape}, changed {changed.shape}, mask {mask.shape}"
        )
    if not mask.any():
        return changed.copy()
    weight = mask[..., None].astype(np.uint16)
    mixed = original * weight + changed * (255 - weight)
    return np.asarray((mixed + 127) // 255, np.uint8)
