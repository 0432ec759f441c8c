"""Is a challenger as good as the champion? Differences with confidence intervals, and rules.

What both sides made takes Student's interval of the paired differences, of their logarithms where
a rule is relative: a golden campaign may have three recipients, of whom resampling would make an
interval that is far too narrow. Two groups of other people, a canary's, are large, and their means
are resampled (percentile bootstrap, seeded: the same values give the same verdict); shares of two
groups take Newcombe's interval, which stays honest when nothing happened in either (R. G. Newcombe,
Statistics in Medicine 17, 1998, method 10).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from include.rollout.measures import OF_A_VOICE
from include.rollout.records import Comparison, Part, Rule, Rules, Verdict

Values = Mapping[str, float | None]
"""A unit's measures by name; None where something could not be measured."""
F64 = NDArray[np.float64]

SHARES = frozenset({"failed", "not_passed"})
"""Measures that are 0 or 1."""
_SEED = 20261121
_TINY = 1e-12


@dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval."""

    middle: float
    low: float
    high: float


def compare_pairs(
    part: Part,
    rule: Rule,
    champion: Mapping[str, Values],
    challenger: Mapping[str, Values],
    rules: Rules,
) -> Comparison:
    """Judge a rule on things that both sides made.

    Args:
        part: which part of the golden set.
        rule: the rule.
        champion: by picture or recipient, what was measured.
        challenger: the same for the challenger.
        rules: confidence and resamples.

    Returns:
        ``worse`` also where only the challenger's could not be measured; ``not_measured`` where
        nobody's could, which holds nobody back.
    """
    name = rule.measure
    own = {unit: values[name] for unit, values in champion.items() if values.get(name) is not None}
    pairs = [
        (float(value), float(other))
        for unit, value in own.items()
        if value is not None and (other := challenger.get(unit, {}).get(name)) is not None
    ]
    if not own:
        return _nothing(part, rule, 0, 0)
    if len(pairs) < len(own):
        lost = len(own) - len(pairs)
        said = f"{name}: could not be measured of {lost} of {len(own)} that the challenger made"
        return Comparison(
            part=part,
            rule=rule,
            verdict="worse",
            champions=len(own),
            challengers=len(pairs),
            said=said,
        )
    a, b = (np.array(side, np.float64) for side in zip(*pairs, strict=True))
    found = _difference(a, b, rule, rules.confidence)
    return _judged(part, rule, a, b, found, student(b, rules.confidence))


def compare_groups(
    rule: Rule, champion: Sequence[Values], challenger: Sequence[Values], rules: Rules
) -> Comparison:
    """Judge a rule on two groups of recipients.

    Args:
        rule: the rule.
        champion: what was measured of each of the champion's; ``voiced`` is 0 without a voice.
        challenger: the same for the challenger's.
        rules: confidence, resamples, and how many values a mean takes.

    Returns:
        ``worse`` also where clearly fewer of the challenger's renders could be measured;
        ``unclear`` where it has too few values; ``not_measured`` where the champion has.
    """
    sides = [[one for one in side if _applies(rule, one)] for side in (champion, challenger)]
    a, b = (
        np.array([v for one in side if (v := one.get(rule.measure)) is not None], np.float64)
        for side in sides
    )
    if not all(sides):
        return _nothing("canary", rule, len(a), len(b))
    absent = _absence(rule, sides, rules)
    if absent.verdict == "worse":
        return absent
    z = _z(rules.confidence)
    if rule.measure in SHARES and len(a) and len(b):
        found, own_b = newcombe(a, b, z), wilson(float(b.sum()), len(b), z)
    elif len(a) < rules.min_values:
        return _nothing("canary", rule, len(a), len(b))
    elif len(b) < rules.min_values:
        return _too_few(rule, len(a), len(b), rules)
    else:
        ra = a[_picks(len(a), rules.resamples)].mean(1)
        rb = b[_picks(len(b), rules.resamples, 1)].mean(1)
        found = _interval(b.mean(), a.mean(), rb, ra, rule, rules)
        own_b = _quantiles(rb, float(b.mean()), rules)
    judged = _judged("canary", rule, a, b, found, own_b)
    return absent if judged.verdict == "as_good" and absent.verdict == "unclear" else judged


def _applies(rule: Rule, one: Values) -> bool:
    """Whether a render should have the measure: it came about, and has a voice if that is asked."""
    if rule.measure == "failed":
        return True
    return not one.get("failed") and (rule.measure not in OF_A_VOICE or one.get("voiced") != 0)


def _absence(rule: Rule, sides: Sequence[Sequence[Values]], rules: Rules) -> Comparison:
    """Judge how many renders of each side could not be measured."""
    a, b = (np.array([one.get(rule.measure) is None for one in side], np.float64) for side in sides)
    z = _z(rules.confidence)
    found, own = newcombe(a, b, z), wilson(float(b.sum()), len(b), z)
    shares = Rule(measure=rule.measure, better="lower", margin=rules.missing)
    verdict: Verdict = verdict_of(shares, found, own)
    if not a.any() and not b.any():
        verdict = "as_good"  # how often a render fails, ``failed`` says
    words = {"as_good": "as good", "worse": "worse", "unclear": "unclear"}
    return Comparison(
        part="canary",
        rule=rule,
        verdict=verdict,
        champions=len(a) - int(a.sum()),
        challengers=len(b) - int(b.sum()),
        said=f"{rule.measure}: could not be measured of {a.mean():.0%} of {len(a)} and "
        f"{b.mean():.0%} of {len(b)} renders, margin {rules.missing:.0%}: {words[verdict]}",
    )


def _too_few(rule: Rule, champions: int, challengers: int, rules: Rules) -> Comparison:
    return Comparison(
        part="canary",
        rule=rule,
        verdict="unclear",
        champions=champions,
        challengers=challengers,
        said=f"{rule.measure}: measured of {challengers} of the challenger's renders, a mean takes "
        f"{rules.min_values}: unclear",
    )


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def student(values: F64, confidence: float) -> Interval:
    """Student's interval of a mean; of a single value it has no ends."""
    middle = float(values.mean())
    if len(values) < 2:
        return Interval(middle, -math.inf, math.inf)
    spread = float(values.std(ddof=1)) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.5 + confidence / 2, len(values) - 1)) * spread
    return Interval(middle, middle - half, middle + half)


