"""GOPs of a drifting texture, and what is in the files that they are joined to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from include.media import h264
from include.media.decode import VideoReader
from include.media.gops import GopWriter
from include.media.pixels import Yuv420, rgb_to_yuv420

NTSC = Fraction(30000, 1001)
SIZE = (96, 64)
RATE = 48_000
RATES = (Fraction(25), NTSC, Fraction(24000, 1001), Fraction(50), Fraction(2997, 100), Fraction(12))


def pictures(count: int, first: int = 0, size: tuple[int, int] = SIZE) -> list[Yuv420]:
    """A textured plane that drifts, with noise: every frame is different, B-frames pay off."""
    width, height = size
    rng = np.random.default_rng(5)
    coarse = rng.integers(30, 220, (height // 8 + 40, width // 8 + 40, 3), dtype=np.uint8)
    plane = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    frames = []
    for n in range(first, first + count):
        x, y = 3 * n % 300, 2 * n % 300
        noise = np.random.default_rng(n).normal(0, 2, (height, width, 3))
        rgb = np.clip(plane[y : y + height, x : x + width] + noise, 0, 255).astype(np.uint8)
        frames.append(rgb_to_yuv420(rgb))
    return frames


def write_gop(
    path: Path, frames: Sequence[Yuv420], fps: Fraction | int = 25, **options: Any
) -> Path:
    with GopWriter(path, (frames[0].width, frames[0].height), fps, **options) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_gops(
    folder: Path, lengths: Sequence[int], fps: Fraction | int = 25, **options: Any
) -> list[Path]:
    starts = [0, *itertools.accumulate(lengths)]
    return [
        write_gop(folder / f"{n}.mp4", pictures(length, start), fps, **options)
        for n, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]


def decoded(path: Path) -> list[bytes]:
    with VideoReader(path) as reader:
        return [frame.to_bytes() for frame in reader.yuv_frames()]


def packets(path: Path) -> list[Any]:
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


def avcc(path: Path) -> bytes:
    with av.open(str(path)) as container:
        return bytes(container.streams.video[0].codec_context.extradata or b"")


def idr_numbers(path: Path) -> list[int | None]:
    """``idr_pic_id`` of each picture in decoding order, None for what is no IDR picture."""
    with av.open(str(path)) as container:
        headers = h264.read_headers(
            bytes(container.streams.video[0].codec_context.extradata or b"")
        )
    return [
        h264.idr_number(data, headers) if h264.is_idr(data) else None
        for data in map(bytes, packets(path))
    ]


def check_times(path: Path, fps: Fraction, count: int) -> None:
    """Frame k is shown at exactly k / fps; decoding times rise and keep one distance."""
    found = packets(path)
    base = Fraction(found[0].time_base)
    shown = [packet.pts * base * fps for packet in found]
    decoding = [packet.dts * base * fps for packet in found]
    assert sorted(shown) == list(range(count))
    assert decoding == [n - 2 for n in range(count)]
    assert all(d <= s for d, s in zip(decoding, shown, strict=True))
    assert {packet.duration * base * fps for packet in found} == {1}
