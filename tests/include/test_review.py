"""Which rows a person is asked about."""

from __future__ import annotations

from pathlib import Path

from include.contracts.plan import ShardRef
from include.review import collect_reviews
from include.settings import Settings
from tests.include.test_demand import Campaign


def test_a_row_whose_video_broke_a_hard_rule_is_not_asked_about(tmp_path: Path) -> None:
    campaign = Campaign(tmp_path)
    good, bad = campaign.rows[:2]
    sheet = tmp_path / "sheet.jpg"
    for row in (good, bad):
        sheet.write_bytes(row.id.encode())
        facts = {"verdict": "review", "reasons": ["a word on the list"]}
        files = {"contact_sheet": (sheet, "image/jpeg")}
        campaign.cache.publish(row.materials["classify"], files, facts)
        campaign.cache.publish(row.materials["compose"], {"video": (sheet, "video/mp4")}, {})
    campaign.make(good, "measure_render")
    plan = "acme/plan/x/shard-0009.json"
    shard = campaign.plan([good, bad])
    campaign.cache.store.put(plan, shard.model_dump_json().encode())
    settings = Settings.from_env().with_store(str(tmp_path / "store"))
    ref = ShardRef(store=settings.store, tenant="acme", plan=plan, label="", rows=2)
    assert [item.unit for item in collect_reviews([ref], settings)] == [good.id]
