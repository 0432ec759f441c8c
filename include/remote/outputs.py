"""What a model API sent back is a stranger's: checked before it becomes an artifact."""

from __future__ import annotations

import re
from pathlib import Path

from include.contracts.remote import JobStatus
from include.errors import BadMedia, RemoteUnavailable
from include.media import limits
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.limits import MIB, ProcessLimits
from include.media.probe import probe_image
from include.media.sandbox import run_limited_ffmpeg

CLIPS = {"video/x-msvideo": ("avi", "utvideo"), "video/x-matroska": ("matroska", "h264")}
"""Media type of a clip to its only demuxer and codec."""
MEDIA_TYPES = frozenset({*CLIPS, "image/png"})
_FILENAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_DECODE = ProcessLimits(2048 * MIB, cpu_s=600, file_bytes=MIB, open_files=32, wall_s=900)


def check_promise(job: JobStatus, max_bytes: int) -> None:
    """Check what a job says it made, before anything is fetched.

    Raises:
        RemoteUnavailable: ``remote.output``.
    """
    total = sum(blob.size for blob in job.outputs.values())
    if total > max_bytes:
        raise _bad(f"its outputs are {total} bytes, at most {max_bytes} are taken (max_bytes)")
    for name, blob in job.outputs.items():
        if blob.media_type not in MEDIA_TYPES or not _FILENAME.fullmatch(blob.filename):
            raise _bad(f"output {name} is {blob.filename[:100]!r}, {blob.media_type[:100]!r}")


def check_media(path: Path, media_type: str) -> None:
    """Prove, in a limited process, that a file is what it should be and decodes to its end.

    Raises:
        RemoteUnavailable: ``remote.output``.
    """
    try:
        if media_type in CLIPS:
            _check_clip(path, *CLIPS[media_type])
        else:
            probe_image(path)
    except BadMedia as error:
        raise _bad(error.message) from error


def _check_clip(path: Path, demuxer: str, codec: str) -> None:
    """The only demuxer, decoder and protocol are named: nothing else of ffmpeg is reached."""
    size = str(limits.VIDEO.max_pixels)
    source = ["-protocol_whitelist", "file", "-format_whitelist", demuxer]
    source += ["-codec_whitelist", codec, "-max_pixels", size, "-threads", "1", "-f", demuxer]
    command = [ffmpeg_binary(), "-hide_banner", "-nostdin", "-loglevel", "error", "-xerror"]
    command += ["-max_alloc", str(256 * MIB), *source, "-i", f"file:{path}"]
    code, said = run_limited_ffmpeg([*command, "-map", "0", "-f", "null", "-"], path, _DECODE)
    if code:
        last = said.splitlines()[-1:] or ["no message"]
        raise _bad(f"{path.name} does not decode: {last[0][:300]}")


def _bad(problem: str) -> RemoteUnavailable:
    return RemoteUnavailable(f"refused what the API made: {problem}", code="remote.output")
