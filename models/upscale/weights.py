"""Weights as a plain ``.npz`` archive of arrays: nothing in it can run when it is read."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.upscale.network import Kernel


def save(path: Path, kernels: Sequence[Kernel]) -> str:
    """Write kernels as float32 arrays ``w0, b0, w1, ...``.

    Args:
        path: the file to write.
        kernels: weight and bias of each convolution.

    Returns:
        sha256 of the file.
    """
    arrays = {}
    for index, (weight, bias) in enumerate(kernels):
        arrays[f"w{index}"] = weight.detach().contiguous().numpy().astype(np.float32)
        arrays[f"b{index}"] = bias.detach().numpy().astype(np.float32)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    path.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def load(path: Path, sha256: str) -> list[Kernel]:
    """Read kernels after checking the file's digest.

    Args:
        path: the file.
        sha256: what the file must hash to.

    Returns:
        float32 kernels in order.

    Raises:
        ValueError: the file is missing or is not the declared one.
    """
    if not path.is_file():
        raise ValueError(f"weights {path.name} are missing; reinstall, or train them again")
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise ValueError(
            f"weights {path.name} have sha256 {found}, not the declared {sha256}; reinstall them"
        )
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        count = len(archive.files) // 2
        pairs = [(archive[f"w{i}"], archive[f"b{i}"]) for i in range(count)]
    return [(torch.from_numpy(w), torch.from_numpy(b)) for w, b in pairs]
