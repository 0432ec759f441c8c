"""A feature artifact's ``features.json``: one asset, measured."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from include.contracts.base import Contract, Sha256
from include.features.catalogue import FEATURES, AssetKind

FeatureValue = bool | float | str | None

_ACCEPTED: dict[str, tuple[type, ...]] = {"number": (float,), "category": (str,), "flag": (bool,)}


class FeatureRow(Contract):
    """What was measured of one asset: exactly the names that the catalogue has for its kind."""

    schema_version: Literal[1] = 1
    kind: AssetKind
    key: Sha256
    """Key of the artifact that was measured."""
    values: dict[str, FeatureValue]
    """By feature name; null where it cannot be measured, for one a face's size without a face."""

    @model_validator(mode="after")
    def _as_catalogued(self) -> Self:
        features = {feature.name: feature for feature in FEATURES[self.kind]}
        if set(self.values) != set(features):
            missing = sorted(set(features) - set(self.values))
            unknown = sorted(set(self.values) - set(features))
            raise ValueError(f"values: missing {missing}, not in the catalogue {unknown}")
        for name, value in self.values.items():
            accepted = _ACCEPTED[features[name].type]
            if value is not None and type(value) not in accepted:
                raise ValueError(f"values.{name}: {value!r} is no {features[name].type}")
            if isinstance(value, float) and not abs(value) < float("inf"):
                raise ValueError(f"values.{name}: {value} is not finite; use null")
        return self
