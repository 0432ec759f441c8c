"""Training patches: which pictures they are cut from, how varied, how degraded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from models.upscale import images, synthetic
from models.upscale.degrade import halve_bicubic, jpeg

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Grey = npt.NDArray[np.float32]

PATCH: Final = 208
"""Side of a sharp patch in pixels."""
BATCH: Final = 6
SIZES: Final = (1.0, 0.8, 0.62, 0.45, 0.3)
"""A photograph is used at each of these, because a shrunken one is sharper than its original."""
LUMA: Final = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Source:
    """Pictures of one kind and the share of all patches that come from them."""

    share: float
    pictures: Sequence[Grey]


def sources(rng: np.random.Generator) -> list[Source]:
    """Read and draw the pictures to train on: `images.TRAINING`, and `synthetic` ones."""
    photographs = [grey for image in images.TRAINING for grey in _versions(images.read(image), rng)]
    drawn = (
        (0.11, synthetic.dead_leaves, 60),
        (0.10, synthetic.lettering, 40),
        (0.04, synthetic.strokes, 20),
        (0.08, synthetic.fibres, 40),
    )
    return [Source(0.67, photographs)] + [
        Source(share, [draw(rng, 320) for _ in range(count)]) for share, draw, count in drawn
    ]


def _versions(rgb: npt.NDArray[np.uint8], rng: np.random.Generator) -> list[Grey]:
    """Shrink and mix a picture to grey: luma, green alone, and a random mix."""
    mixes = [np.array(LUMA), np.array([0.0, 1.0, 0.0]), rng.dirichlet(np.ones(3))]
    if np.array_equal(rgb[..., 0], rgb[..., 1]):
        mixes = mixes[:1]
    full = rgb.astype(np.float32) / 255
    out: list[Grey] = []
    for scale in SIZES:
        size = (round(full.shape[1] * scale), round(full.shape[0] * scale))
        if min(size) >= PATCH + 8:
            small = full if scale == 1 else cv2.resize(full, size, interpolation=cv2.INTER_AREA)
            out += [(small @ mix).astype(np.float32) for mix in mixes]
    return out


def cut(kinds: Sequence[Source], rng: np.random.Generator) -> torch.Tensor:
    """Cut one batch of augmented patches, float32 [BATCH, 1, PATCH, PATCH] in 0..1."""
    shares = np.array([kind.share for kind in kinds])
    out = np.empty((BATCH, 1, PATCH, PATCH), np.float32)
    for index in range(BATCH):
        pictures = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))].pictures
        sides = np.sqrt([picture.size for picture in pictures])
        picture = pictures[int(rng.choice(len(pictures), p=sides / sides.sum()))]
        out[index, 0] = _augment(picture, rng)
    return torch.from_numpy(out)


def _augment(picture: Grey, rng: np.random.Generator) -> Grey:
    top, left = (int(rng.integers(side - PATCH + 1)) for side in picture.shape)
    patch = np.rot90(picture[top : top + PATCH, left : left + PATCH], int(rng.integers(4)))
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    if rng.random() < 0.3:
        patch = 1 - patch
    if rng.random() < 0.3:
        contrast = rng.uniform(0.4, 1.0)
        patch = patch * np.float32(contrast) + np.float32(rng.uniform(0, 1 - contrast))
    if rng.random() < 0.1:
        # Out of focus, or enlarged before it came to us: there is nothing to sharpen.
        return np.asarray(cv2.GaussianBlur(patch, (0, 0), rng.uniform(0.7, 2.0)), np.float32)
    return patch


def degrade(sharp: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Halve each patch [n, 1, h, w] to 8-bit steps.

    Of all patches 8% are binned, 14% JPEG-compressed, 3% noisy, and the rest clean: real templates
    are compressed, and a network that has only seen clean pictures sharpens the artefacts.
    """
    small = halve_bicubic(sharp)
    for index in range(len(small)):
        draw = rng.random()
        if draw < 0.08:
            small[index] = F.avg_pool2d(sharp[index], 2)
        codes = (small[index, 0] * 255).round().clamp(0, 255)
        if 0.08 <= draw < 0.22:
            coded = jpeg(codes.numpy().astype(np.uint8), int(rng.integers(65, 98)))
            codes = torch.from_numpy(coded).float()
        elif 0.22 <= draw < 0.25:
            noise = rng.normal(0, rng.uniform(0.5, 2.5), codes.shape).astype(np.float32)
            codes = (codes + torch.from_numpy(noise)).round().clamp(0, 255)
        small[index, 0] = codes / 255
    return small
