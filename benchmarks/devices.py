"""What batches give on a device: frames a second by batch size, memory, distance from the CPU.

    python -m benchmarks.devices [--device cuda] [--scale 2] [--out FILE]

Frames (``--size``) are windows of photographs, the same for every batch. Wall time is the best of
several runs and counts everything from arrays to arrays, copies included. With ``--device cpu`` the
path of a GPU runs on the CPU, to try the benchmark, not to compare with.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.upscale.compact import Compact
from models.upscale.images import HELD_OUT, read

Image = NDArray[np.uint8]
BATCHES = (1, 2, 4, 8, 16)


def main(argv: list[str] | None = None) -> int:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description="what batches give on a device")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the benchmark")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--size", default="960x540", help="width x height of a frame")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".understudy/bench/devices.json"))
    args = parser.parse_args(argv)
    width, height = (int(side) for side in args.size.split("x"))
    upscaler = Compact(args.scale, device=args.device, batched=True, memory_mib=1 << 20)
    pictures = frames(max(BATCHES), height, width)
    exact = Compact(args.scale)
    exact._inner = torch.float32
    apart = np.abs(upscaler.upscale(pictures[0]).astype(int) - exact.upscale(pictures[0]))
    rows = [measure(upscaler, pictures[:size], args.repeat) for size in BATCHES]
    print(f"{name_of(args.device)}: compact, scale {args.scale}, {args.size}")
    print(f"most code values off full precision on the CPU: {apart.max()} ", end="")
    print(f"({100 * (apart > 0).mean():.2f}% of values differ)")
    print(f"{'batch':>6}{'frames/s':>10}{'ms/frame':>10}{'bytes/pixel':>13}")
    for row in rows:
        memory = row["bytes_a_pixel"]
        known = "-" if memory is None else f"{memory:.0f}"
        rate = row["frames_a_second"]
        print(f"{row['batch']:>6}{rate:>10.1f}{1000 / rate:>10.2f}{known:>13}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {"benchmark": "devices", "device": name_of(args.device), "scale": args.scale}
    result |= {"size": args.size, "most_apart": int(apart.max()), "rows": rows}
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {args.out}")
    return 0


def frames(count: int, height: int, width: int) -> list[Image]:
    """Photographs, enlarged to cover a frame; each in several places."""
    made = []
    for index in range(count):
        photo = read(HELD_OUT[index % len(HELD_OUT)])
        factor = max((height + 16) / photo.shape[0], (width + 16) / photo.shape[1])
        large = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        made.append(np.ascontiguousarray(large[index : index + height, index : index + width]))
    return made


def measure(upscaler: Compact, pictures: list[Image], repeat: int) -> dict[str, Any]:
    """Time a batch from arrays to arrays, and see what it takes of the device's memory."""
    on_gpu = torch.cuda.is_available()
    upscaler.upscale_many(pictures)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        upscaler.upscale_many(pictures)
        seconds.append(time.perf_counter() - start)
    around = 2 * upscaler.receptive_field
    height, width = pictures[0].shape[:2]
    pixels = len(pictures) * (height + around) * (width + around) * (upscaler.scale // 2) ** 2
    peak = torch.cuda.max_memory_allocated() / pixels if on_gpu else None
    rate = len(pictures) / min(seconds)
    return {"batch": len(pictures), "frames_a_second": rate, "bytes_a_pixel": peak}


def name_of(device: str) -> str:
    """What the device calls itself."""
    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else device


if __name__ == "__main__":
    raise SystemExit(main())
