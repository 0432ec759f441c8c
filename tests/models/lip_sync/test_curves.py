from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.lip_sync.curves import mouth_curves
from models.speech.arpabet import CLASSES, LABIAL_STOPS, Phoneme


def say(*symbols: str, each: float = 0.1, start: float = 0.3) -> list[Phoneme]:
    return [Phoneme(s, start + i * each, start + (i + 1) * each) for i, s in enumerate(symbols)]


def frame(seconds: float, fps: float = 25) -> int:
    return int(seconds * fps)


@pytest.mark.parametrize("fps", [12.5, 24, Fraction(30000, 1001), 25, 50, 60])
@pytest.mark.parametrize("symbol", sorted(LABIAL_STOPS))
def test_a_short_closure_is_never_skipped(fps, symbol):
    for shift in np.linspace(0, 0.08, 9):
        line = [
            Phoneme("AA", 0.2, 0.5 + shift),
            Phoneme(symbol, 0.5 + shift, 0.55 + shift),
            Phoneme("AA", 0.55 + shift, 0.9),
        ]
        curves = mouth_curves(line, int(1.2 * fps), fps)
        near = curves.open[frame(0.42 + shift, float(fps)) : frame(0.62 + shift, float(fps)) + 1]
        assert near.min() < 0.05


def test_vowels_open_in_the_order_of_their_height():
    peak = {
        v: float(mouth_curves(say("AA", v, each=0.3), 40, 25).open[frame(0.72)])
        for v in ("AA", "EH", "IH", "UW")
    }
    assert peak["AA"] > peak["EH"] > peak["IH"] > peak["UW"]


def test_rounding_narrows_and_spreading_widens():
    curves = mouth_curves(say("UW", "IY", each=0.3), 40, 25)
    assert curves.width[frame(0.42)] < -0.5
    assert curves.width[frame(0.75)] > 0.4


def test_silence_keeps_the_mouth_closed():
    curves = mouth_curves([], 30, 25)
    assert len(curves) == 30
    assert not curves.open.any()
    late = mouth_curves(say("AA", start=2.0), 75, 25)
    assert late.open[:40].max() < 0.02


def test_the_mouth_leads_the_sound():
    curves = mouth_curves(say("AA", each=0.2, start=1.0), 2000, 1000)
    centre = float((np.arange(2000) * curves.open).sum() / curves.open.sum()) / 1000
    assert centre == pytest.approx(1.1 - 0.02, abs=0.008)


def test_an_offset_moves_the_curves_with_the_sound():
    base = mouth_curves(say("AA", "M", "IY"), 100, 25)
    moved = mouth_curves(say("AA", "M", "IY"), 100, 25, offset=0.4)
    np.testing.assert_allclose(moved.open[10:60], base.open[:50], atol=2e-3)


def test_a_quiet_stretch_opens_less_when_the_level_counts():
    line = say(*["AA"] * 10)
    level = np.full(200, 0.2, np.float32)
    level[:30], level[80:], level[130:] = 0.0005, 0.01, 0.0005
    loud = mouth_curves(line, 50, 25)
    gained = mouth_curves(line, 50, 25, energy=level)
    assert gained.open[frame(1.1)] < 0.8 * loud.open[frame(1.1)]


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="fps"):
        mouth_curves([], 10, 0)
    with pytest.raises(ValueError, match="frames"):
        mouth_curves([], -1, 25)


@settings(max_examples=40, deadline=None)
@given(
    symbols=st.lists(st.sampled_from(sorted(CLASSES)), max_size=30),
    each=st.floats(0.02, 0.4),
    frames=st.integers(0, 120),
)
def test_curves_stay_in_range_for_any_speech(symbols, each, frames):
    curves = mouth_curves(say(*symbols, each=each), frames, 25)
    assert curves.open.shape == curves.width.shape == (frames,)
    assert np.isfinite(curves.open).all()
    assert np.isfinite(curves.width).all()
    if frames:
        assert curves.open.min() >= 0
        assert curves.open.max() <= 1
        assert np.abs(curves.width).max() <= 1
