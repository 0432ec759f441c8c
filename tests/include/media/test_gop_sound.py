"""Joined videos with their sound, read by two readers: times, edit lists, click and flash."""

from __future__ import annotations

import itertools
import os
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from include.media.audio import Audio, read_audio, write_wav
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.gops import join_gops
from include.media.pixels import rgb_to_yuv420
from include.media.structure import boxes
from tests.include.media.gop_clips import (
    NTSC,
    RATE,
    SIZE,
    check_times,
    decoded,
    write_gop,
)
from tests.services import gstreamer

FLASH = 47


def click_and_flash(folder: Path, fps: Fraction, rate: int, seconds: float) -> Path:
    """Frame 47, the first of a GOP, is white, and at its very start the sound clicks."""
    parts = []
    for start, stop in itertools.pairwise([0, 20, 21, 23, FLASH, FLASH + 1, 75]):
        frames = [
            rgb_to_yuv420(np.full((64, 96, 3), 255 if n == FLASH else 20, np.uint8))
            for n in range(start, stop)
        ]
        parts.append(write_gop(folder / f"{start}.mp4", frames, fps))
    samples = np.zeros((round(seconds * rate), 2), np.float32)
    onset = round(FLASH / fps * rate)
    samples[onset : onset + 24] = 0.9
    write_wav(folder / "a.wav", Audio(samples, rate))
    return join_gops(
        parts, fps, folder / "out.mp4", audio_wav=folder / "a.wav", metadata={"title": "Grün = ok"}
    )


@pytest.fixture(scope="module", params=[(Fraction(25), 48_000, 3.0), (NTSC, 44_100, 2.2)])
def sounding(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Fraction, int, float]:
    fps, rate, seconds = request.param
    path = click_and_flash(tmp_path_factory.mktemp("sound"), fps, rate, seconds)
    return path, fps, rate, seconds


def test_click_and_flash_coincide(
    sounding: tuple[Path, Fraction, int, float], tmp_path: Path
) -> None:
    path, fps, rate, seconds = sounding
    with av.open(str(path)) as container:
        levels = [
            (
                Fraction(frame.time_base or 0) * (frame.pts or 0),
                np.asarray(frame.planes[0])[:900].mean(),
            )
            for frame in container.decode(video=0)
        ]
        assert container.metadata["title"] == "Grün = ok"
    assert max(levels, key=lambda pair: pair[1])[0] == FLASH / fps
    command = [ffmpeg_binary(), "-v", "error", "-i", str(path), "-c:a", "pcm_s16le"]
    subprocess.run([*command, str(tmp_path / "a.wav")], check=True)
    sound = read_audio(tmp_path / "a.wav")
    onset = int(np.argmax(np.abs(sound.samples[:, 0]) > 0.3)) / rate
    assert onset == pytest.approx(float(FLASH / fps), abs=1e-3)
    assert sound.duration_s == pytest.approx(seconds, abs=1024 / rate)
    check_times(path, fps, 75)


def edit_lists(path: Path) -> list[dict[str, int]]:
    """Each track's timescale and only edit, and the movie's timescale, read from the boxes."""
    tracks: list[dict[str, int]] = []
    movie = 0
    data = path.read_bytes()

    def number(at: int, size: int = 4) -> int:
        return int.from_bytes(data[at : at + size], "big")

    with open(path, "rb") as file:

        def walk(start: int, end: int) -> None:
            nonlocal movie
            for box in boxes(path, file, start, end):
                assert box.kind not in (b"mvhd", b"mdhd", b"elst") or data[box.start] == 0
                if box.kind == b"mvhd":
                    movie = number(box.start + 12)
                elif box.kind == b"trak":
                    tracks.append({"movie": movie})
                    walk(box.start, box.end)
                elif box.kind == b"mdhd":
                    tracks[-1] |= {"scale": number(box.start + 12)}
                elif box.kind == b"elst":
                    assert number(box.start + 4) == 1
                    tracks[-1] |= {"lasts": number(box.start + 8), "from": number(box.start + 12)}
                elif box.kind in (b"moov", b"mdia", b"edts"):
                    walk(box.start, box.end)

        walk(0, len(data))
        kinds = [box.kind for box in boxes(path, file, 0, len(data))]
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    return tracks


