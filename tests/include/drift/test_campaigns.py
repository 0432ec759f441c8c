"""What an open gate does to a campaign, from the brief to the keys of its rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from include.drift import gates
from include.errors import Refused
from include.settings import Settings
from include.store import open_store
from tests.include.drift.test_gates import verdict
from tests.support.campaign import Campaign


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    settings = replace(Settings.from_env(), store=str(tmp_path / "store"), roots=(tmp_path,))
    root = tmp_path / "campaign"
    root.mkdir()
    made = Campaign(root, settings)
    made.add("anna")
    made.add("ben")
    return made


def judged(campaign: Campaign, outcome: str) -> None:
    store = open_store(campaign.settings.store)
    gates.apply(store, "acme", [verdict(outcome)], f"run-{outcome}", "acme/drift/report/x.html")


def under(campaign: Campaign, policy: str) -> None:
    campaign.settings = replace(campaign.settings, drift_policy=policy)


def test_a_gate_stops_new_campaigns_and_lets_them_go_on_when_the_data_recovers(campaign):
    under(campaign, "stop")
    before = campaign.plan()
    judged(campaign, "drift")
    with pytest.raises(Refused, match="no new campaign starts") as caught:
        campaign.plan()
    assert caught.value.code == "drift.gate"
    judged(campaign, "ok")
    assert campaign.plan() == before


def test_what_publishes_nothing_is_planned_behind_a_closed_gate(campaign):
    before = campaign.plan()
    judged(campaign, "drift")
    for policy in ("stop", "review"):
        under(campaign, policy)
        assert campaign.plan(gated=False) == before


def test_another_tenants_policy_or_gate_is_its_own(campaign):
    under(campaign, "other=stop")
    judged(campaign, "drift")
    campaign.plan()


def test_under_review_every_render_is_looked_at_and_none_is_made_again(campaign):
    under(campaign, "review")
    before = campaign.shard(campaign.plan())
    judged(campaign, "drift")
    during = campaign.shard(campaign.plan())
    judged(campaign, "ok")
    after = campaign.shard(campaign.plan())
    assert (before.brief.policy.review, during.brief.policy.review) == ("borderline", "all")
    for old, new in zip(before.rows, during.rows, strict=True):
        assert old.key("compose") == new.key("compose")
        assert old.key("classify") != new.key("classify")
    assert after == before


def test_a_warning_changes_nothing_and_says_what_drifted(campaign, caplog):
    before = campaign.plan()
    judged(campaign, "drift")
    assert campaign.plan() == before
    assert "luma: median 90, was 120" in caplog.text
