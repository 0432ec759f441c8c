"""One drift rule over two columns: the statistics, and the words for what they found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.drift.records import Bars, Finding
from include.drift.statistics import Distance, compare_counts, compare_numbers
from include.expectations.suites import DriftRule, Suite
from include.features.catalogue import FEATURES, Feature

F64 = NDArray[np.float64]
Value = float | str | bool | None

NULLS_DISTANCE = 0.1
"""Share of rows that must gain or lose their value before that counts as drift."""
SHOWN_BINS = 24
TESTS_PER_RULE = 2
"""The values, and how often there is none."""


@dataclass(frozen=True)
class Column:
    """A feature's values in a set of rows, those without a value counted apart."""

    values: F64 | tuple[str, ...]
    """float64, sorted, for a number; text for a category or a flag."""
    nulls: int

    @property
    def rows(self) -> int:
        """Rows, those without a value included."""
        return len(self.values) + self.nulls

    @property
    def null_share(self) -> float:
        """0 to 1."""
        return self.nulls / self.rows if self.rows else 0.0


def column_of(feature: Feature, values: Sequence[Any]) -> Column:
    """Sort out a column.

    Args:
        feature: what it holds.
        values: numbers (NaN, infinite or None: null), or text or truth values (None, NaN: null).
    """
    if feature.type == "number":
        array = np.asarray(values, np.float64)
        known = np.sort(array[np.isfinite(array)])
        return Column(known, len(array) - len(known))
    named = tuple(_named(value) for value in values if value is not None and value == value)
    return Column(named, len(values) - len(named))


def _named(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool | np.bool_) else str(value)


def alpha_per_test(rule: DriftRule, suite: Suite) -> float:
    """What a p-value has to be below (Bonferroni over all tests of the kind)."""
    return rule.alpha / (TESTS_PER_RULE * len(suite.drift))


def feature_of(suite: Suite, name: str) -> Feature:
    """The catalogue's entry of a feature."""
    return next(feature for feature in FEATURES[suite.kind] if feature.name == name)


def judge(
    rule: DriftRule,
    feature: Feature,
    alpha: float,
    reference: Column,
    current: Column,
    *,
    absent: bool = False,
) -> Finding:
    """Judge one rule.

    Args:
        rule: the rule.
        feature: what it is about.
        alpha: from ``alpha_per_test``.
        reference: the reference window's column.
        current: the rows to judge.
        absent: the feature was not measured yet when the reference was taken.
    """
    base: dict[str, Any] = {
        "feature": feature.name,
        "unit": feature.unit,
        "test": rule.test,
        "rows_reference": len(reference.values),
        "rows_current": len(current.values),
        "nulls_reference": reference.null_share,
        "nulls_current": current.null_share,
        "alpha": alpha,
        "threshold": rule.threshold,
    }
    if absent:
        said = f"{feature.name}: not in this reference; accept newer rows as the next one"
        return Finding(**base, state="too_few", said=said, bars=_bars(reference, current))
    if reference.nulls + current.nulls and min(reference.rows, current.rows) >= rule.minimum:
        nulls = _nulls(reference, current)
        if nulls.p < alpha and nulls.size > NULLS_DISTANCE:
            return Finding(**base | _null_finding(feature, reference, current, nulls))
        if len(reference.values) < rule.minimum:  # whatever comes, only this can be said of it
            said = (
                f"{feature.name}: no value in {current.null_share:.0%} of the rows, was "
                f"{reference.null_share:.0%}; of values the reference has too few"
            )
            return Finding(
                **base | {"threshold": NULLS_DISTANCE, "p": nulls.p, "size": nulls.size},
                state="steady",
                what="nulls",
                said=said,
                bars=_bars(reference, current),
            )
    if min(len(reference.values), len(current.values)) < rule.minimum:
        few = min(len(reference.values), len(current.values))
        said = f"{feature.name}: {few} values, {rule.minimum} are needed on either side"
        return Finding(**base, state="too_few", said=said, bars=_bars(reference, current))
    found = _distance(reference, current)
    drifted = found.p < alpha and found.size > rule.threshold and found.shift > rule.least
    return Finding(
        **base,
        state="drifted" if drifted else "steady",
        said=_said(feature, reference, current, found),
        p=found.p,
        size=found.size,
        shift=found.shift,
        psi=found.psi,
        middle_reference=_middle(reference),
        middle_current=_middle(current),
        bars=_bars(reference, current),
    )


