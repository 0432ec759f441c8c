from __future__ import annotations

import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from include.errors import Bug
from include.media.audio import Audio, read_audio, write_wav
from include.media.encode import DeliveryWriter
from include.media.ffmpeg_process import ffmpeg_binary
from include.media.mux import mux_mp4, remux_mp4
from include.media.pixels import rgb_to_yuv420
from include.media.probe import probe_video
from include.media.structure import boxes

Make = Callable[..., Path]
RATE = 48_000
FPS = Fraction(25)
FLASH = 30


@pytest.fixture(scope="module")
def click_and_flash(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two seconds: frame 30 is white, and at its very start the sound clicks."""
    folder = tmp_path_factory.mktemp("click")
    with DeliveryWriter(folder / "v.mp4", (96, 64), FPS) as writer:
        for number in range(50):
            level = 255 if number == FLASH else 20
            writer.write(rgb_to_yuv420(np.full((64, 96, 3), level, np.uint8)))
    samples = np.zeros((2 * RATE, 2), np.float32)
    start = round(FLASH / FPS * RATE)
    samples[start : start + 24] = 0.9
    write_wav(folder / "a.wav", Audio(samples, RATE))
    return folder / "v.mp4", folder / "a.wav"


@pytest.fixture(scope="module")
def muxed(click_and_flash: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mux_mp4(*click_and_flash, tmp_path_factory.mktemp("muxed") / "out.mp4")


def flash_and_click_by_pyav(path: Path) -> tuple[float, float, float]:
    with av.open(str(path)) as container:
        flash = next(
            float(frame.time or 0)
            for frame in container.decode(video=0)
            if np.asarray(frame.planes[0])[:1000].mean() > 150
        )
    with av.open(str(path)) as container:
        blocks = list(container.decode(audio=0))
    first = float(blocks[0].time or 0)
    samples = np.concatenate([block.to_ndarray() for block in blocks], axis=1)
    onset = int(np.argmax(np.abs(samples[0]) > 0.3)) / RATE
    return flash, first + onset, first + samples.shape[1] / RATE


def test_click_and_flash_coincide_for_pyav(muxed: Path) -> None:
    flash, click, end = flash_and_click_by_pyav(muxed)
    assert flash == pytest.approx(FLASH / FPS, abs=1e-4)
    assert click == pytest.approx(flash, abs=1e-3)
    assert end == pytest.approx(2.0, abs=0.03)


def test_click_and_flash_coincide_for_ffmpeg(muxed: Path, tmp_path: Path) -> None:
    command = [ffmpeg_binary(), "-v", "error", "-i", str(muxed)]
    subprocess.run([*command, "-c:a", "pcm_s16le", str(tmp_path / "a.wav")], check=True)
    luma = subprocess.run(
        [*command, "-f", "rawvideo", "-pix_fmt", "gray", "-"], check=True, capture_output=True
    ).stdout
    frames = np.frombuffer(luma, np.uint8).reshape(-1, 64 * 96).mean(axis=1)
    sound = read_audio(tmp_path / "a.wav")
    assert len(frames) == 50
    assert int(np.argmax(frames)) == FLASH
    onset = int(np.argmax(np.abs(sound.samples[:, 0]) > 0.3)) / RATE
    assert onset == pytest.approx(FLASH / FPS, abs=1e-3)
    assert sound.duration_s == pytest.approx(2.0, abs=0.03)


def test_the_picture_is_copied_and_the_index_is_in_front(
    muxed: Path, click_and_flash: tuple[Path, Path]
) -> None:
    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(p) for p in container.demux(video=0) if p.size]

    assert packets(muxed) == packets(click_and_flash[0])
    with open(muxed, "rb") as file:
        kinds = [box.kind for box in boxes(muxed, file, 0, muxed.stat().st_size)]
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    facts = probe_video(muxed)
    assert (facts.matrix, facts.color_range, facts.audio_codec) == ("bt709", "tv", "aac")


def test_the_same_input_gives_the_same_bytes(
    click_and_flash: tuple[Path, Path], muxed: Path, tmp_path: Path
) -> None:
    assert mux_mp4(*click_and_flash, tmp_path / "b.mp4").read_bytes() == muxed.read_bytes()


def test_sound_longer_or_shorter_than_the_picture_keeps_its_length(
    click_and_flash: tuple[Path, Path], tmp_path: Path
) -> None:
    for seconds in (1.2, 2.7):
        noise = np.random.default_rng(0).normal(0, 0.1, (round(seconds * RATE), 2))
        write_wav(tmp_path / "a.wav", Audio(noise.astype(np.float32), RATE))
        path = mux_mp4(click_and_flash[0], tmp_path / "a.wav", tmp_path / "o.mp4")
        with av.open(str(path)) as container:
            count = sum(block.samples for block in container.decode(audio=0))
        assert count / RATE == pytest.approx(seconds, abs=0.03)
        assert probe_video(path).frames == 50


def test_a_silent_video_and_tags(click_and_flash: tuple[Path, Path], tmp_path: Path) -> None:
    path = mux_mp4(
        click_and_flash[0], None, tmp_path / "o.mp4", {"title": "Frühling = 春", "artist": "a"}
    )
    with av.open(str(path)) as container:
        assert not container.streams.audio
        assert container.metadata["title"] == "Frühling = 春"
        assert container.metadata["artist"] == "a"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(Bug, match=r"o\.mp4"):
        mux_mp4(tmp_path / "v.mp4", None, tmp_path / "o.mp4")
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


@pytest.mark.parametrize(
    ("name", "codecs", "expected"),
    [
        ("a.mkv", ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac"), "h264"),
        ("a.webm", ("-c:v", "libvpx", "-c:a", "libopus"), "h264"),
    ],
)
def test_what_is_not_mp4_becomes_mp4(
    make: Make, tmp_path: Path, name: str, codecs: tuple[str, ...], expected: str
) -> None:
    source = make(
        name,
        *("-f", "lavfi", "-i", "testsrc2=s=96x64:d=1", "-f", "lavfi", "-i", "sine=440:d=1"),
        *codecs,
    )
    facts = probe_video(remux_mp4(source, tmp_path / "o.mp4"))
    assert (facts.container, facts.codec, facts.has_audio) == ("mp4", expected, True)
    assert [p.name for p in tmp_path.iterdir()] == ["o.mp4"]
