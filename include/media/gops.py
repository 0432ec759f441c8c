"""The delivered video in pieces: closed GOPs encoded one by one and joined without encoding again.

A GOP is a complete run of x264 in a file of its own, so what a GOP's bytes are depends on its own
frames and the parameters, never on its neighbours; several may be made at a time. x264's
``stitchable`` keeps the headers (SPS, PPS) the same for any pictures, any length and any ``crf``,
and for the presets superfast and veryfast; another size, frame rate or preset changes them, and
such GOPs do not join.

x264 runs in this process, through PyAV, and not in an ffmpeg of its own: starting one costs as
much as encoding two frames of 720p, and each frame would go through a pipe. PyAV lets other
threads run while it encodes.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import av

from include.errors import (
    BadMedia,
    Bug,
    CorruptArtifact,
)
from include.media import h264
from include.media.av_writer import translated
from include.media.encode import temporary_name
from include.media.h264_writer import H264Writer
from include.media.mux import AUDIO_BITRATE
from include.media.structure import boxes
from include.media.x264 import x264_params

# x264 never reorders by more: one frame for B-frames, one more when they are references themselves.
_REORDER = 2
_OPEN_SOURCES = 4
_LAYOUTS = {1: "mono", 2: "stereo"}  # a WAV need not say which; audio.py makes no others
_LEAST_TIMESCALE = 10_000
_LARGEST_TIMESCALE = 10_000_000
_X264 = ("keyint=infinite", "scenecut=0", "open-gop=0", "stitchable=1", "threads=1")
# What is copied needs no decoder, and looking into the pictures would take most of the time.
_NO_DECODER = {"codec_whitelist": "none", "probesize": "32"}
_REMEDY = "encode it again with GopWriter and the video's size, rate and preset"


@dataclass(frozen=True, slots=True)
class GopRange:
    """Some whole GOPs inside an MP4 that ``join_gops`` or ``GopWriter`` made.

    Attributes:
        path: the file.
        first_frame: where the first GOP starts, in frames of that file.
        frames: how many frames they have together, at least 1.
    """

    path: Path
    first_frame: int
    frames: int


class GopWriter(H264Writer):
    """Writes ``Yuv420`` frames as one closed GOP of H.264, in an MP4 without sound.

    However many frames come make one GOP: only its first is a keyframe. Read it with
    ``decode.VideoReader``, join it with ``join_gops``. The bytes depend on pixels and parameters
    only. Writers may run in parallel threads.

    Args:
        path: the file to make, by custom ``.mp4``.
        size: width and height, both even.
        fps: frame rate.
        crf: x264's constant rate factor, 1 (best) to 51.
        preset: x264's speed preset.

    Raises:
        Bug: an odd size, or a ``crf`` that is no number of x264's High profile.
    """

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        fps: Fraction | int,
        *,
        crf: int = 18,
        preset: str = "veryfast",
    ) -> None:
        if not 1 <= crf <= 51:
            raise Bug(f"crf must be 1 to 51, got {crf} for {path}")
        options = {"preset": preset, "crf": str(crf), "profile": "high"}
        options["x264-params"] = x264_params(*_X264)
        super().__init__(path, size, fps, options)
        self._without_sei: Any = None

    def _open(self) -> None:
        self._container = _mp4(self._temporary, self._fps)
        self._add_stream()
        # x264 says in each run's first picture what it is: 700 bytes that no decoder needs.
        self._without_sei = av.BitStreamFilterContext("filter_units=remove_types=6", self._stream)

    def _mux(self, packets: Iterable[Any]) -> None:
        super()._mux(kept for packet in packets for kept in self._without_sei.filter(packet))


def join_gops(
    gops: Iterable[Path | GopRange],
    fps: Fraction | int,
    dst: Path,
    *,
    audio_wav: Path | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Join GOPs in the given order, copied as they are, with a sound encoded to AAC once.

    Frame k is shown at exactly k / fps. The decoder's delay and the sound encoder's priming are
    hidden by edit lists, and the sound keeps its full length. The index is in front; the result
    appears under its name when complete. Memory does not depend on the pictures' number but for
    the MP4's index, some hundred bytes a frame; few files are open at a time.

    Args:
        gops: what to join; a path stands for all of the file. May be a generator.
        fps: the video's frame rate, which every GOP must have.
        dst: the MP4 to make.
        audio_wav: our own WAV; None for a silent video.
        metadata: further tags, such as ``title``.

    Returns:
        ``dst``.

    Raises:
        CorruptArtifact: a GOP cannot be read, is incomplete, does not start with an IDR picture,
            or has another frame rate or other headers than the first; names the file.
        StoreUnavailable: the disk is full (code ``disk.full``).
        Bug: there are no GOPs, or writing failed.
    """
    dst = Path(dst)
    temporary = temporary_name(dst)
    try:
        with _Sources(Fraction(fps)) as sources, translated("writing", dst):
            joined = _Joined(temporary, Fraction(fps), audio_wav, metadata or {})
            with contextlib.closing(joined):
                for gop in gops:
                    joined.append(gop, sources)
                joined.finish(dst)
        os.replace(temporary, dst)
    finally:
        temporary.unlink(missing_ok=True)
    return dst


