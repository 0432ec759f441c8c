"""Renders the sample's people, photographed in many ways, and measures what came out."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from include.contracts.features import FeatureValue
from include.contracts.plan import ShardPlan
from include.features.collect import asset_rows
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.samples.shifts import taken_again
from include.settings import Settings
from include.store import open_store
from include.store.cache import ArtifactCache

Values = dict[str, FeatureValue]

SHAPES = (Shape(0.08, 0.6, (480, 270), 2.0), Shape(0.15, 1.0, (480, 270), 1.2))


def measure_renders(count: int, seed: int) -> list[Values]:
    """Render campaigns of every shape through all stages and collect their rows.

    Args:
        count: renders of each shape.
        seed: of how photos are taken.

    Raises:
        ValueError: a row was not planned or not rendered.
    """
    rng = np.random.default_rng(seed)
    rows: list[Values] = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory(prefix="understudy-renders-") as folder:
            settings = Settings.from_env().with_store(f"{folder}/store")
            settings = replace(settings, roots=(*settings.roots, Path(folder)), shard_size=count)
            brief = make_campaign(
                Path(folder) / "campaign",
                settings,
                count,
                shape=shape,
                photo=lambda jpeg: taken_again(jpeg, rng),
            )
            rows += _rendered(brief, settings, count)
    return rows


def _rendered(brief: Path, settings: Settings, count: int) -> list[Values]:
    plan = plan_campaign(str(brief), settings)
    run_campaign(plan, settings)
    store = open_store(plan.store)
    shards = [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]
    found = asset_rows(ArtifactCache(store, plan.tenant), shards, settings.core_hour)
    rows = [row.values for row in found if row.kind == "render"]
    if len(rows) != count:
        raise ValueError(f"{len(rows)} of {count} rows were rendered and measured")
    return rows
