"""Small RRDBNets in every layout, and what the spandrel package makes of them.

`python -m tests.models.upscale.rrdb_states` writes the two reference files beside this one again.
It needs spandrel and safetensors, which are no dependencies of this project (spandrel 0.4.1 and
safetensors 0.8.0 wrote what is there).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
REFERENCE = HERE / "rrdb_spandrel.npz"
HALVES = HERE / "rrdb_halves.safetensors"

ESRGAN = {
    "first": "model.0",
    "dense": "model.1.sub.{b}.RDB{r}.conv{c}.0",
    "body": "model.1.sub.{blocks}",
    "up": "model.{up3}",
    "hr": "model.{hr}",
    "last": "model.{last}",
}
BSRGAN = {
    "first": "conv_first",
    "dense": "RRDB_trunk.{b}.RDB{r}.conv{c}",
    "body": "trunk_conv",
    "up": "upconv{up}",
    "hr": "HRconv",
    "last": "conv_last",
}
REAL_ESRGAN = {
    "first": "conv_first",
    "dense": "body.{b}.rdb{r}.conv{c}",
    "body": "conv_body",
    "up": "conv_up{up}",
    "hr": "conv_hr",
    "last": "conv_last",
}
CASES = {
    "esrgan_x4": (ESRGAN, {"blocks": 2, "ups": 2}, (9, 7)),
    "esrgan_x2": (ESRGAN, {"blocks": 1, "ups": 1}, (8, 11)),
    "bsrgan_x4": (BSRGAN, {"blocks": 1, "ups": 2}, (7, 8)),
    "bsrgan_x2": (BSRGAN, {"blocks": 1, "ups": 1}, (6, 9)),
    "real_esrgan_x4": (REAL_ESRGAN, {"blocks": 1, "ups": 2}, (5, 12)),
    "real_esrgan_x2": (REAL_ESRGAN, {"blocks": 2, "ups": 2, "inputs": 12}, (9, 11)),
}
"""Name to layout, network, and (height, width) of the picture."""


def state(
    layout: dict[str, str],
    *,
    features: int = 8,
    growth: int = 32,
    blocks: int = 1,
    ups: int = 1,
    inputs: int = 3,
) -> dict[str, torch.Tensor]:
    """A state dict of numbers that look random and are the same everywhere."""
    made: dict[str, torch.Tensor] = {}

    def conv(name: str, takes: int, gives: int, **fill: int) -> None:
        stem = layout[name].format(blocks=blocks, **fill)
        gain = (6 / (9 * takes)) ** 0.5
        made[f"{stem}.weight"] = numbers(gives * takes * 9, len(made), gain).view(
            gives, takes, 3, 3
        )
        made[f"{stem}.bias"] = numbers(gives, len(made), 0.1)

    conv("first", inputs, features)
    for b in range(blocks):
        for r in (1, 2, 3):
            for c in (1, 2, 3, 4, 5):
                takes = features + (c - 1) * growth
                conv("dense", takes, features if c == 5 else growth, b=b, r=r, c=c)
    conv("body", features, features)
    for up in range(1, ups + 1):
        conv("up", features, features, up=up, up3=3 * up)
    conv("hr", features, features, hr=3 * ups + 2)
    conv("last", features, 3, last=3 * ups + 4)
    return made


def numbers(count: int, seed: int, size: float) -> torch.Tensor:
    """Float32 in -size..size from a multiplicative hash."""
    index = np.arange(count, dtype=np.uint64) + np.uint64(seed * 1_000_003 + 1)
    bits = (index * np.uint64(2_654_435_761)) % np.uint64(1 << 32)
    bits = (bits ^ (bits >> np.uint64(15))) * np.uint64(2_246_822_519) % np.uint64(1 << 32)
    return torch.from_numpy(((bits / 2**31 - 1) * size).astype(np.float32))


def picture(height: int, width: int) -> np.ndarray:
    """uint8 [h, w, 3], the same everywhere."""
    values = numbers(height * width * 3, 7, 127.5).numpy() + 127.5
    return values.reshape(height, width, 3).round().astype(np.uint8)


def halves() -> dict[str, torch.Tensor]:
    """A network whose tensors are float16 and bfloat16 in turn."""
    small = state(REAL_ESRGAN, features=8, growth=4)
    kinds = (torch.float16, torch.bfloat16)
    return {name: value.to(kinds[i % 2]) for i, (name, value) in enumerate(small.items())}


def write_references() -> None:
    """Ask the packages."""
    from safetensors.torch import save_file
    from spandrel.architectures.ESRGAN import ESRGANArch

    found = {}
    for name, (layout, network, size) in CASES.items():
        loaded = ESRGANArch().load(state(layout, **network))
        rgb = torch.from_numpy(picture(*size)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            found[name] = (loaded.model.eval()(rgb)[0].permute(1, 2, 0) * 255).numpy()
    np.savez_compressed(REFERENCE, **found)
    save_file(halves(), HALVES)


if __name__ == "__main__":
    write_references()
