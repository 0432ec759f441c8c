from __future__ import annotations

import io
import os
import struct
import wave
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from include.errors import BadMedia, OutOfMemory, UnsafeMedia
from include.media import limits, sandbox
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.probe import probe_audio, probe_image, probe_video

Make = Callable[..., Path]
H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast")


def source(graph: str) -> tuple[str, ...]:
    return ("-f", "lavfi", "-i", graph)


def test_facts_of_an_ordinary_video(clip: Path) -> None:
    facts = probe_video(clip)
    assert (facts.container, facts.codec, facts.pix_fmt) == ("mp4", "h264", "yuv420p")
    assert (facts.width, facts.height, facts.rotation) == (160, 120, 0)
    assert (facts.fps, facts.vfr, facts.frames) == (Fraction(25), False, 25)
    assert facts.duration_s == pytest.approx(1.0)
    assert (facts.has_audio, facts.audio_codec, facts.audio_rate) == (True, "aac", 44100)


def test_colour_and_range_are_read(make: Make) -> None:
    path = make(
        "c.mkv",
        *source("testsrc2=s=128x96:d=1,setparams=range=pc:colorspace=bt470bg:color_trc=bt709"),
        *H264,
    )
    facts = probe_video(path)
    assert (facts.container, facts.color_range, facts.matrix) == ("matroska", "pc", "bt470bg")
    assert facts.transfer == "bt709"
    assert facts.primaries is None


def test_a_video_without_sound_is_accepted(make: Make) -> None:
    facts = probe_video(make("silent.mp4", *source("testsrc2=s=128x96:d=1"), *H264))
    assert not facts.has_audio
    assert facts.audio_rate is None


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_size_is_told_after_the_rotation_flag(make: Make, degrees: int) -> None:
    plain = make("plain.mp4", *source("testsrc2=s=128x96:d=1"), *H264)
    turned = make("turned.mp4", "-display_rotation", str(degrees), "-i", str(plain), "-c", "copy")
    facts = probe_video(turned)
    assert facts.rotation == degrees
    assert (facts.coded_width, facts.coded_height) == (128, 96)
    assert (facts.width, facts.height) == ((128, 96) if degrees == 180 else (96, 128))


@pytest.mark.parametrize("flag", ["-display_hflip", "-display_vflip"])
def test_a_mirroring_flag_is_refused_and_not_taken_for_a_rotation(make: Make, flag: str) -> None:
    plain = make("plain.mp4", *source("testsrc2=s=128x96:d=1"), *H264)
    mirrored = make("mirrored.mp4", flag, "-i", str(plain), "-c", "copy")
    with pytest.raises(BadMedia, match="mirrors the picture") as refused:
        probe_video(mirrored)
    assert refused.value.code == "video.rotation"


def test_a_variable_frame_rate_is_noticed(make: Make) -> None:
    path = make(
        "vfr.mp4",
        *source("testsrc2=s=128x96:r=30:d=2"),
        *("-vf", "select='not(mod(n,3))+gt(n,30)'", "-fps_mode", "vfr", *H264),
    )
    facts = probe_video(path)
    assert facts.vfr
    assert facts.frames < 60


@pytest.mark.parametrize("rate", ["24000/1001", "25", "30000/1001", "60"])
@pytest.mark.parametrize("container", ["mp4", "mkv"])
def test_rounded_times_are_not_a_variable_rate(make: Make, rate: str, container: str) -> None:
    path = make(f"cfr.{container}", *source(f"testsrc2=s=64x64:r={rate}:d=1"), *H264)
    facts = probe_video(path)
    assert not facts.vfr
    assert float(facts.fps) == pytest.approx(float(Fraction(rate)), rel=2e-3)


def test_odd_sizes_are_facts_not_errors(make: Make) -> None:
    path = make(
        "odd.mp4", *source("testsrc=s=131x97:d=1"), "-pix_fmt", "yuv444p", "-c:v", "libx264"
    )
    facts = probe_video(path)
    assert (facts.width, facts.height) == (131, 97)


def test_a_webm_from_a_browser_is_accepted(make: Make) -> None:
    path = make(
        "b.webm",
        *source("testsrc2=s=96x64:d=1"),
        *source("sine=440:d=1"),
        *("-c:v", "libvpx", "-b:v", "200k", "-live", "1", "-c:a", "libopus"),
    )
    facts = probe_video(path)
    assert (facts.codec, facts.audio_codec) == ("vp8", "opus")


