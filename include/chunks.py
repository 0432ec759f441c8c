"""Chunks as tasks: which parts of a long template several workers can work on at a time.

Knows only what manifests say, so that the planner needs no media library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from include.contracts.plan import ShardPlan, ShardRef
from include.demand import demand
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache

MAX_MAPPED = 1000
"""Most chunk tasks of a run: below Airflow's limit on mapped tasks (``core.max_map_length``)."""


def unfinished(shard: Mapping[str, Any], stages: Iterable[str]) -> bool:
    """Whether any of these stages still has to make something for a shard.

    Args:
        shard: a ``ShardRef`` as plain data.
        stages: names.
    """
    cache, plan = _open(shard)
    for name in stages:
        wanted = demand(cache, plan, STAGES[name])
        if wanted.to_make or any(unit.status == "skipped" for unit in wanted.results):
            return True
    return False


def chunks_of(shard: Mapping[str, Any]) -> int:
    """How many chunks the template of a shard is worked through in; 1 when it is not tracked."""
    cache, plan = _open(shard)
    found = cache.lookup("track_face", plan.template.key("track_face"))
    return int(found.facts["chunks"]) if found else 1


def chunk_refs(shards: Sequence[Mapping[str, Any]], count: int) -> list[dict[str, Any]]:
    """Each shard's chunks, by reference.

    Returns:
        ``ShardRef`` as plain data with ``chunk``; empty for one chunk, or when there would be
        more of them than can be mapped.
    """
    if count < 2 or len(shards) * count > MAX_MAPPED:
        return []
    return [
        {**shard, "chunk": chunk, "label": f"{shard['label']}, chunk {chunk + 1} of {count}"}
        for shard in shards
        for chunk in range(count)
    ]


def _open(shard: Mapping[str, Any]) -> tuple[ArtifactCache, ShardPlan]:
    names = set(ShardRef.model_fields)
    ref = ShardRef.model_validate({k: v for k, v in shard.items() if k in names})
    store = open_store(ref.store)
    plan = ShardPlan.model_validate_json(store.get(ref.plan))
    return ArtifactCache(store, ref.tenant), plan
