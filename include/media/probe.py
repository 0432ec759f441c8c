"""Facts about a stranger's file, or a refusal that says what to do.

Three steps, each before the next may trust anything: the file itself and its bytes
(``structure``), its streams through PyAV in a limited child with the format forced (``sandbox``),
and the bounds of ``limits``. That every frame decodes is proved where the file is decoded anyway:
in ``normalise`` for videos, in ``audio`` for sounds; a photo is decoded at once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from include.media import limits, structure
from include.media.sandbox import run_child
from include.media.structure import bad, unsafe

_PILLOW_FORMATS = {"jpeg": "JPEG", "png": "PNG", "webp": "WEBP"}


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """What a video is.

    Attributes:
        container: ``mp4`` or ``matroska``, by its bytes.
        codec: such as ``h264``.
        width: pixels after rotation, before the sample aspect ratio.
        height: pixels after rotation, before the sample aspect ratio.
        coded_width: pixels as stored.
        coded_height: pixels as stored.
        rotation: degrees counterclockwise that show it upright: 0, 90, 180 or 270.
        sample_aspect_ratio: width to height of a stored pixel.
        fps: average frames a second.
        usual_fps: frames a second by the time that most frames take; where none is usual, ``fps``.
        vfr: the time between frames varies.
        frames: number of frames, counted.
        duration_s: seconds, measured.
        pix_fmt: as ffmpeg names it.
        primaries: as ffmpeg names it, None when not declared; so the next three.
        transfer: electro-optical transfer.
        matrix: YCbCr matrix.
        color_range: ``tv`` (limited) or ``pc`` (full).
        interlaced: the first frame is two fields.
        has_audio: there is a sound stream.
        audio_codec: its codec, None without; so the next two.
        audio_rate: samples a second.
        audio_channels: number of channels.
        stream_index: of the video among all streams.
        audio_index: of the sound among all streams.
    """

    container: str
    codec: str
    width: int
    height: int
    coded_width: int
    coded_height: int
    rotation: int
    sample_aspect_ratio: Fraction
    fps: Fraction
    usual_fps: Fraction
    vfr: bool
    frames: int
    duration_s: float
    pix_fmt: str
    primaries: str | None
    transfer: str | None
    matrix: str | None
    color_range: str | None
    interlaced: bool
    has_audio: bool
    audio_codec: str | None
    audio_rate: int | None
    audio_channels: int | None
    stream_index: int
    audio_index: int | None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a photo is: container by its bytes, size in pixels once upright."""

    container: str
    codec: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What a sound is; ``duration_s`` is measured from its packets."""

    container: str
    codec: str
    rate: int
    channels: int
    duration_s: float


def probe_video(path: Path) -> VideoFacts:
    """Check a stranger's video and read its facts.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
        UnsafeMedia: it is hostile, disguised or out of bounds.
    """
    container = check_structure(path, structure.VIDEO_CONTAINERS, limits.VIDEO.max_bytes)
    arguments = ["video", structure.DEMUXERS[container], os.path.abspath(path)]
    answer, _ = run_child("probe", arguments, path, limits.PROBE)
    names = {name for name in VideoFacts.__dataclass_fields__ if name != "container"}
    values: dict[str, Any] = {name: answer[name] for name in names}
    for name in ("fps", "usual_fps", "sample_aspect_ratio"):
        values[name] = Fraction(values[name])
    facts = VideoFacts(container=container, **values)
    _check_video(path, facts)
    return facts


def _check_video(path: Path, facts: VideoFacts) -> None:
    bounds = limits.VIDEO
    if facts.pix_fmt not in limits.PIXEL_FORMATS:
        unsafe(
            path,
            "video.pix_fmt",
            f"its pixel format {facts.pix_fmt} is not accepted: export it as 8-bit 4:2:0",
        )
    if facts.transfer in limits.HDR_TRANSFERS:
        bad(path, "video.hdr", "it is high dynamic range: export it in standard range (BT.709)")
    if facts.duration_s > bounds.max_duration_s:
        bad(
            path,
            "video.too_long",
            f"it lasts {facts.duration_s:.1f} s, at most {bounds.max_duration_s:.0f} s are "
            "accepted: cut it shorter",
        )
    if facts.duration_s < bounds.min_duration_s:
        bad(path, "video.too_short", f"it lasts {facts.duration_s:.2f} s: use a longer clip")
    if not bounds.min_fps <= facts.fps <= bounds.max_fps:
        bad(
            path,
            "video.frame_rate",
            f"it has {float(facts.fps):.2f} frames a second, accepted are {bounds.min_fps} to "
            f"{bounds.max_fps}: export it at 25 or 30",
        )
    if not Fraction(1, 4) <= facts.sample_aspect_ratio <= 4:
        bad(path, "video.aspect", "its pixels are absurdly stretched: export it with square ones")


def probe_image(path: Path) -> ImageFacts:
    """Check a stranger's photo, prove that it decodes, and read its facts.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
        UnsafeMedia: it is hostile, disguised or out of bounds.
    """
    container = check_image(path)
    arguments = ["image", pillow_format(container), os.path.abspath(path)]
    answer, _ = run_child("probe", arguments, path, limits.DECODE_IMAGE)
    return ImageFacts(container, container, answer["width"], answer["height"])


def check_image(path: Path) -> str:
    """Check a photo's bytes and declared size without decoding it; return its container."""
    container = check_structure(path, structure.IMAGE_CONTAINERS, limits.IMAGE.max_bytes)
    with open(path, "rb") as file:
        width, height = structure.image_size(path, container, file)
        pixels = width * height
        if pixels > limits.IMAGE.bomb_pixels:
            unsafe(path, "image.bomb", f"it claims {width}x{height} pixels: use a photo")
        if pixels > limits.IMAGE.max_pixels:
            unsafe(
                path,
                "image.too_large",
                f"it has {width}x{height} pixels, at most {limits.IMAGE.max_pixels // 10**6} "
                "million are accepted: make it smaller",
            )
        if container == "png":
            structure.check_png(path, file, os.fstat(file.fileno()).st_size)
    return container