def _timescale(fps: Fraction) -> int:
    """Ticks a second in which a frame is a whole number, as fine as players are used to."""
    scale = fps.numerator
    while scale < _LEAST_TIMESCALE:
        scale *= 2
    return scale


def _mp4(path: Path, fps: Fraction, options: Mapping[str, str] | None = None) -> Any:
    basic = {"fflags": "+bitexact", "video_track_timescale": str(_timescale(fps))}
    return av.open(f"file:{path}", "w", format="mp4", options={**basic, **(options or {})})


class _Sources:
    """Opens what is joined, a few files at a time, and yields their pictures as packets."""

    def __init__(self, fps: Fraction) -> None:
        self._fps = fps
        self._open: OrderedDict[Path, Any] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def stream(self, path: Path) -> Any:
        """Open a file, or find it open, and return its video stream.

        Raises:
            CorruptArtifact: it is no such file.
        """
        if path in self._open:
            self._open.move_to_end(path)
        else:
            with _reading(path):
                _check_whole(path)
                self._open[path] = av.open(f"file:{path}", format="mp4", options=_NO_DECODER)
        if len(self._open) > _OPEN_SOURCES:
            self._open.popitem(last=False)[1].close()
        stream = next(iter(self._open[path].streams.video), None)
        if stream is None or stream.codec_context.name != "h264" or not stream.frames:
            raise _corrupt(path, "it has no H.264 picture")
        return stream

    def pictures(self, gop: GopRange, stream: Any) -> Iterator[tuple[int, Any]]:
        """Yield number of frame, in that file, and packet, in decoding order.

        Raises:
            CorruptArtifact: the file is damaged, ends early, or has other times than its frames.
        """
        ticks = 1 / (stream.time_base * self._fps)
        first, left = int(gop.first_frame * ticks), gop.frames
        with _reading(gop.path):
            stream.container.seek(first, stream=stream, backward=True)
            for packet in stream.container.demux(stream):
                if packet.pts is None or packet.is_corrupt:
                    break
                if not left:
                    if not packet.is_keyframe:
                        raise _corrupt(gop.path, f"the range ends inside a GOP: {gop}")
                    return
                number = packet.pts / ticks
                if left == gop.frames and number != gop.first_frame:
                    raise _corrupt(gop.path, f"no GOP starts at frame {gop.first_frame}")
                if number.denominator != 1 or packet.duration != ticks:
                    raise _corrupt(gop.path, f"its frame rate is not {self._fps}")
                yield int(number), packet
                left -= 1
        if left:
            raise _corrupt(gop.path, f"its last {left} frames are missing")


@dataclass(slots=True)
class _Gop:
    """The pictures of the GOP that is being copied."""

    path: Path
    first: int
    shown: set[int] = field(default_factory=set)

    def add(self, number: int) -> int:
        """Take one more picture in; return its place in the order of showing."""
        place = number - self.first
        if place < 0 or place in self.shown or len(self.shown) - place > _REORDER:
            raise _corrupt(self.path, f"frame {number} is not where its GOP has it")
        self.shown.add(place)
        return place

    def end(self) -> int:
        """Return how many frames the complete GOP has."""
        count = len(self.shown)
        if count and max(self.shown) != count - 1:
            raise _corrupt(self.path, f"frames between {self.first} and the GOP's end are missing")
        return count

    def following(self, first: int) -> _Gop:
        """Return the next GOP of the file, which has to start where this one ends."""
        if first != self.first + len(self.shown):
            raise _corrupt(self.path, f"frames before {first} are missing")
        return _Gop(self.path, first)


