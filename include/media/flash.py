"""Photosensitive flashes, measured by ffmpeg's ``photosensitivity`` filter.

Its badness sums, over the frames of about one second, how much the picture's brightness and colour
jump: full-frame strobing reaches 49, a talking head stays under 1. What is too much is the safety
policy's to say (``models/safety/policy.py``).
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import ffmpeg

from include.errors import Bug
from include.media.decode import VideoReader
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg

WIDTH = 480
"""Pixels: wider pictures are averaged down to this first. The filter compares mean colours of parts
of the picture, which averaging leaves as they are."""
_BADNESS = "lavfi.photosensitivity.badness="


class FlashSample(NamedTuple):
    """Badness of the second that ends with a frame.

    Attributes:
        time_s: the frame's time.
        badness: 0 for a still picture.
    """

    time_s: float
    badness: float


def measure(video: Path) -> list[FlashSample]:
    """Measure a video of ours, one sample a frame.

    Raises:
        Bug: ffmpeg failed or measured nothing.
        CorruptArtifact: it is no video.
    """
    with VideoReader(video) as reader:
        fps = reader.facts.fps
    window = min(240, max(2, round(fps)))
    source = ffmpeg.input(f"file:{video.resolve()}", protocol_whitelist="file", threads=1)
    # The filter starts from black: hold the first frame until that jump has left its memory.
    stream = source.video.filter("scale", f"min({WIDTH},iw)", -2, flags="area")
    stream = stream.filter("tpad", start=window, start_mode="clone")
    stream = stream.filter("photosensitivity", frames=window, bypass=1)
    # Standard error, because the null muxer leaves nothing else and our own runner keeps it.
    stream = stream.filter("metadata", mode="print", file="/dev/stderr", direct=1)
    output = ffmpeg.output(stream, "-", format="null").global_args(*GLOBAL_ARGUMENTS)
    said = run_ffmpeg(
        list(ffmpeg.compile(output, cmd=ffmpeg_binary())), "measuring flashes in", video
    ).decode(errors="replace")
    samples, time_s = [], 0.0
    for line in said.splitlines():
        if line.startswith("frame:"):
            time_s = float(line.rpartition("pts_time:")[2])
        elif line.startswith(_BADNESS):
            samples.append(FlashSample(time_s - window / fps, float(line[len(_BADNESS) :])))
    if len(samples) <= window:
        raise Bug(f"ffmpeg measured no flashes in {video}: {said[-500:]}")
    return samples[window:]


def worst(samples: list[FlashSample]) -> FlashSample:
    """The worst second; the first of several."""
    return max(samples, key=lambda sample: sample.badness)
