"""Weights for an RRDBNet without training: a benchmark pays its full price for a sane picture.

    python -m benchmarks.rrdb_weights FILE [--features N] [--blocks N] [--growth N] [--scale 2|4]

Red, green and blue pass through channels of their own, so that the output is the input with every
pixel repeated; all other channels and all blocks hold random numbers and add a texture of a few
code values that depends on the picture. Such a network is no better than repeating pixels; it costs
what a trained one of its size costs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Final

import numpy as np
import torch

from models.upscale.rrdb import Rrdb
from models.upscale.rrdb_file import read_parameters

DETAIL: Final = 6.0
"""Standard deviation of what the blocks add to a picture of random squares, in code values; about a
third of it on photographs."""
GAIN: Final = 1.5
"""Of the blocks' random numbers, in units of He's. With it the effective radius is of the order
of the 10 pixels by which tools for trained networks let tiles overlap; with ESRGAN's 0.1 it is 4,
which would flatter a delta render."""
GROWTH: Final = 32
"""Channels that each convolution of a dense block adds, as published for 64 features."""
RGB: Final = 3


def make_weights(
    path: Path,
    *,
    features: int = 64,
    blocks: int = 23,
    growth: int = GROWTH,
    scale: int = 2,
    seed: int = 0,
) -> str:
    """Write weights in Real-ESRGAN's layout.

    Args:
        path: ``.safetensors``, or ``.pth`` with the tensors under ``params_ema``.
        features: channels of the trunk, at least 8; 64 as published.
        blocks: residual-in-residual blocks; 23 as published.
        growth: channels that each convolution of a dense block adds; 32 as published.
        scale: 2 or 4.
        seed: chooses the random numbers; the same seed gives the same file.

    Returns:
        sha256 of the file.

    Raises:
        ValueError: there is no such network.
    """
    if features < 8 or blocks < 1 or growth < 1 or scale not in (2, 4):
        raise ValueError(
            "make_weights takes at least 8 features, 1 block, a growth of 1, and scale 2 or 4"
        )
    rng = np.random.default_rng(seed)
    state: dict[str, torch.Tensor] = {}
    ups = [f"conv_up{up}" for up in range(1, scale // 2 + 1)]
    _random(state, rng, "conv_first", RGB, features)
    for block in range(blocks):
        for dense in (1, 2, 3):
            for conv in (1, 2, 3, 4, 5):
                inputs = features + (conv - 1) * growth
                outputs = features if conv == 5 else growth
                _random(state, rng, f"body.{block}.rdb{dense}.conv{conv}", inputs, outputs, GAIN)
    for name in ("conv_body", *ups, "conv_hr"):
        _random(state, rng, name, features, features)
    _random(state, rng, "conv_last", features, RGB)
    state["conv_body.weight"][:RGB] = 0
    for name in ("conv_first", *ups, "conv_hr", "conv_last"):
        _pass_colour(state[f"{name}.weight"])
    detail = state["conv_last.weight"][:, RGB:]
    detail *= DETAIL / _added(path, state)
    return _write(path, state)


def _random(
    state: dict[str, torch.Tensor],
    rng: np.random.Generator,
    name: str,
    inputs: int,
    outputs: int,
    gain: float = 1.0,
) -> None:
    deviation = gain * (2 / (9 * inputs)) ** 0.5
    weight = rng.normal(0, deviation, (outputs, inputs, 3, 3)).astype(np.float32)
    state[f"{name}.weight"] = torch.from_numpy(weight)
    state[f"{name}.bias"] = torch.zeros(outputs)


def _pass_colour(weight: torch.Tensor) -> None:
    """Make the first three channels of the output those of the input."""
    weight[:RGB] = 0 if weight.shape[0] > RGB else weight[:RGB]
    weight[:RGB, :RGB] = 0
    for channel in range(RGB):
        weight[channel, channel, 1, 1] = 1


def _added(path: Path, state: dict[str, torch.Tensor]) -> float:
    """Standard deviation of what the network adds to repeated pixels, in code values."""
    _write(path, state)
    upscaler = Rrdb(path.name, read_parameters(path))
    small = np.random.default_rng(0).integers(64, 192, (8, 8, 3), dtype=np.uint8)
    blocks = small.repeat(6, 0).repeat(6, 1)
    repeated = blocks.repeat(upscaler.scale, 0).repeat(upscaler.scale, 1)
    codes = torch.cat(list(upscaler.codes(blocks))).numpy()
    return float((codes - repeated).std())


def _write(path: Path, state: dict[str, torch.Tensor]) -> str:
    if path.suffix == ".safetensors":
        path.write_bytes(_safetensors(state))
    else:
        torch.save({"params_ema": state}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _safetensors(state: dict[str, torch.Tensor]) -> bytes:
    header, body = {}, b""
    parts = []
    end = 0
    for name, tensor in state.items():
        data = tensor.contiguous().numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [end, end + len(data)],
        }
        end += len(data)
        parts.append(data)
    body = b"".join(parts)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + body


def main(argv: list[str] | None = None) -> int:
    """Write a file of weights and print its digest."""
    parser = argparse.ArgumentParser(description="weights for an RRDBNet without training")
    parser.add_argument("path", type=Path)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=23)
    parser.add_argument("--growth", type=int, default=GROWTH)
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    made = make_weights(
        args.path,
        features=args.features,
        blocks=args.blocks,
        growth=args.growth,
        scale=args.scale,
        seed=args.seed,
    )
    print(f"{args.path} sha256 {made}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