# --- what must be refused -------------------------------------------------------------------------


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(bytes((width + 7) // 8 + 1) * min(height, 200))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("payload.txt", "hello" * 100)
    return buffer.getvalue()


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content) + 8) + kind + content


def jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 40).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


HOSTILE_VIDEOS: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "hls playlist": (
        "a.mp4",
        "media.playlist",
        lambda _: b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    ),
    "concat script": (
        "a.mp4",
        "media.playlist",
        lambda _: b"ffconcat version 1.0\nfile /etc/passwd\n",
    ),
    "dash manifest": ("a.mp4", "media.playlist", lambda _: b"<?xml version='1.0'?><MPD></MPD>"),
    "session description": (
        "a.mp4",
        "media.playlist",
        lambda _: b"v=0\no=- 0 0 IN IP4 127.0.0.1\n",
    ),
    "text": ("a.mp4", "media.magic", lambda _: b"this is no video at all, sorry. " * 9),
    "picture": ("a.mp4", "media.magic", lambda _: jpeg(64, 64)),
    "zip": ("a.mp4", "media.magic", lambda _: zipped()),
    "heic": ("a.mp4", "media.magic", lambda good: good[:8] + b"heic" + good[12:]),
    "empty": ("a.mp4", "media.empty", lambda _: b""),
    "truncated": ("a.mp4", "media.truncated", lambda good: good[: len(good) // 2]),
    "last byte missing": ("a.mp4", "media.truncated", lambda good: good[:-1]),
    "no index": ("a.mp4", "media.truncated", lambda good: good[: good.index(b"moov") - 4]),
    "zip behind it": ("a.mp4", "media.polyglot", lambda good: good + zipped()),
    "garbage behind it": ("a.mp4", "media.polyglot", lambda good: good + b"xyz"),
    "payload in filler": (
        "a.mp4",
        "media.polyglot",
        lambda good: good + box(b"free", bytes(2 << 20)),
    ),
    "protected entry": ("a.mp4", "media.encrypted", lambda good: good.replace(b"avc1", b"encv")),
    "protection header": ("a.mp4", "media.encrypted", lambda good: good + box(b"pssh", bytes(24))),
    "a million empty boxes": (
        "a.mp4",
        "media.too_many_parts",
        lambda good: good + box(b"free", b"") * 300_000,
    ),
    "noise with a header": (
        "a.mp4",
        "video.no_video_stream",
        lambda good: good[:32] + box(b"moov", box(b"mvhd", bytes(100))),
    ),
}


@pytest.mark.parametrize("name", HOSTILE_VIDEOS)
def test_hostile_videos_are_refused_with_their_code(tmp_path: Path, clip: Path, name: str) -> None:
    filename, code, forge = HOSTILE_VIDEOS[name]
    path = tmp_path / filename
    path.write_bytes(forge(clip.read_bytes()))
    with pytest.raises(BadMedia) as caught:
        probe_video(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message
    assert ": " in caught.value.message


def test_links_folders_and_missing_files_are_refused(tmp_path: Path, clip: Path) -> None:
    link = tmp_path / "link.mp4"
    link.symlink_to(clip)
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    expected = {
        link: "media.symlink",
        fifo: "media.not_regular",
        tmp_path: "media.not_regular",
        tmp_path / "missing.mp4": "media.missing",
    }
    for path, code in expected.items():
        with pytest.raises(BadMedia) as caught:
            probe_video(path)
        assert caught.value.code == code


def test_an_oversized_file_is_refused_before_it_is_read(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(clip.read_bytes())
    os.truncate(path, limits.VIDEO.max_bytes + 1)  # sparse
    with pytest.raises(UnsafeMedia) as caught:
        probe_video(path)
    assert caught.value.code == "media.too_large"


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("video.too_short", (*source("testsrc2=s=128x96:r=25:d=0.04"), *H264)),
        ("video.too_small", (*source("testsrc2=s=32x96:d=1"), *H264)),
        ("video.too_large", (*source("color=s=4800x64:r=10:d=1"), *H264)),
        ("video.too_long", (*source("color=s=64x64:r=5:d=200"), *H264)),
        ("video.frame_rate", (*source("testsrc2=s=64x64:r=250:d=1"), *H264)),
        ("video.frame_rate", (*source("testsrc2=s=64x64:r=1:d=8"), *H264)),
        ("video.codec", (*source("testsrc2=s=64x64:d=1"), "-c:v", "mjpeg")),
        ("video.pix_fmt", (*source("testsrc2=s=64x64:d=1"), "-c:v", "libx264rgb")),
        (
            "video.hdr",
            (
                *source("testsrc2=s=64x64:d=1,setparams=color_trc=smpte2084"),
                *("-pix_fmt", "yuv420p10le", "-c:v", "libx264", "-preset", "ultrafast"),
            ),
        ),
        ("video.no_video_stream", (*source("sine=440:d=1"), "-c:a", "aac")),
        (
            "video.several_streams",
            (
                *source("testsrc2=s=64x64:d=1"),
                *("-map", "0", "-map", "0", *H264),
            ),
        ),
        (
            "media.too_many_streams",
            (*source("testsrc2=s=64x64:d=1"), *("-map", "0") * 12, *H264),
        ),
    ],
)
def test_videos_out_of_bounds_are_refused(
    make: Make, code: str, arguments: tuple[str, ...]
) -> None:
    with pytest.raises(BadMedia) as caught:
        probe_video(make("a.mkv", *arguments))
    assert caught.value.code == code


def test_a_damaged_matroska_is_truncated_or_foreign(tmp_path: Path, make: Make) -> None:
    good = make("g.mkv", *source("testsrc2=s=64x64:d=1"), *H264).read_bytes()
    path = tmp_path / "a.mkv"
    for data, code in [
        (good[: len(good) // 2], "media.truncated"),
        (good + zipped(), "media.polyglot"),
    ]:
        path.write_bytes(data)
        with pytest.raises(BadMedia) as caught:
            probe_video(path)
        assert caught.value.code == code


def test_nesting_without_end_is_no_way_to_stop_us(tmp_path: Path, make: Make) -> None:
    good = make("g.mkv", *source("testsrc2=s=64x64:d=1"), *H264).read_bytes()
    nested = b""
    for _ in range(3000):
        # A Tracks element in a Tracks element, sizes in eight bytes.
        nested = b"\x16\x54\xae\x6b\x01" + len(nested).to_bytes(7, "big") + nested
    at = good.index(b"\x16\x54\xae\x6b")
    path = tmp_path / "a.mkv"
    path.write_bytes(good[:at] + nested + good[at:])
    with pytest.raises(BadMedia):
        probe_video(path)


# --- photos ---------------------------------------------------------------------------------------

HOSTILE_PHOTOS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "text": ("a.jpg", "media.magic", lambda: b"just some text named like a photo"),
    "svg": ("a.jpg", "media.playlist", lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "gif": ("a.png", "media.magic", lambda: b"GIF89a" + bytes(100)),
    "empty": ("a.jpg", "media.empty", lambda: b""),
    "png bomb": ("a.png", "image.bomb", lambda: png(40_000, 40_000)),
    "large png": ("a.png", "image.too_large", lambda: png(8000, 8000)),
    "large jpeg": ("a.jpg", "image.too_large", lambda: declared_jpeg(9000, 9000)),
    "fill bytes only": ("a.jpg", "media.truncated", lambda: b"\xff\xd8" + b"\xff" * 2_000_000),
    "cut jpeg": ("a.jpg", "media.truncated", lambda: jpeg(300, 300)[:9000]),
    "cut in its header": ("a.jpg", "media.truncated", lambda: jpeg(300, 300)[:60]),
    "cut png": ("a.png", "media.truncated", lambda: png(64, 64)[:-14]),
    "png with a zip": ("a.png", "media.polyglot", lambda: png(64, 64) + zipped()),
    "broken png": (
        "a.png",
        "media.undecodable",
        lambda: png(64, 64).replace(b"\x78\x9c", b"\x00\x00"),
    ),
}


def declared_jpeg(width: int, height: int) -> bytes:
    data = bytearray(jpeg(64, 64))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.mark.parametrize("name", HOSTILE_PHOTOS)
def test_hostile_photos_are_refused_with_their_code(tmp_path: Path, name: str) -> None:
    filename, code, forge = HOSTILE_PHOTOS[name]
    path = tmp_path / filename
    path.write_bytes(forge())
    with pytest.raises(BadMedia) as caught:
        probe_image(path)
    assert caught.value.code == code
    assert str(path) in caught.value.message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(120, 80), (8, 8)])
def test_facts_of_a_photo_come_from_its_content(
    tmp_path: Path, kind: str, size: tuple[int, int]
) -> None:
    path = tmp_path / "photo.bin"
    Image.new("RGB", size, (90, 60, 30)).save(path, kind)
    facts = probe_image(path)
    assert (facts.container, facts.width, facts.height) == (kind.lower(), *size)


# --- sounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codec", "arguments"),
    [
        ("a.wav", "pcm_s16le", ()),
        ("a.mp3", "mp3", ("-c:a", "libmp3lame")),
        ("a.flac", "flac", ()),
        ("a.m4a", "aac", ("-c:a", "aac")),
        ("a.ogg", "opus", ("-c:a", "libopus")),
        ("a.webm", "opus", ("-c:a", "libopus")),
    ],
)
def test_facts_of_a_sound(make: Make, name: str, codec: str, arguments: tuple[str, ...]) -> None:
    facts = probe_audio(make(name, *source("sine=440:r=48000:d=1"), "-ac", "2", *arguments))
    assert (facts.codec, facts.rate, facts.channels) == (codec, 48000, 2)
    assert facts.duration_s == pytest.approx(1.0, abs=0.1)


