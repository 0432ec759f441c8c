"""Bring a stranger's video into the one form that all stages read.

The mezzanine: constant frame rate, upright, square pixels, even size, yuv420p 8-bit BT.709 limited
range with centre-sited chroma, lossless. One ffmpeg in a limited child makes it from every frame of
the source, with decoding errors fatal, so it is the proof that all of the file decodes.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import ffmpeg

from include.media import limits
from include.media.decode import ClipFacts, VideoReader
from include.media.encode import BT709_FILTER, lossless_h264_options
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, stderr_tail
from include.media.images import save_jpeg
from include.media.pixels import U8, as_u8, yuv420_to_rgb
from include.media.probe import VideoFacts, probe_video
from include.media.sandbox import run_limited_ffmpeg
from include.media.shots import shot_starts
from include.media.structure import DEMUXERS, bad

AUDIO_RATE = 48_000
_THUMBNAIL_WIDTH = 480
# Undeclared colour: what encoders and players assume by size.
_HD_SIDE = 720
WIDE_GAMUTS = {"bt2020": "BT.2020", "smpte431": "DCI-P3", "smpte432": "Display P3"}
"""Primaries that would look pale if they were only called BT.709, by ffmpeg's name."""
_GAMMAS = {"linear": "linear", "srgb": "iec61966-2-1"}
"""Transfers that are not BT.709's or its twins', as zimg calls them."""
_SCALER_FLAGS = "lanczos+accurate_rnd+full_chroma_int+bitexact"
_CROP_NOTE = "odd size: one pixel cropped at the right or bottom edge"


@dataclass(frozen=True, slots=True)
class NormalisedTemplate:
    """A template in the form that all stages read.

    Attributes:
        video: the mezzanine, lossless yuv420p in Matroska, without sound.
        audio: its sound, 48 kHz stereo 16-bit WAV starting with the first frame; None without.
        thumbnail: a JPEG of a frame that shows something.
        facts: what the source was.
        clip: what the mezzanine is.
        shots: first frame of every shot, ascending, beginning with 0.
        changes: what was changed, in words for the report.
    """

    video: Path
    audio: Path | None
    thumbnail: Path
    facts: VideoFacts
    clip: ClipFacts
    shots: tuple[int, ...]
    changes: tuple[str, ...]


def nominal_fps(facts: VideoFacts) -> Fraction:
    """Choose the constant rate: the standard one nearest to the usual one.

    The average of a recording that now and then drops frames, or stands still, would make all of
    it judder. A constant rate is kept when it is no standard one; within 0.2 % it is that one,
    written imprecisely.
    """
    usual = facts.usual_fps if facts.vfr else facts.fps
    nearest = min(limits.STANDARD_FPS, key=lambda rate: abs(rate - usual))
    if facts.vfr or abs(nearest - facts.fps) <= nearest / 500:
        return nearest
    return facts.fps.limit_denominator(1001)


def output_size(facts: VideoFacts) -> tuple[int, int]:
    """Size of the mezzanine: upright, square pixels, rounded down to even."""
    # The sample aspect ratio is of the stored picture, before rotation.
    ratio = facts.sample_aspect_ratio
    width, height = facts.width, facts.height
    if facts.rotation in (90, 270):
        ratio = 1 / ratio
    if ratio > 1:
        width = round(width * ratio)
    elif ratio < 1:
        height = round(height / ratio)
    return width // 2 * 2, height // 2 * 2


