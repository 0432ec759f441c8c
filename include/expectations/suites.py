"""The form of an expectations file: hard rules and drift rules for one kind of asset.

A **hard rule** is a contract: one asset that breaks it is refused. A **drift rule** compares many
assets with a frozen reference window: none of them need be wrong for all of them to have moved.
Imports nothing heavy: the stage worker refuses rows by the same files that Great Expectations
validates against.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from include.contracts.base import Contract, Slug, digest_json
from include.errors import Usage
from include.features.catalogue import FEATURES, AssetKind, Feature

FOLDER = Path(__file__).resolve().parent

DriftTest = Literal["ks_wasserstein", "chi_square"]

MINIMUM_ROWS = 200
"""Rows on either side below which a drift test says nothing: with fewer, distances between two
samples of the same assets are large by chance (with 30, the population stability index crosses
0.2 four times in five)."""

Share = Annotated[float, Field(gt=0, lt=1)]


class HardRule(Contract):
    """One contract on one feature.

    It asks for exactly one of: a range (``min``, ``max`` or both, borders included), ``in_set``, or
    ``not_null``. A null passes a range and a set: what must be known has a ``not_null`` rule too.
    """

    rule: Slug
    """Its name: what a rejected row is told, with ``rule.`` before it as the error's code."""
    feature: str
    min: float | None = None
    max: float | None = None
    in_set: tuple[str | bool, ...] | None = None
    not_null: Literal[True] | None = None
    message: Annotated[str, Field(min_length=1)]
    """What to do about it, for whoever delivered the asset."""

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        ranged = self.min is not None or self.max is not None
        if ranged + (self.in_set is not None) + (self.not_null is not None) != 1:
            raise ValueError(f"{self.rule}: give min and max, or in_set, or not_null")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"{self.rule}: min {self.min:g} is above max {self.max:g}")
        return self

    @property
    def limits(self) -> str:
        """What it asks for, in words: ``at least 256``."""
        if self.not_null:
            return "known"
        if self.in_set is not None:
            return "one of " + ", ".join(str(value) for value in self.in_set)
        if self.min is None:
            return f"at most {self.max:g}"
        return f"at least {self.min:g}" if self.max is None else f"{self.min:g} to {self.max:g}"


class DriftRule(Contract):
    """One comparison of a feature's values with the reference window.

    A number has drifted when the Kolmogorov-Smirnov test rejects (``alpha``, divided by the number
    of tests of the kind: two for each drift rule, of its values and of its nulls) **and** the
    Wasserstein distance is above ``distance`` standard deviations of the reference: the first is
    about chance, the second about size. A category or a flag has drifted when the chi-square test
    rejects and the distributions differ by more than ``distance`` in total variation. The share of
    nulls counts as a flag of its own.
    """

    feature: str
    test: DriftTest
    alpha: Share = 0.002
    """Chance of a false alarm that all drift rules of a kind share."""
    distance: Annotated[float, Field(gt=0)] | None = None
    """In standard deviations (number), or in total variation, 0 to 1 (category); 0.2 and 0.1."""
    least: Annotated[float, Field(ge=0)] = 0.0
    """In the feature's unit: a smaller shift of the values does not matter, whatever the spread."""
    minimum: Annotated[int, Field(ge=30)] = MINIMUM_ROWS
    """Rows with a value that either side needs."""

    @property
    def threshold(self) -> float:
        """``distance``, or what it is for this test when nothing is said."""
        if self.distance is not None:
            return self.distance
        return 0.2 if self.test == "ks_wasserstein" else 0.1


class Suite(Contract):
    """What one kind of asset is expected to be."""

    schema_version: Literal[1] = 1
    kind: AssetKind
    hard: tuple[HardRule, ...]
    drift: tuple[DriftRule, ...]

    @model_validator(mode="after")
    def _as_catalogued(self) -> Self:
        features = {feature.name: feature for feature in FEATURES[self.kind]}
        for number, hard in enumerate(self.hard):
            _check_hard(hard, features, f"hard[{number}]")
        for number, drift in enumerate(self.drift):
            feature = _feature(drift.feature, features, f"drift[{number}]")
            wanted = "ks_wasserstein" if feature.type == "number" else "chi_square"
            if drift.test != wanted:
                raise ValueError(f"drift[{number}].test: a {feature.type} takes {wanted}")
        _unique([rule.rule for rule in self.hard], "hard: rule")
        _unique([rule.feature for rule in self.drift], "drift: feature")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of all its rules: changes when any of them does."""
        return digest_json(self.model_dump(mode="json"))

    @property
    def hard_digest(self) -> str:
        """SHA-256 of the hard rules: part of the key of whatever they were applied to."""
        return digest_json([rule.model_dump(mode="json") for rule in self.hard])


def _feature(name: str, features: dict[str, Feature], where: str) -> Feature:
    if name not in features:
        raise ValueError(f"{where}.feature: there is no feature {name!r}")
    return features[name]


def _check_hard(rule: HardRule, features: dict[str, Feature], where: str) -> None:
    feature = _feature(rule.feature, features, where)
    if (rule.min is not None or rule.max is not None) and feature.type != "number":
        raise ValueError(f"{where}: {feature.name} is a {feature.type}; min and max need a number")
    if rule.in_set is not None:
        wanted = {"category": str, "flag": bool}.get(feature.type)
        if wanted is None or any(type(value) is not wanted for value in rule.in_set):
            raise ValueError(f"{where}.in_set: does not fit {feature.name}, a {feature.type}")
    if feature.collected:
        raise ValueError(f"{where}: {feature.name} is not known yet when the rule is applied")


def _unique(names: list[str], what: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{what}: given twice: {', '.join(twice)}")


def read_suite(path: Path) -> Suite:
    """Read an expectations file.

    Raises:
        Usage: ``expectations.bad``: it cannot be read; the message names file and field.
    """
    try:
        return Suite.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise Usage(f"{path}: cannot be read: {error}", code="expectations.bad") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]
        raise Usage(f"{path}: " + "; ".join(lines), code="expectations.bad") from error


@cache
def suite_of(kind: AssetKind) -> Suite:
    """The expectations of a kind, from this folder."""
    return read_suite(FOLDER / f"{kind}.yaml")
