"""How often clean rows raise an alarm, and how surely drifted ones do: by simulation.

Rows are drawn from models fitted to measured assets (``include.samples.feature_rows``).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from include.drift.compare import alpha_per_test, column_of, feature_of, judge
from include.drift.statistics import ks_critical, ks_distance
from include.expectations.suites import suite_of
from include.features.catalogue import FEATURES
from include.samples.feature_rows import RowModel, changed, measured_rows

pytestmark = pytest.mark.slow

RUNS = 5000
BATCH = 250
REFERENCE, CURRENT = 1000, 200
CONFIDENCE = 0.99


def drawn(model, seed, rows):
    """A batch of runs: by feature [BATCH, rows], numbers sorted with their nulls last."""
    columns = model.columns(seed, BATCH * rows)
    shaped = {name: column.reshape(BATCH, rows) for name, column in columns.items()}
    return {n: np.sort(c, 1) if c.dtype == np.float64 else c for n, c in shaped.items()}


def suspects(suite, rule, ours, theirs):
    """Runs in which a rule could alarm: those that pass the part of it that is cheap to compute.

    A number without nulls alarms only above the critical Kolmogorov-Smirnov distance.
    """
    if ours.dtype != np.float64 or np.isnan(ours).any() or np.isnan(theirs).any():
        return range(len(ours))
    critical = ks_critical(alpha_per_test(rule, suite), ours.shape[1], theirs.shape[1])
    return [run for run in range(len(ours)) if ks_distance(ours[run], theirs[run]) >= critical]


def alarms(kind, before, after, batch):
    """By run of a batch, whether any drift rule of the kind alarms."""
    suite = suite_of(kind)
    ours, theirs = drawn(before, 2 * batch, REFERENCE), drawn(after, 2 * batch + 1, CURRENT)
    raised = np.zeros(BATCH, bool)
    for rule in suite.drift:
        feature, alpha = feature_of(suite, rule.feature), alpha_per_test(rule, suite)
        reference, current = ours[rule.feature], theirs[rule.feature]
        if (reference == reference[0, 0]).all() and (current == reference[0, 0]).all():
            continue  # never varies: no rule can see a difference
        for run in suspects(suite, rule, reference, current):
            columns = column_of(feature, reference[run]), column_of(feature, current[run])
            raised[run] |= judge(rule, feature, alpha, *columns).state == "drifted"
    return raised


def test_false_alarms_on_clean_rows_are_below_one_in_a_hundred_runs(record_property):
    """A run judges all four kinds of asset, each against a reference of its own."""
    models = {kind: RowModel.fit(kind, measured_rows(kind)) for kind in FEATURES}
    false = np.zeros(RUNS, bool)
    for batch in range(RUNS // BATCH):
        for kind, model in models.items():
            false[batch * BATCH : (batch + 1) * BATCH] |= alarms(kind, model, model, batch)
    interval = stats.binomtest(int(false.sum()), RUNS).proportion_ci(CONFIDENCE, "exact")
    said = f"{false.sum()} of {RUNS} runs, {interval.low:.2%} to {interval.high:.2%}"
    record_property("false_alarms", said)
    assert interval.high < 0.01, said


@pytest.mark.parametrize(("shift", "power"), [(1.0, 0.95), (0.75, 0.75)])
def test_a_shift_of_any_number_is_detected_in_200_rows_with_the_declared_power(shift, power):
    """Declared: a shift of one standard deviation is seen in 95 of 100 runs, 3/4 of one in 75."""
    rows = measured_rows("photo")
    suite = suite_of("photo")
    for rule in suite.drift:
        if rule.test != "ks_wasserstein":
            continue
        spread = float(np.std([row[rule.feature] for row in rows]))
        by = max(shift * spread, 1.5 * rule.least)
        seen = alarms_of(suite, rule, changed(rows, **{rule.feature: by}))
        low = stats.binomtest(int(seen.sum()), len(seen)).proportion_ci(0.95, "exact").low
        assert low > power, f"{rule.feature}: {seen.mean():.1%}"


def alarms_of(suite, rule, moved):
    """By run, whether one rule sees that its feature moved."""
    before = RowModel.fit(suite.kind, measured_rows(suite.kind))
    after = RowModel.fit(suite.kind, moved)
    feature, alpha = feature_of(suite, rule.feature), alpha_per_test(rule, suite)
    ours, theirs = (
        drawn(before, 91, REFERENCE)[rule.feature],
        drawn(after, 92, CURRENT)[rule.feature],
    )
    found = [
        judge(rule, feature, alpha, column_of(feature, a), column_of(feature, b)).state
        for a, b in zip(ours, theirs, strict=True)
    ]
    return np.array(found) == "drifted"