def normalise_template(src: Path, dst_dir: Path) -> NormalisedTemplate:
    """Probe a stranger's video and make its mezzanine, sound, thumbnail and shot list.

    Args:
        src: the video as uploaded.
        dst_dir: an existing folder for what is made.

    Raises:
        BadMedia: it cannot be used; ``code`` says why.
        UnsafeMedia: it is hostile, disguised or out of bounds.
        StoreUnavailable: the disk is full (code ``disk.full``).
    """
    facts = probe_video(src)
    video, audio = dst_dir / "mezzanine.mkv", dst_dir / "audio.wav"
    try:
        _convert(src, facts, video, audio if facts.has_audio else None)
    except BaseException:
        video.unlink(missing_ok=True)
        audio.unlink(missing_ok=True)
        raise
    with VideoReader(video) as reader:
        clip = reader.facts
        shots = tuple(shot_starts(reader.yuv_frames()))
    thumbnail = dst_dir / "thumbnail.jpg"
    save_jpeg(_thumbnail(video, clip, shots), thumbnail, quality=88)
    return NormalisedTemplate(
        video=video,
        audio=audio if facts.has_audio else None,
        thumbnail=thumbnail,
        facts=facts,
        clip=clip,
        shots=shots,
        changes=tuple(_changes(facts)),
    )


def _convert(src: Path, facts: VideoFacts, video: Path, audio: Path | None) -> None:
    demuxer = DEMUXERS[facts.container]
    source = ffmpeg.input(
        f"file:{os.path.abspath(src)}",
        format=demuxer,
        protocol_whitelist="file",
        format_whitelist=demuxer,
        codec_whitelist=limits.DECODERS,
        max_pixels=limits.VIDEO.max_pixels,
        err_detect="explode",
        threads=1,
        noautorotate=None,
    )
    outputs = [
        ffmpeg.output(
            _video_graph(source[str(facts.stream_index)], facts),
            f"file:{os.path.abspath(video)}",
            format="matroska",
            map_metadata=-1,
            fflags="+bitexact",
            **{"flags:v": "+bitexact"},
            **lossless_h264_options(),
        )
    ]
    if audio is not None:
        # The first sample belongs to the first frame; gaps are filled with silence.
        sound = source[str(facts.audio_index)].filter(
            "aresample", AUDIO_RATE, **{"async": 1, "first_pts": 0, "resampler": "swr"}
        )
        outputs.append(
            ffmpeg.output(
                sound,
                f"file:{os.path.abspath(audio)}",
                format="wav",
                acodec="pcm_s16le",
                ac=2,
                map_metadata=-1,
                fflags="+bitexact",
                **{"flags:a": "+bitexact"},
            )
        )
    graph = ffmpeg.merge_outputs(*outputs).global_args(
        *GLOBAL_ARGUMENTS, "-xerror", "-max_alloc", str(256 * limits.MIB), "-filter_threads", "1"
    )
    command = ffmpeg.compile(graph, cmd=ffmpeg_binary())
    returncode, said = run_limited_ffmpeg(command, src, limits.NORMALISE)
    if returncode:
        last = stderr_tail(said.encode()).splitlines()[-1:] or ["no message"]
        bad(
            src,
            "media.undecodable",
            f"not all of it decodes ({last[0]}): it is damaged or cut short, export it again",
        )


def _video_graph(stream: Any, facts: VideoFacts) -> Any:
    if facts.interlaced:
        stream = stream.filter("bwdif", mode="send_frame", deint="interlaced")
    stream = stream.filter("fps", fps=str(nominal_fps(facts)), start_time=0)
    if facts.primaries in WIDE_GAMUTS:
        stream = _wide_to_bt709(stream, facts)
    stream = _upright(stream, facts.rotation)
    width, height = output_size(facts)
    if facts.sample_aspect_ratio == 1 and (width, height) != (facts.width, facts.height):
        # Cropping keeps pixels as they are, scaling by a pixel would blur them all.
        stream = stream.filter("crop", width, height, 0, 0)
    stream = stream.filter("scale", width, height, **_colour_options(facts))
    stream = stream.filter("format", "yuv420p").filter("setsar", 1)
    return stream.filter("setparams", **BT709_FILTER)


def _upright(stream: Any, rotation: int) -> Any:
    """Undo a rotation given in degrees counterclockwise."""
    if rotation == 90:
        return stream.filter("transpose", "cclock")
    if rotation == 270:
        return stream.filter("transpose", "clock")
    if rotation == 180:
        return stream.filter("hflip").filter("vflip")
    return stream