def test_sounds_that_cannot_be_used_are_refused(tmp_path: Path, make: Make, clip: Path) -> None:
    text = tmp_path / "a.wav"
    text.write_text("no sound")
    silent = make("silent.mp4", *source("testsrc2=s=128x96:d=1"), *H264)
    long = tmp_path / "long.wav"
    with wave.open(str(long), "wb") as writer:
        writer.setparams((1, 1, 8000, 0, "NONE", ""))
        writer.writeframes(bytes(700 * 8000))
    slow = make("s.wav", *source("anullsrc=r=4000:cl=mono:d=1"))
    for path, code in [
        (text, "media.magic"),
        (silent, "audio.no_audio_stream"),
        (long, "audio.too_long"),
        (slow, "audio.format"),
    ]:
        with pytest.raises(BadMedia) as caught:
            probe_audio(path)
        assert caught.value.code == code
    assert probe_audio(clip).codec == "aac"


# --- the child ------------------------------------------------------------------------------------


def test_a_child_that_needs_too_much_memory_is_stopped(tmp_path: Path) -> None:
    greedy = [ffmpeg_binary(), "-v", "error", *source("color=s=16000x16000"), "-f", "null", "-"]
    with pytest.raises(UnsafeMedia) as caught:
        sandbox.run_limited_ffmpeg(greedy, tmp_path, replace(limits.PROBE, memory_bytes=256 << 20))
    assert caught.value.code == "media.resources"


