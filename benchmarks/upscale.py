"""How much better than Lanczos is `compact`, and how long does a frame take?

    python -m benchmarks.upscale [--out FILE]

Every held-out picture is halved in every named way and doubled again. PSNR is measured twice: on
BT.601 luma (``psnr_y``, the convention of the super-resolution literature and the headline) and on
RGB (``psnr_rgb``), both on 8-bit results without their outer 8 pixels. SSIM is scikit-image's, on
luma, with the Gaussian window of the original paper. Time is the best of several runs on one
thread, because other work on the machine can only add to it; CPU time is given beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from models.quality.fidelity import BORDER, fidelity
from models.upscale import BACKENDS, load_upscaler
from models.upscale.degrade import NAMES, halve
from models.upscale.images import HELD_OUT, read

if TYPE_CHECKING:
    from models.upscale.base import Upscaler

FRAME = (540, 960)
METRICS = ("psnr_y", "psnr_rgb", "ssim_y")


def main(argv: list[str] | None = None) -> int:
    """Print the tables and write them as JSON."""
    parser = argparse.ArgumentParser(description="quality and speed of the upscalers")
    parser.add_argument("--out", type=Path, default=Path(".understudy/bench/upscale.json"))
    parser.add_argument("--repeat", type=int, default=5, help="runs per timed backend")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    upscalers = {name: load_upscaler(name, 2) for name in BACKENDS}
    rows = [row for degradation in NAMES for row in measure(degradation, upscalers)]
    medians = [summarise(degradation, rows) for degradation in NAMES]
    seconds = {name: time_frame(upscaler, args.repeat) for name, upscaler in upscalers.items()}
    report(rows, medians, seconds)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "benchmark": "upscale",
        "scale": 2,
        "border": BORDER,
        "weights_sha256": BACKENDS["compact"].weights_sha256,
        "rows": rows,
        "medians": medians,
        "seconds_per_960x540_frame": seconds,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {args.out}")
    return 0


Row = dict[str, str | float]


def measure(degradation: str, upscalers: dict[str, Upscaler]) -> list[Row]:
    """Score every backend on every held-out picture under one degradation."""
    rows: list[Row] = []
    for image in HELD_OUT:
        full = read(image)
        sharp = full[: full.shape[0] // 2 * 2, : full.shape[1] // 2 * 2]
        small = halve(sharp, degradation)
        for name, upscaler in upscalers.items():
            row: Row = {"degradation": degradation, "image": image.name, "backend": name}
            row.update(fidelity(sharp, upscaler.upscale(small)))
            rows.append(row)
    return rows


def summarise(degradation: str, rows: list[Row]) -> Row:
    """Take medians over the pictures, of each backend's scores and of the gain on each picture."""
    out: Row = {"degradation": degradation}
    for metric in METRICS:
        scores = {
            name: [
                float(row[metric])
                for row in rows
                if row["degradation"] == degradation and row["backend"] == name
            ]
            for name in BACKENDS
        }
        for name, values in scores.items():
            out[f"{name}_{metric}"] = statistics.median(values)
        gains = [a - b for a, b in zip(scores["compact"], scores["lanczos"], strict=True)]
        out[f"gain_{metric}"] = statistics.median(gains)
    return out


def time_frame(upscaler: Upscaler, repeat: int) -> dict[str, float]:
    """Time one 960x540 frame: least wall and CPU seconds of `repeat` runs after a warm-up."""
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME, 3), dtype=np.uint8)
    upscaler.upscale(frame)
    wall, cpu = [], []
    for _ in range(max(1, repeat)):
        start, start_cpu = time.perf_counter(), time.process_time()
        upscaler.upscale(frame)
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - start_cpu)
    return {"wall": min(wall), "cpu": min(cpu)}


def report(rows: list[Row], medians: list[Row], seconds: dict[str, dict[str, float]]) -> None:
    """Print the tables."""
    print(f"{'degradation':15s} {'image':9s} {'backend':8s}  PSNR Y PSNR RGB  SSIM Y")
    for row in rows:
        print(
            f"{row['degradation']:15s} {row['image']:9s} {row['backend']:8s}"
            f" {row['psnr_y']:7.2f} {row['psnr_rgb']:8.2f} {row['ssim_y']:7.4f}"
        )
    print("\nmedian over the pictures, and median gain of compact over lanczos")
    for row in medians:
        for metric in METRICS:
            print(
                f"{row['degradation']:15s} {metric:9s} compact {row['compact_' + metric]:8.4f}"
                f" lanczos {row['lanczos_' + metric]:8.4f} gain {row['gain_' + metric]:+8.4f}"
            )
    print()
    for name, spent in seconds.items():
        print(
            f"{name}: {spent['wall']:.3f} s ({spent['cpu']:.3f} s CPU)"
            " for 960x540 -> 1920x1080 on one thread"
        )


if __name__ == "__main__":
    raise SystemExit(main())
