"""The statistics agree with scipy's, and say drift exactly when both size and chance do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from include.drift import statistics
from include.drift.compare import column_of, judge
from include.expectations.suites import DriftRule
from include.features.catalogue import FEATURES

LUMA = next(f for f in FEATURES["photo"] if f.name == "luma")
CONTAINER = next(f for f in FEATURES["photo"] if f.name == "container")
ALPHA = 1e-4


def normal(seed, size, mean=0.0, sd=1.0):
    return np.sort(np.random.default_rng(seed).normal(mean, sd, size))


@pytest.mark.parametrize("sizes", [(200, 200), (2000, 200), (200, 1500), (37, 1000)])
@pytest.mark.parametrize("shift", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_distances_and_p_values_agree_with_scipy(sizes, shift, rounded):
    a, b = normal(1, sizes[0]), normal(2, sizes[1], shift)
    if rounded:  # ties
        a, b = np.round(a, 1), np.round(b, 1)
    theirs = stats.ks_2samp(a, b, method="asymp")
    distance = statistics.ks_distance(a, b)
    assert distance == pytest.approx(theirs.statistic, abs=1e-12)
    assert statistics.ks_p_value(distance, *sizes) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert statistics.wasserstein(a, b) == pytest.approx(stats.wasserstein_distance(a, b))


def test_the_critical_distance_is_where_the_p_value_crosses_alpha():
    critical = statistics.ks_critical(ALPHA, 2000, 200)
    assert statistics.ks_p_value(critical * 1.001, 2000, 200) < ALPHA
    assert statistics.ks_p_value(critical * 0.999, 2000, 200) > ALPHA


def test_chi_square_agrees_with_scipy_where_no_category_is_rare():
    ours = statistics.chi_square(np.array([400.0, 300, 300]), np.array([100.0, 60, 40]))
    theirs = stats.chi2_contingency([[400, 300, 300], [100, 60, 40]], correction=False).pvalue
    assert ours == pytest.approx(theirs)


def test_many_rare_categories_are_no_alarm():
    rare = np.concatenate(([970.0], np.ones(30), np.zeros(6)))
    now = np.concatenate(([194.0], np.zeros(30), np.ones(6)))
    assert statistics.chi_square(rare, now) > 0.01


def test_psi_is_nought_for_the_same_and_finite_for_the_disjoint():
    assert statistics.psi(np.array([50.0, 50]), np.array([20.0, 20])) == pytest.approx(0)
    assert 1 < statistics.psi(np.array([100.0, 0]), np.array([0.0, 100])) < 20


def test_bins_of_a_feature_with_few_values_keep_them_apart():
    values = np.sort(np.repeat([24.0, 25.0, 30.0], 100))
    moved = np.sort(np.repeat([24.0, 25.0, 30.0], (10, 10, 280)))
    found = statistics.compare_numbers(values, moved)
    assert found.psi > 0.5


def number(seed, size, mean=100.0, sd=10.0):
    return column_of(LUMA, np.random.default_rng(seed).normal(mean, sd, size))


RULE = DriftRule(feature="luma", test="ks_wasserstein", least=3)


def test_a_shift_of_most_rows_is_drift():
    found = judge(RULE, LUMA, ALPHA, number(1, 1000), number(2, 200, mean=110))
    assert found.state == "drifted"
    assert found.p < ALPHA
    assert found.size > 0.8
    assert found.middle_current == pytest.approx(110, abs=2)
    assert f"median {found.middle_current:.4g} code, was" in found.said


def test_a_shift_that_is_certain_but_small_is_none():
    found = judge(RULE, LUMA, ALPHA, number(1, 50_000), number(2, 50_000, mean=101))
    assert found.p < ALPHA
    assert found.state == "steady"


def test_a_shift_that_is_large_in_spread_but_small_in_its_unit_is_none():
    found = judge(RULE, LUMA, ALPHA, number(1, 1000, sd=0.5), number(2, 200, mean=102, sd=0.5))
    assert found.p < ALPHA
    assert found.size > 3
    assert found.state == "steady"


def test_few_rows_say_nothing():
    found = judge(RULE, LUMA, ALPHA, number(1, 1000), number(2, 199, mean=200))
    assert found.state == "too_few"
    assert found.p is None


def test_a_wider_spread_with_the_same_middle_is_drift():
    found = judge(RULE, LUMA, ALPHA, number(1, 1000), number(2, 200, sd=25))
    assert found.state == "drifted"


def test_values_that_go_missing_are_drift_even_when_none_is_left():
    gone = column_of(LUMA, [None] * 200)
    found = judge(RULE, LUMA, ALPHA, number(1, 1000), gone)
    assert (found.state, found.what) == ("drifted", "nulls")
    assert "100% of the rows" in found.said


def test_a_feature_that_the_reference_is_too_old_for_is_no_drift():
    old = column_of(LUMA, [None] * 1000)
    found = judge(RULE, LUMA, ALPHA, old, number(2, 200), absent=True)
    assert found.state == "too_few"
    assert "not in this reference" in found.said
    assert judge(RULE, LUMA, ALPHA, old, number(2, 200)).state == "drifted"


def test_what_hardly_ever_has_a_value_is_steady_by_how_often_it_has_one():
    """Else a gate that opened by it could never close."""
    rare = column_of(LUMA, [25.0] * 150 + [None] * 350)
    gone = judge(RULE, LUMA, ALPHA, rare, column_of(LUMA, [None] * 300))
    assert (gone.state, gone.what) == ("drifted", "nulls")
    back = judge(RULE, LUMA, ALPHA, rare, column_of(LUMA, [25.0] * 90 + [None] * 210))
    assert (back.state, back.what) == ("steady", "nulls")
    few = judge(RULE, LUMA, ALPHA, rare, column_of(LUMA, [25.0] * 60 + [None] * 139))
    assert few.state == "too_few", "rows are few"
    full = column_of(LUMA, [25.0] * 300 + [None] * 700)
    doubt = judge(RULE, LUMA, ALPHA, full, column_of(LUMA, [99.0] * 90 + [None] * 210))
    assert doubt.state == "too_few", "its values are in doubt"


def test_a_feature_that_never_varied_and_now_does_is_drift():
    flat = column_of(LUMA, [25.0] * 500)
    same = judge(RULE, LUMA, ALPHA, flat, column_of(LUMA, [25.0] * 200))
    moved = judge(RULE, LUMA, ALPHA, flat, column_of(LUMA, [30.0] * 200))
    assert (same.state, moved.state) == ("steady", "drifted")
    assert "a value it never had" in moved.said


def categories(**counts):
    return column_of(CONTAINER, [name for name, n in counts.items() for _ in range(n)])


def test_a_category_that_takes_over_is_drift_and_a_new_rare_one_is_not():
    rule = DriftRule(feature="container", test="chi_square")
    before = categories(jpeg=900, png=100)
    some = judge(rule, CONTAINER, ALPHA, before, categories(jpeg=178, png=20, webp=2))
    most = judge(rule, CONTAINER, ALPHA, before, categories(jpeg=20, png=20, webp=160))
    assert (some.state, most.state) == ("steady", "drifted")
    assert "webp in 80% of the rows, was 0%" in most.said


def test_flags_are_told_apart_whatever_made_them():
    flag = next(f for f in FEATURES["audio"] if f.name == "speech_present")
    column = column_of(flag, [True, np.True_, False, None, float("nan")])
    assert column.values == ("yes", "yes", "no")
    assert column.nulls == 2


def test_histograms_count_every_row():
    found = judge(RULE, LUMA, ALPHA, number(1, 1000), number(2, 200, mean=500))
    assert sum(found.bars.reference) == 1000
    assert sum(found.bars.current) == 200