def _nulls(reference: Column, current: Column) -> Distance:
    def counts(column: Column) -> F64:
        return np.array([len(column.values), column.nulls], np.float64)

    return compare_counts(counts(reference), counts(current))


def _null_finding(
    feature: Feature, reference: Column, current: Column, found: Distance
) -> dict[str, Any]:
    return {
        "state": "drifted",
        "what": "nulls",
        "said": f"{feature.name}: no value in {current.null_share:.0%} of the rows, was "
        f"{reference.null_share:.0%}",
        "threshold": NULLS_DISTANCE,
        "p": found.p,
        "size": found.size,
        "shift": found.shift,
        "psi": found.psi,
        "middle_reference": _middle(reference),
        "middle_current": _middle(current),
        "bars": _bars(reference, current),
    }


def _distance(reference: Column, current: Column) -> Distance:
    if isinstance(reference.values, tuple) or isinstance(current.values, tuple):
        _, ours, theirs = _tally(reference, current)
        return compare_counts(ours, theirs)
    return compare_numbers(reference.values, current.values)


def _tally(reference: Column, current: Column) -> tuple[list[str], F64, F64]:
    ours, theirs = Counter(reference.values), Counter(current.values)
    names = [str(name) for name, _ in (ours + theirs).most_common()]
    return (
        names,
        np.array([ours[name] for name in names], np.float64),
        np.array([theirs[name] for name in names], np.float64),
    )


def _middle(column: Column) -> float | None:
    """Median; values are sorted."""
    values = column.values
    if isinstance(values, tuple) or not len(values):
        return None
    half = len(values) // 2
    return float(values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2)


def _said(feature: Feature, reference: Column, current: Column, found: Distance) -> str:
    if isinstance(reference.values, tuple):
        names, ours, theirs = _tally(reference, current)
        change = theirs / theirs.sum() - ours / ours.sum()
        place = int(change.argmax())  # what took over says more than what it took the place of
        was, now = ours[place] / ours.sum(), theirs[place] / theirs.sum()
        return f"{feature.name}: {names[place]} in {now:.0%} of the rows, was {was:.0%}"
    unit = f" {feature.unit}" if feature.unit else ""
    was, now = _middle(reference) or 0.0, _middle(current) or 0.0
    much = "a value it never had" if found.size >= 1e5 else f"{found.size:.2f} sd apart"
    return f"{feature.name}: median {now:.4g}{unit}, was {was:.4g}{unit}; {much}"


def _bars(reference: Column, current: Column) -> Bars | None:
    if isinstance(reference.values, tuple) or isinstance(current.values, tuple):
        names, ours, theirs = _tally(reference, current)
        names = names[:SHOWN_BINS]
        if not names:
            return None
        return Bars(labels=tuple(names), reference=_ints(ours), current=_ints(theirs))
    both = np.concatenate((reference.values, current.values))
    if not len(both):
        return None
    low, high = np.quantile(both, (0.005, 0.995))
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, SHOWN_BINS + 1)

    def count(values: Any) -> tuple[int, ...]:
        return _ints(np.histogram(np.clip(values, low, high), edges)[0])

    return Bars(
        edges=tuple(float(edge) for edge in edges),
        reference=count(reference.values),
        current=count(current.values),
    )


def _ints(counts: Any) -> tuple[int, ...]:
    return tuple(int(count) for count in counts[:SHOWN_BINS])
