"""What batches give on a device: frames a second by batch size, memory, distance from the CPU.

    python -m benchmarks.devices [--device cuda] [--scale 2] [--what upscale,face_swap] [--out FILE]

Frames to upscale (``--size``) are windows of photographs, the same for every batch; a face is
swapped in a window of the sample's presenter, beside the swap that works on one frame after the
other on the CPU. Wall time is the best of several runs and counts everything from arrays to arrays,
copies included. With ``--device cpu`` the path of a GPU runs on the CPU, to try the benchmark, not
to compare with.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from include.media.decode import VideoReader
from include.samples import template as sample
from include.samples.ready import SAMPLES, make_ready
from include.settings import Settings
from models.face.landmarks import FaceMesh
from models.face.quality import assess_photo
from models.face.roi import face_window
from models.face_swap import load_swapper
from models.face_swap.reference import ColourReference
from models.upscale.compact import Compact
from models.upscale.images import HELD_OUT, read

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
BATCHES = (1, 2, 4, 8, 16)


def main(argv: list[str] | None = None) -> int:
    """Print the table and write it as JSON."""
    parser = argparse.ArgumentParser(description="what batches give on a device")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the benchmark")
    parser.add_argument("--scale", type=int, choices=(2, 4), default=2)
    parser.add_argument("--size", default="960x540", help="width x height of a frame")
    parser.add_argument("--what", default="upscale,face_swap", help="one of them or both")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(".understudy/bench/devices.json"))
    args = parser.parse_args(argv)
    result: dict[str, Any] = {"benchmark": "devices", "device": name_of(args.device)}
    print(result["device"])
    if "upscale" in args.what.split(","):
        result["upscale"] = _upscaling(args)
    if "face_swap" in args.what.split(","):
        result["face_swap"] = _swapping(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n")
    print(f"written to {args.out}")
    return 0


def _upscaling(args: argparse.Namespace) -> dict[str, Any]:
    width, height = (int(side) for side in args.size.split("x"))
    upscaler = Compact(args.scale, device=args.device, batched=True, memory_mib=1 << 20)
    pictures = frames(max(BATCHES), height, width)
    exact = Compact(args.scale)
    exact._inner = torch.float32
    apart = np.abs(upscaler.upscale(pictures[0]).astype(int) - exact.upscale(pictures[0]))
    around = 2 * upscaler.receptive_field
    pixels = (height + around) * (width + around) * (args.scale // 2) ** 2
    rows = [
        measure(partial(upscaler.upscale_many, pictures[:size]), size, pixels, args.repeat)
        for size in BATCHES
    ]
    print(f"compact, scale {args.scale}, {args.size}")
    print(f"most code values off full precision on the CPU: {apart.max()} ", end="")
    print(f"({100 * (apart > 0).mean():.2f}% of values differ)")
    _table(rows)
    return {"scale": args.scale, "size": args.size, "most_apart": int(apart.max()), "rows": rows}


def _swapping(args: argparse.Namespace) -> dict[str, Any]:
    pictures, marks, reference, photo = faces(max(BATCHES))
    height, width = pictures[0].shape[:2]
    single = load_swapper("mesh", *photo)
    batched = load_swapper("mesh-batched", *photo, device=args.device, memory_mib=1 << 20)
    wanted = single.swap_many(pictures, marks, reference)
    found = batched.swap_many(pictures, marks, reference)
    apart = np.abs(np.stack([a for a, _ in found]).astype(int) - np.stack([a for a, _ in wanted]))
    pixels = height * width

    alone = partial(single.swap_many, pictures, marks, reference)
    rows = [measure(alone, len(pictures), pixels, args.repeat) | {"batch": 0}]
    for size in BATCHES:
        together = partial(batched.swap_many, pictures[:size], marks[:size], reference)
        rows.append(measure(together, size, pixels, args.repeat))
    print(f"mesh-batched, window {width}x{height}; batch 0: mesh, one by one on the CPU")
    print(f"code values off mesh: mean {apart.mean():.2f}, most {apart.max()}", end="")
    print(f" ({100 * (apart.max(3) > 8).mean():.2f}% of pixels more than 8)")
    _table(rows)
    return {"size": f"{width}x{height}", "most_apart": int(apart.max()), "rows": rows}


def _table(rows: list[dict[str, Any]]) -> None:
    print(f"{'batch':>6}{'frames/s':>10}{'ms/frame':>10}{'bytes/pixel':>13}")
    for row in rows:
        memory = row["bytes_a_pixel"]
        known = "-" if memory is None else f"{memory:.0f}"
        rate = row["frames_a_second"]
        print(f"{row['batch']:>6}{rate:>10.1f}{1000 / rate:>10.2f}{known:>13}")


def faces(count: int) -> tuple[list[Image], list[Points], ColourReference, tuple[Image, Points]]:
    """Windows of the sample's presenter, landmarks in them, their shot, a recipient's photo."""
    make_ready(SAMPLES, Settings.from_env())
    start = sample.OPENING + 5
    with VideoReader(SAMPLES / "media/presenter.mp4") as reader:
        shown = [frame.copy() for frame in reader.frames(start, start + count)]
    with FaceMesh() as mesh:
        found = [mesh.detect(frame)[0].points for frame in shown]
    window = face_window(found, (shown[0].shape[1], shown[0].shape[0]))
    pictures = [np.ascontiguousarray(frame[window.slice()]) for frame in shown]
    marks = [window.to_local(points) for points in found]
    bgr = cv2.imread(str(SAMPLES / "faces/maya.jpg"))
    photo = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    points = assess_photo(photo).points
    reference = ColourReference.measure(list(zip(pictures[:4], marks[:4], strict=True)))
    return pictures, marks, reference, (photo, points)


def frames(count: int, height: int, width: int) -> list[Image]:
    """Photographs, enlarged to cover a frame; each in several places."""
    made = []
    for index in range(count):
        photo = read(HELD_OUT[index % len(HELD_OUT)])
        factor = max((height + 16) / photo.shape[0], (width + 16) / photo.shape[1])
        large = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        made.append(np.ascontiguousarray(large[index : index + height, index : index + width]))
    return made


def measure(work: Callable[[], object], count: int, pixels: int, repeat: int) -> dict[str, Any]:
    """Time a batch from arrays to arrays, and see what it takes of the device's memory.

    Args:
        work: does it once.
        count: frames in it.
        pixels: of a frame, that memory is counted by.
        repeat: how often.
    """
    on_gpu = torch.cuda.is_available()
    work()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / (count * pixels) if on_gpu else None
    return {"batch": count, "frames_a_second": count / min(seconds), "bytes_a_pixel": peak}


def name_of(device: str) -> str:
    """What the device calls itself."""
    return str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else device


if __name__ == "__main__":
    raise SystemExit(main())
