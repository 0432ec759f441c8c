"""Flashes: three in a second may pass, more do not, small or faint ones do not count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from models.safety.flash import FlashCounter, check_badness

FPS = 25


def _strobe(
    hertz: float,
    *,
    area: float = 1.0,
    low: int = 0,
    high: int = 255,
    color: tuple[float, float, float] = (1, 1, 1),
    seconds: int = 3,
) -> list[npt.NDArray[np.uint8]]:
    frames = []
    for index in range(seconds * FPS):
        level = high if (index * hertz / FPS) % 1 < 0.5 else low
        frame = np.full((90, 160, 3), low, np.uint8)
        frame[:, : int(160 * area)] = np.multiply(color, level).astype(np.uint8)
        frames.append(frame)
    return frames


def _count(frames: list[npt.NDArray[np.uint8]]) -> FlashCounter:
    counter = FlashCounter()
    for index, frame in enumerate(frames):
        counter.add(index / FPS, frame)
    return counter


@pytest.mark.parametrize("hertz", [1, 2, 3, 4, 5, 8, 12])
def test_flashes_are_counted(hertz: int) -> None:
    assert _count(_strobe(hertz)).peak().flashes == hertz


@pytest.mark.parametrize(
    ("frames", "verdict"),
    [
        pytest.param(_strobe(3), "pass", id="three a second"),
        pytest.param(_strobe(4), "review", id="four a second"),
        pytest.param(_strobe(10), "block", id="ten a second"),
        pytest.param(_strobe(10, area=0.2), "pass", id="a fifth of the picture"),
        pytest.param(_strobe(10, area=0.3), "block", id="a third of the picture"),
        pytest.param(_strobe(10, low=110, high=125), "pass", id="faint"),
        pytest.param(_strobe(10, low=235, high=255), "pass", id="bright on bright"),
        pytest.param(_strobe(10, color=(0.6, 0, 0)), "block", id="dark red"),
        pytest.param(_strobe(10, color=(0, 0, 0.6)), "pass", id="dark blue"),
    ],
)
def test_the_verdict_follows_the_recommendation(
    frames: list[npt.NDArray[np.uint8]], verdict: str
) -> None:
    (finding,) = _count(frames).findings()
    assert finding.verdict == verdict
    assert finding.check == "flash"


def test_a_red_flash_is_called_red() -> None:
    assert _count(_strobe(5, color=(0.6, 0, 0))).peak().kind == "red"


def test_noise_cuts_and_a_fade_are_no_flashes() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (30, 180, 320, 3), dtype=np.uint8)
    fade = [np.full((90, 160, 3), level, np.uint8) for level in range(0, 250, 5)]
    cut = [np.full((90, 160, 3), 200 * (index > 10), np.uint8) for index in range(50)]
    for frames in (list(noise), fade, cut):
        assert _count(frames).peak().flashes == 0


def test_the_worst_second_is_located() -> None:
    calm = [np.zeros((90, 160, 3), np.uint8)] * (2 * FPS)
    assert _count(calm + _strobe(10)).peak().time_s >= 1.9


def test_the_picture_size_does_not_matter() -> None:
    small = [frame[::5, ::5] for frame in _strobe(6)]
    assert _count(small).peak().flashes == 6  # every fifth pixel
    tiny = [frame[:1, :1] for frame in _strobe(6)]
    assert _count(tiny).peak().flashes == 6


def test_no_frame_is_unavailable() -> None:
    assert [f.verdict for f in FlashCounter().findings()] == ["unavailable"]


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        FlashCounter().add(0.0, np.zeros((4, 4), np.uint8))


def test_badness_becomes_one_finding_a_stretch() -> None:
    series = [(i / 25, 1.6) for i in range(250)]
    series[50:60] = [(i / 25, 15.0 + i / 10) for i in range(50, 60)]
    series[200:210] = [(i / 25, 49.0) for i in range(200, 210)]
    found = check_badness(series)
    assert [f.verdict for f in found] == ["review", "block"]
    assert found[0].time_s == pytest.approx(59 / 25)
    assert found[1].score == 49.0


def test_calm_badness_passes_with_its_highest_value() -> None:
    (finding,) = check_badness([(0.0, 0.0), (0.04, 1.8), (0.08, 1.6)])
    assert (finding.verdict, finding.score) == ("pass", 1.8)


def test_an_empty_series_is_unavailable() -> None:
    assert [f.verdict for f in check_badness([])] == ["unavailable"]
