from __future__ import annotations

import numpy as np
import pytest

from models.lip_sync import sync
from models.lip_sync.curves import mouth_curves
from models.speech.arpabet import Phoneme
from models.speech.synthesis import synthesise


@pytest.mark.parametrize("shift", [-5, -1, 0, 3, 8])
def test_a_shift_between_picture_and_command_is_found(shift):
    curves = mouth_curves(synthesise("My new bike may be waiting by the pool.").phonemes, 100, 25)
    seen = (np.roll(curves.open, shift), np.roll(curves.width, shift))
    assert sync.lag(seen, (curves.open, curves.width), 25) == pytest.approx(shift / 25, abs=0.01)


def test_a_closure_counts_only_where_the_lips_are_seen_closed():
    gap = np.full(50, 0.15, np.float32)
    gap[24:27] = 0.01
    line = [Phoneme("B", 0.98, 1.06), Phoneme("P", 1.5, 1.56), Phoneme("AA", 0.2, 0.3)]
    assert sync.closures(gap, line, 25) == [True, False]


def test_absent_faces_are_left_out():
    a = np.array([0, 1, np.nan, 3, 4], np.float32)
    assert sync.correlation(a, np.arange(5, dtype=np.float32)) == pytest.approx(1.0)


def test_a_constant_curve_correlates_with_nothing():
    assert sync.correlation(np.ones(9, np.float32), np.arange(9, dtype=np.float32)) == 0.0


def test_noise_has_more_jitter_than_a_smooth_curve():
    smooth = np.sin(np.arange(100) / 8).astype(np.float32)
    noisy = smooth + np.random.default_rng(1).normal(0, 0.5, 100).astype(np.float32)
    assert sync.jitter(smooth) < 0.1 < sync.jitter(noisy)
