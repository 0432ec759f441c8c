"""Put picture and sound into the MP4 that is delivered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ffmpeg

from include.errors import BadMedia
from include.media import limits, structure
from include.media.encode import temporary_name
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg
from include.media.probe import check_structure
from include.media.sandbox import run_limited_ffmpeg
from include.media.x264 import x264_params

AUDIO_BITRATE = 160_000  # bits a second
# The index in front, so that a player can start before all of the file has come.
_MP4: dict[str, Any] = {
    "format": "mp4",
    "movflags": "+faststart",
    "map_metadata": -1,
    "map_chapters": -1,
    "fflags": "+bitexact",
}


def mux_mp4(
    video: Path, audio_wav: Path | None, dst: Path, metadata: Mapping[str, str] | None = None
) -> Path:
    """Join a video's picture, copied as it is, with a sound encoded to AAC.

    The encoder's priming samples are hidden by an edit list, so that sound and picture start
    together, and the sound keeps its full length. The result appears under its name when complete.

    Args:
        video: our own delivery video.
        audio_wav: our own WAV; None for a silent video.
        dst: the MP4 to make.
        metadata: further tags, such as ``title``.

    Returns:
        ``dst``.

    Raises:
        StoreUnavailable: the disk is full (code ``disk.full``).
        Bug: ffmpeg failed.
    """
    streams = [ffmpeg.input(f"file:{os.path.abspath(video)}", protocol_whitelist="file").video]
    options: dict[str, Any] = {"vcodec": "copy", **_MP4}
    if audio_wav is not None:
        source = ffmpeg.input(
            f"file:{os.path.abspath(audio_wav)}", format="wav", protocol_whitelist="file"
        )
        streams.append(source.audio)
        options |= {"acodec": "aac", "b:a": AUDIO_BITRATE, "flags:a": "+bitexact"}
    tags = {f"metadata:g:{n}": f"{k}={v}" for n, (k, v) in enumerate((metadata or {}).items())}
    temporary = temporary_name(dst)
    output = ffmpeg.output(*streams, f"file:{os.path.abspath(temporary)}", **options, **tags)
    try:
        run_ffmpeg(_command(output), "writing", dst)
        os.replace(temporary, dst)
    finally:
        temporary.unlink(missing_ok=True)
    return dst


def remux_mp4(src: Path, dst: Path) -> Path:
    """Put a stranger's video into MP4 as it is; what MP4 cannot hold is encoded anew.

    For tools that read MP4 only. Runs in the limited child.

    Args:
        src: a video that ``probe_video`` accepts.
        dst: the MP4 to make.

    Returns:
        ``dst``.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
    """
    container = check_structure(src, structure.VIDEO_CONTAINERS, limits.VIDEO.max_bytes)
    demuxer = structure.DEMUXERS[container]
    source = ffmpeg.input(
        f"file:{os.path.abspath(src)}",
        format=demuxer,
        protocol_whitelist="file",
        format_whitelist=demuxer,
        codec_whitelist=limits.DECODERS,
        max_pixels=limits.VIDEO.max_pixels,
        threads=1,
    )
    streams = [source["v:0"], source["a:0?"]]
    temporary = temporary_name(dst)
    target = f"file:{os.path.abspath(temporary)}"
    attempts: tuple[dict[str, Any], ...] = (
        {"c": "copy"},
        {
            "vcodec": "libx264",
            "preset": "veryfast",
            "crf": 18,
            "pix_fmt": "yuv420p",
            "x264-params": x264_params("threads=1"),
            "threads": 1,
        },
    )
    try:
        said = ""
        for codecs in attempts:
            output = ffmpeg.output(*streams, target, **codecs, **_MP4)
            returncode, said = run_limited_ffmpeg(_command(output), src, limits.NORMALISE)
            if not returncode:
                os.replace(temporary, dst)
                return dst
    finally:
        temporary.unlink(missing_ok=True)
    raise BadMedia(
        f"{src}: it cannot be put into MP4 ({said[-300:]}): export it as MP4",
        code="media.undecodable",
        where=str(src),
    )


def _command(output: Any) -> list[str]:
    return list(ffmpeg.compile(output.global_args(*GLOBAL_ARGUMENTS), cmd=ffmpeg_binary()))
