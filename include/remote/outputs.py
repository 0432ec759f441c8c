"""What a model API sent back is a stranger's: checked before it becomes an artifact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from include.contracts.remote import JobStatus
from include.errors import BadMedia, RemoteUnavailable
from include.media import limits
from include.media.decode import VideoReader
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.limits import MIB, ProcessLimits
from include.media.probe import probe_image
from include.media.sandbox import run_limited_ffmpeg
from include.stages.clips import changed_window, clip_name
from include.stages.context import StageContext
from include.stages.timeline import Gop, gops_in, gops_of, spans_of

CLIPS = {"video/x-msvideo": ("avi", "utvideo"), "video/x-matroska": ("matroska", "h264")}
"""Media type of a clip to its only demuxer and codec."""
MEDIA_TYPES = frozenset({*CLIPS, "image/png"})
_KINDS = {"face_swap": "roi", "upscale": "big"}
"""Stage to the kind of its clips; one for each GOP that a recipient changes."""
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


def check_complete(
    ctx: StageContext, index: int | None, files: Mapping[str, Path], facts: Mapping[str, Any]
) -> None:
    """Prove that no frame is missing in what was made.

    Where a clip has no more frames, or there is none, ``compose`` shows what lies below: the
    presenter's own face.

    Args:
        ctx: the unit.
        index: of the chunk that was made; None for all of it.
        files: by output name, each accepted by ``check_media``.
        facts: what the API says of them.

    Raises:
        RemoteUnavailable: ``remote.output``.
    """
    if ctx.spec.name not in _KINDS:
        return
    if index is None:
        gops = [gop for gop in gops_of(ctx) if gop.segment is not None]
    else:
        gops = gops_in(replace(ctx, chunk=spans_of(ctx)[index]))
    try:
        clips = {int(fact["gop"]): [int(side) for side in fact["clip"]] for fact in facts["clips"]}
        left = {int(fact["gop"]) for fact in facts.get("left", ())}
        scale = int(facts.get("scale", 1))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _bad(f"its facts are none of {ctx.spec.name}'s: {error!r}"[:300]) from error
    for gop in gops:
        if gop.index in clips:
            _, _, width, height = clips[gop.index]
            _check_frames(ctx, gop, files, (width * scale, height * scale))
        elif ctx.spec.name == "face_swap" or (
            gop.index not in left and changed_window(ctx, "face_swap", gop)
        ):
            raise _bad(f"it has no clip of frames {gop.start} to {gop.stop}")


def _check_frames(
    ctx: StageContext, gop: Gop, files: Mapping[str, Path], size: tuple[int, int]
) -> None:
    name = clip_name(_KINDS[ctx.spec.name], gop)
    if name not in files:
        raise _bad(f"{name} is missing")
    with VideoReader(files[name]) as reader:
        found = reader.facts
    if (found.frames, found.size) != (gop.frames, size):
        raise _bad(
            f"{name} has {found.frames} frames of {found.width}x{found.height}, it should have "
            f"{gop.frames} of {size[0]}x{size[1]}"
        )


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
