"""``python -m include.rollout.pictures``: one upscaler on pictures that it never learned from.

Each picture is halved in every named way and enlarged again. Runs in the stage worker's
environment, one process for a backend, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from include.backends import weights_file
from include.errors import BadInput, UnderstudyError
from include.media.decode import VideoReader
from include.stages.runner import peak_mib
from models.quality.fidelity import fidelity
from models.upscale import load_upscaler
from models.upscale.base import Upscaler
from models.upscale.degrade import NAMES, halve
from models.upscale.images import HELD_OUT, read

Image = NDArray[np.uint8]


def main(argv: list[str] | None = None) -> int:
    """Measure, write JSON; returns the exit code."""
    args = _parser().parse_args(argv)
    cv2.setNumThreads(1)
    try:
        rows = measure(
            _load(args.backend, args.scale),
            pictures(args.pictures, args.crop, args.scale, args.video, args.frames),
            args.repeat,
        )
    except UnderstudyError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    args.out.write_text(json.dumps(rows), encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="one upscaler on held-out pictures")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--pictures", type=int, default=len(HELD_OUT))
    parser.add_argument("--crop", type=int, default=512, help="longest side, pixels")
    parser.add_argument("--video", type=Path, help="a video whose frames are taken as well")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    return parser


def _load(name: str, scale: int) -> Upscaler:
    try:
        return load_upscaler(name, scale, threads=1, weights=weights_file(name))
    except ValueError as error:
        raise BadInput(f"upscaler {name}: {error}", code="upscaler.weights") from error


def pictures(
    count: int, crop: int, scale: int, video: Path | None, frames: int
) -> Iterator[tuple[str, Image]]:
    """Sharp pictures by name: held out from training, and frames of a video.

    Args:
        count: of the held-out pictures, at most.
        crop: longest side, taken from the middle.
        scale: sides are multiples of it.
        video: one of our own mezzanines; None for no frames.
        frames: how many of it, evenly spread.
    """
    for image in HELD_OUT[:count]:
        yield image.name, _middle(read(image), crop, scale)
    if video is None:
        return
    with VideoReader(video, threads=1) as reader:
        total = reader.facts.frames
        for number in range(min(frames, total)):
            index = (2 * number + 1) * total // (2 * frames)
            frame = next(iter(reader.frames(index, index + 1)))
            yield f"frame-{index:05}", _middle(frame, crop, scale)


def _middle(picture: Image, crop: int, scale: int) -> Image:
    height, width = (min(side, crop) // scale * scale for side in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def measure(
    upscaler: Upscaler, sharp: Iterator[tuple[str, Image]], repeat: int = 3
) -> dict[str, dict[str, float]]:
    """Score an upscaler.

    Args:
        upscaler: what is measured.
        sharp: pictures by name, uint8 [h, w, 3] RGB.
        repeat: runs of which the fastest counts: other work on the machine only adds time.

    Returns:
        By ``<picture>/<degradation>``: ``fidelity``'s figures, ``cpu_per_megapixel`` (processor
        seconds for a million pixels made) and ``peak_mib`` of this process while it was made.
    """
    rows: dict[str, dict[str, float]] = {}
    for name, picture in sharp:
        for degradation in NAMES:
            small = picture
            for _ in range(upscaler.scale // 2):
                small = halve(small, degradation)
            reset_peak()
            found, seconds = _timed(upscaler, small, repeat)
            rows[f"{name}/{degradation}"] = {
                **fidelity(picture, found),
                "cpu_per_megapixel": seconds / (found.shape[0] * found.shape[1] / 1e6),
                "peak_mib": peak_mib(),
            }
    return rows


def _timed(upscaler: Upscaler, small: Image, repeat: int) -> tuple[Image, float]:
    best = float("inf")
    for _ in range(max(1, repeat)):
        start = time.process_time()
        found = upscaler.upscale(small)
        best = min(best, time.process_time() - start)
    return found, best


def reset_peak() -> None:
    """Begin the kernel's high-water mark of our memory anew, where it lets us (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
