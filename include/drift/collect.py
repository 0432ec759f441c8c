"""Writes a campaign's feature rows. Needs pandas and pyarrow: import it inside tasks only."""

from __future__ import annotations

from collections.abc import Collection

from include.contracts.plan import CampaignPlan, ShardRef
from include.drift.rows import write_rows
from include.features.catalogue import FEATURES, AssetKind
from include.features.collect import AssetRow, asset_rows
from include.remote.fallback import rows_of as held_rows
from include.settings import Settings
from include.store import open_store
from include.store.bulk import in_parallel
from include.store.cache import ArtifactCache


def collect_rows(
    plan: CampaignPlan,
    run_id: str,
    settings: Settings,
    kinds: Collection[AssetKind] = tuple(FEATURES),
) -> int:
    """Store the row of every measured asset of a campaign that has none yet.

    Args:
        plan: the campaign.
        run_id: the run that the rows are from.
        settings: price of a core hour.
        kinds: of which assets.

    Returns:
        How many assets have a row.
    """
    store = open_store(plan.store)
    cache = ArtifactCache(store, plan.tenant)

    def rows_of(ref: ShardRef) -> list[AssetRow]:
        held = held_rows(store, ref)
        shards = [part.shard.model_copy(update={"rows": rows}) for part, rows in held]
        return asset_rows(cache, shards, settings.core_hour)

    found = in_parallel(rows_of, plan.shards or (plan.template,))
    rows = {row.asset: row for shard in found for row in shard if row.kind in kinds}
    write_rows(store, plan.tenant, run_id, rows.values())
    return len(rows)
