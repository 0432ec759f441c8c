"""``./understudy quote``: what would be rendered, how long that takes, and what is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.fanout import make_campaign
from include.cli import quote
from include.contracts.plan import ShardPlan
from include.planning import plan_campaign
from include.settings import Settings
from include.sharding import record_times
from include.store import open_store
from include.store.cache import ArtifactCache

ROWS = 5


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {
        "STORE": tmp_path / "store",
        "STATE": tmp_path / "state",
        "ROOTS": tmp_path,
        "SLOTS": 2,
    }.items():
        monkeypatch.setenv(f"UNDERSTUDY_{name}", str(value))
    return Settings.from_env()


@pytest.fixture
def brief(tmp_path: Path, settings: Settings) -> Path:
    return make_campaign(tmp_path / "campaign", ROWS, 100, settings)


def said(brief: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert quote.main([str(brief)]) == 0
    return capsys.readouterr().out


def test_a_new_campaign_is_predicted_from_the_sample_campaigns_times(
    brief: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(brief, capsys)
    assert f"{ROWS} rows accepted" in text
    assert f"published already: 0; to render: {ROWS}" in text
    assert "nothing measured yet" in text


def test_measured_times_change_the_prediction(
    brief: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_campaign(str(brief), settings)
    store = open_store(plan.store)
    own = ShardPlan.model_validate_json(store.get(plan.template.plan))

    class Slow:
        made, seconds = 1, 7200.0

    record_times(store, plan.tenant, own.template, {"compose": Slow()})
    text = said(brief, capsys)
    assert "measured here" in text
    # Five rows of two hours on two slots, and what the other stages take by the sample's figures.
    assert re.search(r"predicted: 5\.[01] h with 2 stage processes", text)


def test_a_published_campaign_is_predicted_to_take_no_time(
    brief: Path, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_campaign(str(brief), settings)
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    for ref in plan.shards:
        for row in ShardPlan.model_validate_json(cache.store.get(ref.plan)).rows:
            cache.publish(row.materials["publish"], {}, {})
    text = said(brief, capsys)
    assert f"published already: {ROWS}; to render: 0" in text
    assert "predicted: 0 s" in text