def test_an_ffmpeg_that_uses_up_its_time_is_refused(tmp_path: Path) -> None:
    endless = [ffmpeg_binary(), "-v", "error", *source("color"), "-f", "null", "-"]
    with pytest.raises(UnsafeMedia) as caught:
        sandbox.run_limited_ffmpeg(endless, tmp_path, replace(limits.PROBE, cpu_s=1))
    assert caught.value.code == "media.resources"


def test_a_child_that_hangs_is_stopped(tmp_path: Path) -> None:
    short = limits.ProcessLimits(1 << 30, 10, 1 << 20, 32, 0.3)
    with pytest.raises(UnsafeMedia) as caught:
        sandbox.run_limited_ffmpeg(["/bin/sleep", "30"], tmp_path, short)
    assert caught.value.code == "media.timeout"


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("while :; do :; done", "media.resources"),
        ("exec head -c 3000000 /dev/zero > $0", "media.resources"),
        ("kill -SEGV $$", "media.crashed"),
    ],
)
def test_a_child_that_breaks_its_limits_is_refused(tmp_path: Path, script: str, code: str) -> None:
    bounds = limits.ProcessLimits(1 << 30, 1, 1 << 20, 32, 20)
    command = ["/bin/bash", "-c", f"exec 2>/dev/null; {script}", str(tmp_path / "out")]
    with pytest.raises(UnsafeMedia) as caught:
        sandbox.run_limited_ffmpeg(command, tmp_path, bounds)
    assert caught.value.code == code


def test_a_child_killed_by_the_system_is_worth_a_retry(tmp_path: Path) -> None:
    with pytest.raises(OutOfMemory):
        sandbox.run_limited_ffmpeg(["/bin/bash", "-c", "kill -9 $$"], tmp_path, limits.PROBE)


def test_a_child_sees_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    _, said = sandbox.run_limited_ffmpeg(
        ["/bin/bash", "-c", "env >&2; ulimit -c >&2; ulimit -n >&2"], tmp_path, limits.PROBE
    )
    assert "secret" not in said
    assert said.splitlines()[-2:] == ["0", str(limits.PROBE.open_files)]