class _Joined:
    """The file that is being joined: numbers the pictures and lets the sound follow them."""

    def __init__(
        self, path: Path, fps: Fraction, audio_wav: Path | None, tags: Mapping[str, str]
    ) -> None:
        self._fps, self._frames = fps, 0
        self._sound = _Sound(audio_wav) if audio_wav else None
        scale = math.lcm(_timescale(fps), self._sound.rate if self._sound else 1)
        # Edit lists count in the movie's ticks; sound and picture are whole numbers of these.
        options = {"movie_timescale": str(scale)} if scale <= _LARGEST_TIMESCALE else {}
        # No bit rate (btrt): it would be that of the first source, and bytes would depend on it.
        options |= {"movflags": "+faststart", "write_btrt": "0"}
        self._container = _mp4(path, fps, options)
        self._container.metadata.update(tags)
        self._stream: Any = None
        self._reference = b"", Path()
        self._headers: h264.Headers | None = None
        self._last_idr: int | None = None

    def append(self, what: Path | GopRange, sources: _Sources) -> None:
        """Copy one file or range."""
        path = what.path if isinstance(what, GopRange) else Path(what)
        source = sources.stream(path)
        self._check_headers(path, source)
        gop = what if isinstance(what, GopRange) else GopRange(path, 0, source.frames)
        if gop.first_frame < 0 or gop.frames < 1:
            raise Bug(f"{gop} is no range of frames")
        current = _Gop(path, gop.first_frame)
        for number, packet in sources.pictures(gop, source):
            try:
                idr = h264.is_idr(bytes(packet))
                if idr:
                    self._frames += current.end()
                    current = current.following(number)
                    packet = self._numbered(packet)
                elif not current.shown:
                    raise _corrupt(path, "its first picture is no IDR picture")
                else:
                    self._last_idr = None
            except h264.BadStream as error:
                raise _corrupt(path, str(error)) from error
            self._mux(packet, self._frames + current.add(number), len(current.shown) - 1)
        self._frames += current.end()

    def _check_headers(self, path: Path, source: Any) -> None:
        headers = bytes(source.codec_context.extradata or b"")
        if self._stream is None:
            try:
                self._headers = h264.read_headers(headers)
            except h264.BadStream as error:
                raise _corrupt(path, str(error)) from error
            self._reference = headers, path
            self._stream = self._container.add_stream_from_template(source, opaque=True)
            self._stream.time_base = 1 / self._fps
            if self._sound is not None:
                self._sound.attach(self._container)
        elif headers != self._reference[0]:
            raise _corrupt(path, f"its H.264 headers differ from those of {self._reference[1]}")

    def _numbered(self, packet: Any) -> Any:
        """Give an IDR picture that follows another directly the other of the numbers 0 and 1."""
        if self._headers is None:
            raise Bug("pictures came before their headers")
        data = bytes(packet)
        wanted = 0 if self._last_idr is None else 1 - self._last_idr
        self._last_idr = wanted
        if h264.idr_number(data, self._headers) == wanted:
            return packet
        changed = av.Packet(h264.with_idr_number(data, self._headers, wanted))
        changed.is_keyframe = True
        return changed

    def _mux(self, packet: Any, shown: int, place: int) -> None:
        packet.stream, packet.time_base = self._stream, 1 / self._fps
        packet.pts, packet.dts, packet.duration = shown, self._frames + place - _REORDER, 1
        if self._sound is not None:
            self._sound.encode_until(packet.dts / self._fps)
        self._container.mux(packet)

    def finish(self, dst: Path) -> None:
        """Write the rest of the sound and the index."""
        if self._stream is None:
            raise Bug(f"there are no GOPs to join to {dst}")
        if self._sound is not None:
            self._sound.finish()
        self._container.close()

    def close(self) -> None:
        """Let go of all files, whatever happened."""
        with contextlib.suppress(OSError, av.FFmpegError):
            self._container.close()
        if self._sound is not None:
            self._sound.close()


class _Sound:
    """Encodes a WAV to AAC as far as the pictures have come."""

    def __init__(self, wav: Path) -> None:
        self._source = av.open(f"file:{wav}", format="wav")
        self._input = self._source.streams.audio[0]
        self.rate = int(self._input.rate)
        self._frames: Iterator[Any] = iter(self._source.decode(self._input))
        self._at: Fraction | float = Fraction(0)
        self._container: Any = None
        self._stream: Any = None

    def attach(self, container: Any) -> None:
        """Add the sound's track to the file."""
        self._container = container
        self._stream = container.add_stream(
            "aac", rate=self.rate, layout=_LAYOUTS[self._input.channels]
        )
        self._stream.bit_rate = AUDIO_BITRATE
        self._stream.codec_context.options = {"flags": "+bitexact"}

    def encode_until(self, second: Fraction | float) -> None:
        """Encode all that sounds before this time."""
        while self._at <= second:
            frame = next(self._frames, None)
            if frame is None:
                self._at = math.inf
                self._container.mux(self._stream.encode(None))
            else:
                self._at = Fraction(frame.pts + frame.samples) * frame.time_base
                self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Encode what is left."""
        self.encode_until(float(2**62))

    def close(self) -> None:
        """Close the WAV."""
        self._source.close()


def _check_whole(path: Path) -> None:
    size = path.stat().st_size
    with open(path, "rb") as file:
        end = max((box.end for box in boxes(path, file, 0, size)), default=0)
    if not size or end != size:
        raise _corrupt(path, "it is cut short")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (av.FFmpegError, OSError, BadMedia) as error:
        raise _corrupt(path, f"it cannot be read ({error})") from error


def _corrupt(path: Path, what: str) -> CorruptArtifact:
    return CorruptArtifact(
        f"the GOPs in {path} cannot be joined: {what}: {_REMEDY}", where=str(path)
    )
