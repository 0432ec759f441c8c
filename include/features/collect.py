"""The feature rows of a campaign, and what is known of a render only once its row is through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from include.contracts.base import Sha256
from include.contracts.features import FeatureValue
from include.contracts.manifest import Manifest
from include.contracts.plan import ShardPlan, UnitPlan
from include.features.catalogue import AssetKind, feature_names
from include.keys import chunk_material, refused_material
from include.stages.specs import MAKER
from include.store.cache import ArtifactCache

MEASURED: dict[str, AssetKind] = {
    "measure_template": "template",
    "measure_inputs/photo": "photo",
    "measure_inputs/audio": "audio",
    "measure_render": "render",
}
"""Feature artifacts and the kind of asset that each describes."""

CHECKS = ("nudity", "script", "flash")
TIMED = ("face_swap", "lip_sync", "upscale", "compose", "classify")
"""Stages with a column of their own."""


@dataclass(frozen=True)
class AssetRow:
    """One measured asset of a campaign."""

    kind: AssetKind
    asset: Sha256
    """Key of the feature artifact."""
    unit: str
    campaign: str
    made_at: datetime
    """When it was measured: earlier than the run for an asset that was known before."""
    values: dict[str, FeatureValue]
    """By feature, exactly those of the catalogue for its kind."""
    refused: str = ""
    """Hard rules that it breaks, by commas; empty for what was let through."""


def asset_rows(
    cache: ArtifactCache, shards: Iterable[ShardPlan], core_hour: float
) -> list[AssetRow]:
    """The features of everything in a campaign that was measured, each asset once.

    What a hard rule refused is there as well, marked with the rule's name.

    Args:
        cache: the tenant's artifacts.
        shards: the campaign's plans.
        core_hour: price of a core for an hour.
    """
    rows: dict[Sha256, AssetRow] = {}
    for shard in shards:
        for unit in (shard.template, *shard.rows):
            for row in _unit_rows(cache, shard, unit, core_hour):
                rows.setdefault(row.asset, row)
    return list(rows.values())


def _unit_rows(
    cache: ArtifactCache, shard: ShardPlan, unit: UnitPlan, core_hour: float
) -> Iterator[AssetRow]:
    for artifact, kind in MEASURED.items():
        if artifact not in unit.materials:
            continue
        found = cache.lookup(artifact, unit.key(artifact))
        refused = refused_material(unit.materials[artifact])
        found = found or cache.lookup(refused.stage, refused.key())
        if found is None:
            continue
        measured = found.facts["features"]  # a manifest's JSON has its names sorted
        values: dict[str, FeatureValue] = {name: measured[name] for name in feature_names(kind)}
        if kind == "render":
            made = row_manifests(cache, unit)
            if "classify" not in made:
                continue  # a row is stored once: not before its verdict is there
            values |= collected_values(made, core_hour)
        campaign = shard.brief.campaign
        rules = ",".join(found.facts.get("refused", ()))
        yield AssetRow(kind, found.key, unit.id, campaign, found.made_at, values, rules)


def row_manifests(cache: ArtifactCache, unit: UnitPlan) -> dict[str, list[Manifest]]:
    """What exists of a row's artifacts: each one's manifest, then those of its chunks."""
    made: dict[str, list[Manifest]] = {}
    for name, material in unit.materials.items():
        found = cache.lookup(name, material.key())
        if found is None:
            continue
        made[name] = [found]
        while MAKER[name].chunked:
            chunk = chunk_material(material, len(made[name]) - 1)
            part = cache.lookup(chunk.stage, chunk.key())
            if part is None:
                break
            made[name].append(part)
    return made


def collected_values(
    made: Mapping[str, list[Manifest]], core_hour: float
) -> dict[str, FeatureValue]:
    """The collected features of a render: verdict and scores, times, memory and cost.

    Args:
        made: as ``row_manifests`` gives it.
        core_hour: price of a core for an hour.
    """
    cpu = {name: _cost(parts, "cpu_seconds") for name, parts in made.items()}
    total = sum(cpu.values())
    # What an API did costs what it asked for, whatever processors it used.
    here = [[part for part in parts if part.remote is None] for parts in made.values()]
    own = sum(_cost(parts, "cpu_seconds") for parts in here if parts)
    paid = sum(part.remote.price for parts in made.values() for part in parts if part.remote)
    values: dict[str, FeatureValue] = {
        "seconds": sum(_cost(parts, "seconds") for parts in made.values()),
        "cpu_seconds": total,
        "peak_memory": max(
            (part.peak_mib for parts in made.values() for part in parts), default=0.0
        ),
        "cost": own / 3600 * core_hour + paid,
    }
    values |= {f"cpu_{name}": cpu.get(name) for name in TIMED}
    return values | _safety(made["classify"][0] if "classify" in made else None)


def _cost(parts: list[Manifest], what: str) -> float:
    """Of an artifact: counted with its chunks by who made them in one go, else their sum."""
    whole, *chunks = (float(getattr(part, what)) for part in parts)
    return max(whole, sum(chunks))


def _safety(classified: Manifest | None) -> dict[str, FeatureValue]:
    if classified is None:
        return {"verdict": None, **{f"{check}_score": None for check in CHECKS}}
    scores = {
        check["name"]: float(check["score"])
        for check in classified.facts["checks"]
        if check["verdict"] != "unavailable"
    }
    verdict = str(classified.facts["verdict"])
    return {"verdict": verdict, **{f"{check}_score": scores.get(check) for check in CHECKS}}
