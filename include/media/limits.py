"""What we accept from strangers, as data: sizes, lengths, codecs, and what a child may use up."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What one child process that opens a stranger's file may use.

    Attributes:
        memory_bytes: address space (RLIMIT_AS).
        cpu_s: processor seconds (RLIMIT_CPU).
        file_bytes: largest file it may write, its answer included (RLIMIT_FSIZE).
        open_files: file descriptors (RLIMIT_NOFILE).
        wall_s: seconds before it is killed.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int
    open_files: int
    wall_s: float


PROBE = ProcessLimits(1024 * MIB, cpu_s=20, file_bytes=MIB, open_files=32, wall_s=60)
DECODE_IMAGE = ProcessLimits(1024 * MIB, cpu_s=20, file_bytes=128 * MIB, open_files=32, wall_s=60)
DECODE_AUDIO = ProcessLimits(1024 * MIB, cpu_s=60, file_bytes=1024 * MIB, open_files=32, wall_s=180)
# A lossless 3-minute 4K mezzanine is tens of gigabytes; the cap is against runaway, not for thrift.
NORMALISE = ProcessLimits(
    3072 * MIB, cpu_s=3600, file_bytes=64 * 1024 * MIB, open_files=64, wall_s=3600
)


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """Bounds of a template video; sizes are in pixels as stored, lengths in seconds."""

    max_bytes: int = 2 << 30
    min_side: int = 64
    max_side: int = 4096
    max_pixels: int = 4096 * 2304
    min_frames: int = 5
    min_duration_s: float = 0.2
    max_duration_s: float = 180.0
    min_fps: int = 5
    max_fps: int = 120
    max_streams: int = 8


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Bounds of a photo. Above ``bomb_pixels`` it is an attack, not a large photo."""

    max_bytes: int = 40 * MIB
    max_pixels: int = 24_000_000
    bomb_pixels: int = 200_000_000


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Bounds of a voice or music file."""

    max_bytes: int = 512 * MIB
    min_duration_s: float = 0.05
    max_duration_s: float = 600.0
    min_rate: int = 8000
    max_rate: int = 192_000
    max_channels: int = 8
    max_streams: int = 8


VIDEO = VideoLimits()
IMAGE = ImageLimits()
AUDIO = AudioLimits()

# Codecs as ffmpeg names them; decoders are what may be opened at all while probing.
VIDEO_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores"})
AUDIO_CODECS = frozenset(
    {"aac", "mp3", "opus", "vorbis", "flac", "alac"}
    | {f"pcm_{kind}" for kind in ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "f32le")}
)
DECODERS = ",".join(
    sorted(VIDEO_CODECS | AUDIO_CODECS | {"libdav1d", "libvpx-vp9", "libvpx", "mp3float"})
)
PIXEL_FORMATS = frozenset(
    {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12"}
    | {"yuv420p10le", "yuv422p10le"}
)
# Perceptual quantiser and hybrid log-gamma: tone mapping them well is a colourist's job.
HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})

# What a variable frame rate is brought to: the nearest of these.
STANDARD_FPS = (
    Fraction(10),
    Fraction(12),
    Fraction(15),
    Fraction(24000, 1001),
    Fraction(24),
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(30),
    Fraction(48),
    Fraction(50),
    Fraction(60000, 1001),
    Fraction(60),
)