def test_edit_lists_say_exactly_what_plays(sounding: tuple[Path, Fraction, int, float]) -> None:
    path, fps, rate, seconds = sounding
    picture, sound = edit_lists(path)
    assert Fraction(picture["from"], picture["scale"]) == 2 / fps  # the decoder's delay
    assert Fraction(picture["lasts"], picture["movie"]) == 75 / fps
    assert Fraction(sound["from"], sound["scale"]) == Fraction(1024, rate)  # the encoder's priming
    assert Fraction(sound["lasts"], sound["movie"]) == Fraction(round(seconds * rate), rate)


def test_a_silent_video_has_only_a_picture(joined: Path) -> None:
    (picture,) = edit_lists(joined)
    assert Fraction(picture["lasts"], picture["movie"]) == 38 / NTSC


def test_the_same_gops_give_the_same_bytes(seven: list[Path], tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2)).astype(np.float32)
    write_wav(tmp_path / "a.wav", Audio(noise, RATE))
    first, second = (
        join_gops(seven, NTSC, tmp_path / name, audio_wav=tmp_path / "a.wav").read_bytes()
        for name in ("a.mp4", "b.mp4")
    )
    assert first == second


# -- a second implementation -------------------------------------------------------------------

system = pytest.mark.skipif(
    os.environ.get("UNDERSTUDY_SYSTEM_TESTS") != "1",
    reason="GStreamer's MP4 reader and FAAD2 from Debian: set UNDERSTUDY_SYSTEM_TESTS=1",
)


def decoded_by_openh264(stream: Path) -> npt.NDArray[np.uint8]:
    """Decode an H.264 byte stream; uint8 [frames, h * 3 / 2, w], in the order of showing."""
    command = [ffmpeg_binary(), "-v", "error", "-f", "h264", "-c:v", "libopenh264"]
    options = ["-fps_mode", "passthrough", "-f", "rawvideo", "-"]
    done = subprocess.run([*command, "-i", str(stream), *options], check=True, capture_output=True)
    assert done.stderr == b""
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, SIZE[1] * 3 // 2, SIZE[0])


@system
def test_a_second_reader_and_decoder_agree_on_pictures_and_times(
    joined: Path, tmp_path: Path
) -> None:
    gstreamer.install()
    found = gstreamer.read(joined, tmp_path / "a.h264")["pictures"]
    exact = [float(n / NTSC * 10**9) for n in range(38)]
    assert sorted(picture["shown"] for picture in found) == pytest.approx(exact, abs=1)
    assert all(picture["decoded"] <= picture["shown"] for picture in found)
    for before, after in itertools.pairwise(found):
        assert after["decoded"] - before["decoded"] == pytest.approx(float(10**9 / NTSC), abs=1)
    assert {round(picture["lasts"] * NTSC / 10**9, 6) for picture in found} == {1}
    shown = decoded_by_openh264(tmp_path / "a.h264")
    assert [frame.tobytes() for frame in shown] == decoded(joined)


@system
def test_a_second_reader_and_decoder_see_click_and_flash_together(
    sounding: tuple[Path, Fraction, int, float], tmp_path: Path
) -> None:
    gstreamer.install()
    path, fps, rate, seconds = sounding
    found = gstreamer.read(path, tmp_path / "a.h264", sound=True)
    times = sorted(picture["shown"] for picture in found["pictures"])
    levels = decoded_by_openh264(tmp_path / "a.h264")[:, : SIZE[1]].mean(axis=(1, 2))
    assert len(times) == len(levels) == 75
    flash = times[int(np.argmax(levels))]
    assert flash == pytest.approx(float(FLASH / fps * 10**9), abs=1)
    sound = found["sound"]
    unit = 1024 / rate * 10**9
    assert sound["rate"] == rate
    assert sound["onset"] == pytest.approx(flash, abs=1e6)
    assert sound["lasts"] == pytest.approx(seconds * 10**9, abs=1)
    # The priming is left out. qtdemux also leaves out a last unit that ends with the movie.
    assert sound["starts"] == 0
    assert sound["ends"] == pytest.approx(seconds * 10**9, abs=unit)