def _difference(a: F64, b: F64, rule: Rule, confidence: float) -> Interval:
    """Of pairs: the mean difference, or the mean ratio (geometric) less one."""
    if not rule.relative:
        return student(b - a, confidence)
    found = student(np.log(np.maximum(b, _TINY) / np.maximum(a, _TINY)), confidence)
    ends = (found.middle, found.low, found.high)
    return Interval(*(math.expm1(min(end, 700.0)) for end in ends))


def _picks(count: int, resamples: int, stream: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng((_SEED, stream)).integers(0, count, (resamples, count))


def _interval(
    b: float, a: float, resampled_b: F64, resampled_a: F64, rule: Rule, rules: Rules
) -> Interval:
    """Of the difference of two groups' means, or of their ratio less one."""
    if rule.relative:
        middle = float(b) / max(float(a), _TINY) - 1
        return _quantiles(resampled_b / np.maximum(resampled_a, _TINY) - 1, middle, rules)
    return _quantiles(resampled_b - resampled_a, float(b - a), rules)


def _quantiles(resampled: F64, middle: float, rules: Rules) -> Interval:
    tail = (1 - rules.confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(middle, float(low), float(high))


def wilson(hits: float, count: int, z: float) -> Interval:
    """Wilson's score interval of a share."""
    p, n = hits / count, count
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, max(0.0, centre - half), min(1.0, centre + half))


def newcombe(a: F64, b: F64, z: float) -> Interval:
    """Interval of the difference of two shares, ``b`` minus ``a``; values are 0 or 1."""
    own_a, own_b = wilson(float(a.sum()), len(a), z), wilson(float(b.sum()), len(b), z)
    difference = own_b.middle - own_a.middle
    low = math.hypot(own_b.middle - own_b.low, own_a.high - own_a.middle)
    high = math.hypot(own_b.high - own_b.middle, own_a.middle - own_a.low)
    return Interval(difference, difference - low, difference + high)


def verdict_of(rule: Rule, difference: Interval, own: Interval) -> Verdict:
    """What an interval means under a rule.

    Args:
        rule: the rule.
        difference: challenger minus champion, as the rule takes it.
        own: of the challenger's own mean.
    """
    low, high, margin = difference.low, difference.high, rule.margin + _TINY
    if rule.enough is not None:
        good = own.low >= rule.enough if rule.better == "higher" else own.high <= rule.enough
        if good:
            return "as_good"
    worse = {"higher": high < -margin, "lower": low > margin}
    good_enough = {"higher": low >= -margin, "lower": high <= margin}
    if rule.better == "same":
        if low >= -margin and high <= margin:
            return "as_good"
        return "worse" if high < -margin or low > margin else "unclear"
    if good_enough[rule.better]:
        return "as_good"
    return "worse" if worse[rule.better] else "unclear"


def _judged(part: Part, rule: Rule, a: F64, b: F64, found: Interval, own: Interval) -> Comparison:
    verdict = verdict_of(rule, found, own)
    return Comparison(
        part=part,
        rule=rule,
        verdict=verdict,
        champions=len(a),
        challengers=len(b),
        champion=float(a.mean()),
        challenger=float(b.mean()),
        difference=found.middle,
        low=found.low if math.isfinite(found.low) else None,
        high=found.high if math.isfinite(found.high) else None,
        said=_said(rule, verdict, float(a.mean()), float(b.mean()), found),
    )


def _said(rule: Rule, verdict: Verdict, a: float, b: float, found: Interval) -> str:
    def number(value: float) -> str:
        return f"{value:+.1%}" if rule.relative else f"{value:+.4g}"

    words = {"as_good": "as good", "worse": "worse", "unclear": "unclear"}
    limit = f"{rule.margin:.0%}" if rule.relative else f"{rule.margin:g}"
    enough = "" if rule.enough is None else f", or {rule.enough:g} at all"
    return (
        f"{rule.measure}: {a:.4g} to {b:.4g}, {number(found.middle)} "
        f"[{number(found.low)}, {number(found.high)}], {rule.better} is better, margin {limit}"
        f"{enough}: {words.get(verdict, verdict)}"
    )


def _nothing(part: Part, rule: Rule, champions: int, challengers: int) -> Comparison:
    return Comparison(
        part=part,
        rule=rule,
        verdict="not_measured",
        champions=champions,
        challengers=challengers,
        said=f"{rule.measure}: nothing to compare",
    )


def overall(comparisons: Sequence[Comparison]) -> Verdict:
    """All rules together: one that is broken decides, then one that is unclear."""
    verdicts = {one.verdict for one in comparisons}
    for verdict in ("worse", "unclear", "as_good"):
        if verdict in verdicts:
            return verdict
    return "not_measured"


def summary(found: Sequence[Comparison]) -> str:
    """All rules in one line: how many hold, and which of the others decide."""
    counts = [
        (sum(one.verdict == verdict for one in found), words)
        for verdict, words in (("as_good", "as good"), ("worse", "worse"), ("unclear", "unclear"))
    ]
    said = ", ".join(f"{count} {words}" for count, words in counts if count) or "nothing measured"
    decisive = [one.said for one in found if one.verdict in ("worse", "unclear")]
    return f"{said} ({'; '.join(decisive[:3])})" if decisive else said
