"""The hard rules on an asset's features, without anything heavy: what refuses a row.

Great Expectations validates the same rules from the same files (``include/expectations``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from include.contracts.base import Sha256
from include.contracts.features import FeatureValue
from include.expectations.suites import HardRule, suite_of
from include.features.catalogue import AssetKind


@dataclass(frozen=True)
class Broken:
    """A hard rule that an asset breaks."""

    rule: str
    feature: str
    value: FeatureValue
    message: str
    """What was measured, what the rule asks for, and what to do."""


def hard_rules(kind: AssetKind) -> tuple[HardRule, ...]:
    """The hard rules of a kind of asset."""
    return suite_of(kind).hard


@cache
def rules_digest(kind: AssetKind) -> Sha256:
    """Digest of a kind's hard rules: part of the key of whatever passed them.

    Kept, because a plan asks for each of its thousands of rows.
    """
    return suite_of(kind).hard_digest


def broken(rules: Iterable[HardRule], values: Mapping[str, FeatureValue]) -> list[Broken]:
    """The rules that an asset breaks, in their order.

    Args:
        rules: of the asset's kind.
        values: its features; a null breaks no rule but ``not_null``.
    """
    return [_broken(rule, values[rule.feature]) for rule in rules if _breaks(rule, values)]


def _breaks(rule: HardRule, values: Mapping[str, FeatureValue]) -> bool:
    value = values[rule.feature]
    if value is None:
        return rule.not_null is True
    if rule.in_set is not None:
        return value not in rule.in_set
    if isinstance(value, str):
        return False
    low, high = rule.min, rule.max
    return (low is not None and value < low) or (high is not None and value > high)


def _broken(rule: HardRule, value: FeatureValue) -> Broken:
    shown = "not known" if value is None else f"{value:.4g}" if _is_number(value) else str(value)
    said = f"{rule.feature} is {shown}, wanted is {rule.limits}; {rule.message}"
    return Broken(rule.rule, rule.feature, value, said)


def _is_number(value: FeatureValue) -> bool:
    return isinstance(value, float) and not isinstance(value, bool)
