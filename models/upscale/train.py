"""Train the `compact` network from scratch on one CPU core.

    python -m models.upscale.train --steps 5800 --out a.npz
    python -m models.upscale.train --steps 1600 --rate 1.5e-3 --seed 8 --start a.npz --out b.npz
    python -m models.upscale.train --steps 7000 --rate 3e-3 --seed 21 --start b.npz --out c.npz
    python -m models.upscale.train --steps 8000 --rate 4e-3 --seed 33 --start c.npz --out d.npz

The later forms go on from earlier weights. The shipped weights took these four runs; during the
first one `patches` still had fewer compressed and no soft pictures, so the bytes will differ. The
gain over Lanczos on clean held-out pictures went 1.43, 1.39, 1.47, 1.50 dB (median): the network
is near what it can learn from these pictures.

The loss is Charbonnier, quadratic below 2.5 code values, with one cycle of the learning rate; what
is saved is an exponential moving average of the collapsed kernels. Put the digest that is logged at
the end into ``BACKENDS`` and raise the version.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from models.upscale import patches, weights
from models.upscale.network import TrainedForm, correct, margin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.upscale.network import Kernel

log = logging.getLogger(__name__)


def main(argv: list[str] | None = None) -> int:
    """Train, save the weights and log their digest."""
    parser = argparse.ArgumentParser(description="train the compact upscaler", allow_abbrev=False)
    parser.add_argument("--steps", type=int, default=5800, help="batches to learn from")
    parser.add_argument("--width", type=int, default=24, help="channels")
    parser.add_argument("--depth", type=int, default=5, help="convolutions")
    parser.add_argument("--rate", type=float, default=4e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    if args.start is None:
        net = TrainedForm.fresh(args.width, args.depth)
    else:
        digest = hashlib.sha256(args.start.read_bytes()).hexdigest()
        net = TrainedForm.resumed(weights.load(args.start, digest))
    kernels = fit(net, patches.sources(rng), args.steps, args.rate, rng)
    log.info("sha256 %s", weights.save(args.out, kernels))
    return 0


def fit(
    net: TrainedForm,
    kinds: Sequence[patches.Source],
    steps: int,
    rate: float,
    rng: np.random.Generator,
) -> list[Kernel]:
    """Train a network.

    Args:
        net: where to start; changed in place.
        kinds: pictures to cut patches from.
        steps: batches.
        rate: peak learning rate of Adam.
        rng: chooses patches and degradations.

    Returns:
        The moving average of the collapsed kernels.
    """
    optimiser = torch.optim.Adam(net.parameters(), rate, betas=(0.9, 0.99))
    average = [(w.detach().clone(), b.detach().clone()) for w, b in net.kernels()]
    inner = slice(2 * margin(average), -2 * margin(average))
    running = 0.0
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate * _one_cycle(step / steps)
        sharp = patches.cut(kinds, rng)
        kernels = net.kernels()
        error = enlarge(patches.degrade(sharp, rng), kernels) - sharp[..., inner, inner]
        loss = torch.sqrt(error.square() + 1e-4).mean()
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimiser.step()
        _blend(average, kernels, keep=min(0.998, 1 - 10 / (step + 11)))
        running += (float(loss.detach()) - running) * max(0.01, 1 / (step + 1))
        if step % 200 == 199:
            log.info("step %d of %d, loss %.5f", step + 1, steps, running)
    return average


def enlarge(small: torch.Tensor, kernels: Sequence[Kernel]) -> torch.Tensor:
    """Double float luma [n, 1, h, w]; the border that the kernels consume is missing."""
    inner = slice(2 * margin(kernels), -2 * margin(kernels))
    cubic = F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)
    return cubic[..., inner, inner] + correct(small.contiguous(), kernels)


def _one_cycle(done: float) -> float:
    """Rise over the first twentieth of the training, then fall as a cosine to nearly nothing."""
    if done < 0.05:
        return 0.1 + 0.9 * done / 0.05
    return float(0.005 + 0.995 * 0.5 * (1 + np.cos(np.pi * (done - 0.05) / 0.95)))


def _blend(average: Sequence[Kernel], kernels: Sequence[Kernel], keep: float) -> None:
    with torch.no_grad():
        for (weight, bias), (new_weight, new_bias) in zip(average, kernels, strict=True):
            weight.lerp_(new_weight, 1 - keep)
            bias.lerp_(new_bias, 1 - keep)


if __name__ == "__main__":
    raise SystemExit(main())
