from __future__ import annotations

from include.contracts.plan import ShardPlan
from include.features.catalogue import FEATURES
from include.features.collect import asset_rows
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.campaign import Campaign


def test_a_render_has_a_row_once_its_verdict_is_there(campaign: Campaign) -> None:
    """Rows are stored once: one without scores would stay without."""
    campaign.add("anna")
    plan = campaign.plan()
    shard: ShardPlan = campaign.shard(plan)
    (row,) = shard.rows
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    features = {f.name: None for f in FEATURES["render"]}
    cache.publish(row.materials["measure_render"], {}, {"features": features})
    assert asset_rows(cache, [shard], 0.1) == []
    cache.publish(row.materials["classify"], {}, {"verdict": "pass", "checks": []})
    (found,) = asset_rows(cache, [shard], 0.1)
    assert (found.kind, found.unit, found.values["verdict"]) == ("render", "anna", "pass")