def pillow_format(container: str) -> str:
    """Pillow's name of an image container."""
    return _PILLOW_FORMATS[container]


def probe_audio(path: Path) -> AudioFacts:
    """Check a stranger's sound file and read its facts.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
        UnsafeMedia: it is hostile, disguised or out of bounds.
    """
    container = check_structure(path, structure.AUDIO_CONTAINERS, limits.AUDIO.max_bytes)
    arguments = ["audio", structure.DEMUXERS[container], os.path.abspath(path)]
    answer, _ = run_child("probe", arguments, path, limits.PROBE)
    facts = AudioFacts(container=container, **answer)
    bounds = limits.AUDIO
    if facts.duration_s > bounds.max_duration_s:
        bad(
            path,
            "audio.too_long",
            f"it lasts {facts.duration_s:.0f} s, at most {bounds.max_duration_s:.0f} s are "
            "accepted: cut it shorter",
        )
    if facts.duration_s < bounds.min_duration_s:
        bad(path, "audio.too_short", f"it lasts {facts.duration_s:.2f} s: use a longer recording")
    return facts


def check_structure(path: Path, accepted: frozenset[str], max_bytes: int) -> str:
    """Check the file and its parts without a decoder; return its container.

    Raises:
        BadMedia: missing, empty or cut short.
        UnsafeMedia: not a plain file, disguised, two files in one, encrypted or too large.
    """
    with structure.open_regular(path, max_bytes) as file:
        container = structure.sniff(path, file.read(structure.HEAD_BYTES), accepted)
        length = os.fstat(file.fileno()).st_size
        if container == "mp4":
            structure.check_mp4(path, file, length)
        elif container == "matroska":
            structure.check_matroska(path, file, length)
    return container
