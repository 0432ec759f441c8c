"""How often clean rows raise an alarm, and how surely drifted ones do: by simulation.

Rows are drawn from models fitted to measured assets (``include.samples.feature_rows``).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from include.drift.compare import (
    NULLS_DISTANCE,
    alpha_per_test,
    column_of,
    feature_of,
    judge,
)
from include.drift.statistics import ks_critical, ks_distance
from include.expectations.suites import suite_of
from include.features.catalogue import FEATURES
from include.samples.feature_rows import RowModel, changed, measured_rows

pytestmark = pytest.mark.slow

RUNS, BATCH = 5000, 250
REFERENCE, CURRENT = 300, 200
"""Windows at the small end, where distances are large by chance most often."""
CONFIDENCE = 0.99


def drawn(model, seed, rows, names):
    """A batch of runs: by feature [BATCH, rows], numbers sorted with their nulls last."""
    columns = model.columns(seed, BATCH * rows, names)
    shaped = {name: column.reshape(BATCH, rows) for name, column in columns.items()}
    return {n: np.sort(c, 1) if c.dtype == np.float64 else c for n, c in shaped.items()}


def distances(ours, theirs):
    """Kolmogorov-Smirnov distances of all runs of a batch, as ``ks_distance`` has them.

    Each run's values are moved to an interval of their own, so that one search serves all.
    """
    low = min(ours[:, 0].min(), theirs[:, 0].min())
    wide = 2 * (max(ours[:, -1].max(), theirs[:, -1].max()) - low) or 1.0
    start = wide * np.arange(len(ours))[:, None] - low
    window, values = (ours + start).ravel(), (theirs + start).ravel()
    best = np.zeros(len(ours))
    for side in ("left", "right"):
        before = np.arange(len(ours))[:, None]
        at = np.searchsorted(window, values, side).reshape(theirs.shape) - before * ours.shape[1]
        own = np.searchsorted(values, values, side).reshape(theirs.shape) - before * theirs.shape[1]
        apart = np.abs(at / ours.shape[1] - own / theirs.shape[1]).max(1)
        best = np.maximum(best, apart)
    return best


def suspects(suite, rule, ours, theirs):
    """Runs in which a rule could alarm: those that pass the part of it that is cheap to compute.

    A category alarms only above a distance in total variation, a number only above the critical
    Kolmogorov-Smirnov distance, either where nulls became more or fewer.
    """
    if ours.dtype != np.float64:
        names = {value for side in (ours, theirs) for value in side.ravel()}
        apart = sum(abs((ours == n).mean(1) - (theirs == n).mean(1)) for n in names) / 2
        return np.flatnonzero(apart > min(rule.threshold, NULLS_DISTANCE))
    if np.isnan(ours).any() or np.isnan(theirs).any():
        return np.arange(len(ours))
    critical = ks_critical(alpha_per_test(rule, suite), ours.shape[1], theirs.shape[1])
    # A little less: moved to intervals of their own, values are rounded.
    return np.flatnonzero(distances(ours, theirs) >= critical - 2 / theirs.shape[1])


def constant(column, value):
    return (column != column).all() if value != value else (column == value).all()


def alarms(kind, model, batch):
    """By run of a batch, whether any drift rule of the kind alarms on clean rows."""
    suite = suite_of(kind)
    names = {rule.feature for rule in suite.drift}
    ours = drawn(model, 2 * batch, REFERENCE, names)
    theirs = drawn(model, 2 * batch + 1, CURRENT, names)
    raised = np.zeros(BATCH, bool)
    for rule in suite.drift:
        feature, alpha = feature_of(suite, rule.feature), alpha_per_test(rule, suite)
        reference, current = ours[rule.feature], theirs[rule.feature]
        if all(constant(side, reference[0, 0]) for side in (reference, current)):
            continue  # never varies: no rule can see a difference
        for run in suspects(suite, rule, reference, current):
            columns = column_of(feature, reference[run]), column_of(feature, current[run])
            raised[run] |= judge(rule, feature, alpha, *columns).state == "drifted"
    return raised


def test_the_search_for_suspects_overlooks_none():
    suite = suite_of("photo")
    before = RowModel.fit("photo", measured_rows("photo"))
    after = RowModel.fit("photo", changed(measured_rows("photo"), luma=9.0))
    ours = drawn(before, 1, REFERENCE, {"luma"})["luma"]
    theirs = drawn(after, 2, CURRENT, {"luma"})["luma"]
    exact = [ks_distance(a, b) for a, b in zip(ours, theirs, strict=True)]
    assert distances(ours, theirs) == pytest.approx(exact, abs=1e-6)
    rule = next(rule for rule in suite.drift if rule.feature == "luma")
    assert 0 < len(suspects(suite, rule, ours, theirs)) < BATCH


def test_false_alarms_on_clean_rows_are_below_one_in_a_hundred_runs(record_property):
    """A run judges all four kinds of asset, each against a reference of its own."""
    models = {kind: RowModel.fit(kind, measured_rows(kind)) for kind in FEATURES}
    false = np.zeros(RUNS, bool)
    for batch in range(RUNS // BATCH):
        for kind, model in models.items():
            false[batch * BATCH : (batch + 1) * BATCH] |= alarms(kind, model, batch)
    interval = stats.binomtest(int(false.sum()), RUNS).proportion_ci(CONFIDENCE, "exact")
    said = f"{false.sum()} of {RUNS} runs, {interval.low:.2%} to {interval.high:.2%}"
    record_property("false_alarms", said)
    assert interval.high < 0.01, said


NUMBERS = [rule for rule in suite_of("photo").drift if rule.test == "ks_wasserstein"]


@pytest.fixture(scope="module")
def references():
    """By number of photos, clean windows."""
    model = RowModel.fit("photo", measured_rows("photo"))
    return drawn(model, 91, 1000, {rule.feature for rule in NUMBERS})


@pytest.mark.parametrize(("shift", "power"), [(1.0, 0.95), (0.75, 0.75)])
def test_a_shift_of_any_number_is_detected_in_200_rows_with_the_declared_power(
    references, shift, power
):
    """Declared: a shift of one standard deviation is seen in 95 of 100 runs, 3/4 of one in 75."""
    suite, rows = suite_of("photo"), measured_rows("photo")
    for rule in NUMBERS:
        spread = float(np.std([row[rule.feature] for row in rows]))
        by = max(shift * spread, 1.5 * rule.least)
        moved = RowModel.fit("photo", changed(rows, **{rule.feature: by}))
        theirs = drawn(moved, 92, CURRENT, {rule.feature})[rule.feature]
        seen = seen_by(suite, rule, references[rule.feature], theirs)
        low = stats.binomtest(int(seen.sum()), len(seen)).proportion_ci(0.95, "exact").low
        assert low > power, f"{rule.feature}: {seen.mean():.1%}"


def seen_by(suite, rule, ours, theirs):
    """By run, whether a rule alarms; the test that costs most comes last."""
    feature, alpha = feature_of(suite, rule.feature), alpha_per_test(rule, suite)
    seen = np.zeros(len(ours), bool)
    for run in suspects(suite, rule, ours, theirs):
        columns = column_of(feature, ours[run]), column_of(feature, theirs[run])
        seen[run] = judge(rule, feature, alpha, *columns).state == "drifted"
    return seen
