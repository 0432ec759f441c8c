"""Which assets are to blame: rows that break a hard rule, and those least like the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from include.contracts.manifest import Manifest
from include.drift.compare import feature_of
from include.drift.records import Breach, Finding, KindVerdict, Offender
from include.expectations.suites import Suite, suite_of
from include.features.catalogue import AssetKind
from include.store import ObjectStore
from include.store.cache import ArtifactCache

MOST = 8
"""Offenders shown for a kind of asset."""
FEATURES_SHOWN = 4
"""Drifted features that offenders are looked for in."""

_MEASURED: dict[AssetKind, str] = {
    "template": "measure_template",
    "photo": "measure_inputs/photo",
    "audio": "measure_inputs/audio",
    "render": "measure_render",
}
_PICTURES: dict[AssetKind, tuple[str, str]] = {
    "template": ("ingest_template", "thumbnail"),
    "audio": ("ingest_recipients/voice", "voice"),
    "photo": ("ingest_recipients/face", "photo"),
    "render": ("compose", "thumbnail"),
}
"""The artifact that was measured, and its output that shows it."""


def breaches_of(rows: pd.DataFrame, suite: Suite, result: dict[str, Any]) -> tuple[Breach, ...]:
    """The hard rules that a validation result says are broken.

    Args:
        rows: what was validated.
        suite: its expectations.
        result: from ``Validator.run``.
    """
    broken = {
        one["expectation_config"]["meta"]["rule"]: int(one["result"]["unexpected_count"])
        for one in result["results"]
        if not one["success"] and "rule" in (one["expectation_config"].get("meta") or {})
    }
    return tuple(
        Breach(
            rule=rule.rule,
            feature=rule.feature,
            said=f"{rule.feature} has to be {rule.limits}: {rule.message}",
            rows=broken[rule.rule],
            worst=_breaking(rows, suite, rule.rule),
        )
        for rule in suite.hard
        if rule.rule in broken
    )


def _breaking(rows: pd.DataFrame, suite: Suite, name: str) -> tuple[str, ...]:
    rule = next(rule for rule in suite.hard if rule.rule == name)
    values = rows[rule.feature]
    if rule.not_null:
        bad = values.isna().astype(float)
    elif rule.in_set is not None:
        bad = (values.notna() & ~values.isin(list(rule.in_set))).astype(float)
    else:
        low = (rule.min - values) if rule.min is not None else 0 * values
        high = (values - rule.max) if rule.max is not None else 0 * values
        bad = np.maximum(low, high).fillna(0.0)
    worst = bad[bad > 0].sort_values(ascending=False, kind="stable").index[:MOST]
    return tuple(str(asset) for asset in rows.loc[worst, "asset"])


def offenders_of(
    store: ObjectStore,
    tenant: str,
    verdict: KindVerdict,
    rows: pd.DataFrame,
    reference: pd.DataFrame | None,
) -> tuple[Offender, ...]:
    """The assets that a person should look at first, each once.

    Args:
        store: where the artifacts are.
        tenant: whose.
        verdict: what was found.
        rows: what was judged.
        reference: what it was compared with.
    """
    suite = suite_of(verdict.kind)
    found: dict[str, str] = {}
    for asset, feature in _blamed(verdict, suite, rows, reference):
        found.setdefault(asset, feature)
    by_asset = rows.set_index("asset")
    cache = ArtifactCache(store, tenant)
    return tuple(
        Offender(
            asset=asset,
            unit=str(by_asset.at[asset, "unit"]),
            campaign=str(by_asset.at[asset, "campaign"]),
            run_id=str(by_asset.at[asset, "run_id"]),
            feature=feature,
            value=_plain(by_asset.at[asset, feature]),
            picture=_picture(cache, verdict.kind, asset),
        )
        for asset, feature in list(found.items())[:MOST]
    )


def _blamed(
    verdict: KindVerdict, suite: Suite, rows: pd.DataFrame, reference: pd.DataFrame | None
) -> Iterator[tuple[str, str]]:
    """Assets with the feature that they stand out in; features take turns."""
    lists = [[(asset, b.feature) for asset in b.worst] for b in verdict.breaches]
    if reference is not None:
        for finding in verdict.drifted[:FEATURES_SHOWN]:
            order = _unlike(finding, suite, rows, reference).sort_values(
                ascending=False, kind="stable"
            )
            assets = rows.loc[order.index[:MOST], "asset"]
            lists.append([(str(asset), finding.feature) for asset in assets])
    for place in range(MOST):
        yield from (one[place] for one in lists if place < len(one))


def _unlike(
    finding: Finding, suite: Suite, rows: pd.DataFrame, reference: pd.DataFrame
) -> pd.Series:
    """How far each row is from the reference in one feature."""
    values, theirs = rows[finding.feature], reference[finding.feature]
    if finding.what == "nulls":
        gone = finding.nulls_current > finding.nulls_reference
        return (values.isna() if gone else values.notna()).astype(float)
    if feature_of(suite, finding.feature).type == "number":
        return (values - theirs.median()).abs().fillna(-1.0)
    before = theirs.value_counts(normalize=True)
    now = values.value_counts(normalize=True)
    return values.map(lambda value: now.get(value, 0.0) - before.get(value, 0.0)).astype(float)


def _plain(value: Any) -> Any:
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _picture(cache: ArtifactCache, kind: AssetKind, asset: str) -> str | None:
    """Object key of an asset's picture; None where it has none or is gone."""
    if kind not in _PICTURES:
        return None
    made, output = _PICTURES[kind]
    measured = cache.lookup(_MEASURED[kind], asset)
    shown: Manifest | None = None
    if measured is not None and made in measured.material.upstream:
        shown = cache.lookup(made, measured.material.upstream[made])
    if shown is None or output not in shown.outputs:  # a row without a voice
        return None
    return cache.blob_key(shown.outputs[output].sha256)