def source_matrix(facts: VideoFacts) -> str:
    """The source's YCbCr matrix: as declared, else the usual one of its size."""
    declared = {
        "bt709": "bt709",
        "smpte170m": "bt601",
        "bt470bg": "bt601",
        "smpte240m": "smpte240m",
        "bt2020nc": "bt2020",
    }.get(facts.matrix or "")
    if declared:
        return declared
    return "bt709" if min(facts.width, facts.height) >= _HD_SIDE else "bt601"


def _wide_to_bt709(stream: Any, facts: VideoFacts) -> Any:
    """Bring wide primaries into BT.709's, in light as displays show it (ITU-R BT.1886).

    Colours that BT.709 does not have are clipped. The result is 10 bits, full chroma, limited
    range.
    """
    matrix = source_matrix(facts)
    own = {"in_color_matrix": matrix, "out_color_matrix": matrix, "flags": _SCALER_FLAGS}
    stream = stream.filter("scale", in_range=_range(facts), out_range="limited", **own)
    stream = stream.filter("format", "yuv444p10le")
    source = {
        "primariesin": facts.primaries,
        "transferin": _GAMMAS.get(facts.transfer or "", "bt709"),
        "matrixin": {"bt601": "smpte170m", "bt2020": "bt2020nc"}.get(matrix, matrix),
        "rangein": "limited",
    }
    target = {"primaries": "bt709", "transfer": "bt709", "matrix": "bt709", "range": "limited"}
    return stream.filter("zscale", **source, **target)


def _range(facts: VideoFacts) -> str:
    full = facts.color_range == "pc" or facts.pix_fmt.startswith("yuvj")
    return "full" if full else "limited"


def _colour_options(facts: VideoFacts) -> dict[str, Any]:
    done = facts.primaries in WIDE_GAMUTS
    return {
        "in_color_matrix": "bt709" if done else source_matrix(facts),
        "out_color_matrix": "bt709",
        "in_range": "limited" if done else _range(facts),
        "out_range": "limited",
        "out_chroma_loc": "center",
        "flags": _SCALER_FLAGS,
    }


def _changes(facts: VideoFacts) -> list[str]:
    notes = []
    rate = nominal_fps(facts)
    if facts.vfr:
        notes.append(f"variable frame rate: made constant at {float(rate):.3f} frames a second")
    if facts.rotation:
        notes.append(f"rotation flag: turned by {facts.rotation} degrees")
    if facts.sample_aspect_ratio != 1:
        notes.append("stretched pixels: scaled to square ones")
    elif facts.width % 2 or facts.height % 2:
        notes.append(_CROP_NOTE)
    if facts.interlaced:
        notes.append("interlaced: made progressive")
    other = _range(facts) == "full" or source_matrix(facts) != "bt709"
    if facts.primaries in WIDE_GAMUTS:
        notes.append(f"wide colours ({WIDE_GAMUTS[facts.primaries]}) brought into BT.709")
    elif other or facts.pix_fmt != "yuv420p":
        notes.append("colour converted to 8-bit BT.709, limited range")
    if not facts.has_audio:
        notes.append("no sound: the template is silent")
    return notes


def _thumbnail(video: Path, clip: ClipFacts, shots: tuple[int, ...]) -> U8:
    """The frame with most detail out of the middle of each shot, at most 480 wide."""
    best, best_score = None, -1.0
    ends = (*shots[1:], clip.frames)
    with VideoReader(video) as reader:
        for start, end in list(zip(shots, ends, strict=True))[:12]:
            middle = (start + end) // 2
            for frame in reader.yuv_frames(middle, middle + 1):
                score = float(frame.y.std())
                if score > best_score:
                    best, best_score = yuv420_to_rgb(frame), score
    if best is None:
        bad(video, "video.too_short", "it has no frame: use a longer clip")
    scale = min(1.0, _THUMBNAIL_WIDTH / clip.width)
    size = (max(1, round(clip.width * scale)), max(1, round(clip.height * scale)))
    return as_u8(cv2.resize(best, size, interpolation=cv2.INTER_AREA))
