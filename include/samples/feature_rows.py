"""Rows of features for tests and benchmarks: drawn from a model fitted to measured assets.

``feature_rows.json`` holds real measurements (made by ``python -m include.samples.measure_rows``).
A drawn row is one of them, chosen at random, with every number moved by a kernel (a smoothed
bootstrap: Silverman 1986, 6.4): correlations, steps and nulls stay as they were measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from include.contracts.features import FeatureValue
from include.features.catalogue import FEATURES, AssetKind, Feature
from include.features.collect import AssetRow

LEAST_WIDTH = 0.02
"""Of a kernel, over the feature's middle: few templates and renders were measured."""
MEASURED = Path(__file__).with_suffix(".json")
Values = Mapping[str, FeatureValue]
F64 = NDArray[np.float64]

COUNTS = frozenset(
    {"width", "height", "face_count", "channels", "sample_rate", "fps", "dropped_frames"}
    | {"doubled_frames"}
)
"""Numbers that come in steps: drawn as they were measured."""


@cache
def measured_rows(kind: AssetKind) -> tuple[Values, ...]:
    """Real features of a kind of asset."""
    rows: list[dict[str, FeatureValue]] = json.loads(MEASURED.read_text(encoding="utf-8"))[kind]
    return tuple(rows)


@dataclass(frozen=True)
class RowModel:
    """A distribution of feature rows."""

    kind: AssetKind
    rows: tuple[Values, ...]
    widths: Mapping[str, float]
    """Standard deviation of the kernel, by number."""

    @classmethod
    def fit(cls, kind: AssetKind, rows: Iterable[Values]) -> RowModel:
        """Fit to measured rows."""
        rows = tuple(rows)
        widths = {}
        for feature in FEATURES[kind]:
            if feature.type != "number" or feature.name in COUNTS:
                continue
            known = [float(v) for row in rows if (v := row[feature.name]) is not None]
            spread = float(np.std(known)) if len(known) > 1 else 0.0
            width = 1.06 * spread * max(len(known), 1) ** -0.2
            least = LEAST_WIDTH * abs(float(np.median(known))) if known else 0.0
            widths[feature.name] = max(width, least)
        return cls(kind, rows, widths)

    def columns(
        self, seed: int, count: int, names: Collection[str] | None = None
    ) -> dict[str, Any]:
        """Draw rows as columns.

        Args:
            seed: the same draws the same.
            count: how many.
            names: only these features; default all.

        Returns:
            By feature: float64 [count] with NaN for null, or objects [count] with None.
        """
        rng = np.random.default_rng(seed)
        chosen = rng.integers(len(self.rows), size=count)
        wanted = [f for f in FEATURES[self.kind] if names is None or f.name in names]
        return {feature.name: self._column(feature, chosen, rng) for feature in wanted}

    def _column(self, feature: Feature, chosen: Any, rng: np.random.Generator) -> Any:
        known = [row[feature.name] for row in self.rows]
        if feature.type != "number":
            return np.array(known, object)[chosen]
        values: F64 = np.array([np.nan if v is None else v for v in known], np.float64)[chosen]
        width = self.widths.get(feature.name, 0.0)
        if not width:
            return values
        least = min((float(v) for v in known if v is not None), default=0.0)
        moved = values + width * rng.standard_normal(len(values), np.float32)
        return np.maximum(moved, least / 2) if least >= 0 else moved

    def rows_of(
        self, seed: int, count: int, *, start: datetime, campaign: str = "generated"
    ) -> list[AssetRow]:
        """Draw rows as a campaign would have collected them, one a minute from ``start``."""
        columns = self.columns(seed, count)
        names = [feature.name for feature in FEATURES[self.kind]]
        return [
            AssetRow(
                kind=self.kind,
                asset=hashlib.sha256(f"{self.kind} {seed} {place}".encode()).hexdigest(),
                unit=f"row-{place:05}",
                campaign=campaign,
                made_at=start.astimezone(UTC) + timedelta(minutes=place),
                values={name: _plain(columns[name][place]) for name in names},
            )
            for place in range(count)
        ]


def _plain(value: Any) -> FeatureValue:
    if isinstance(value, float | np.floating):
        return None if np.isnan(value) else float(value)
    kept: FeatureValue = value
    return kept


def changed(rows: Sequence[Values], **shifts: float | str | bool) -> list[Values]:
    """The same rows with some features moved: a number by a difference, others replaced."""
    moved: list[Values] = []
    for row in rows:
        new = dict(row)
        for name, shift in shifts.items():
            old = new[name]
            if old is not None and type(old) is float and type(shift) in (int, float):
                new[name] = old + float(shift)
            else:
                new[name] = shift
        moved.append(new)
    return moved
