"""A nudity detector that is not there, or not at the moment, and what is left of it later."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.contracts.manifest import Manifest
from include.contracts.plan import CampaignPlan, ShardPlan
from include.local_run import Run, run_campaign
from include.planning import plan_campaign
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import Tiny, make_tiny, tiny_environment

pytestmark = pytest.mark.slow


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    for name, value in tiny_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    return make_tiny(tmp_path)


def _verdicts(plan: CampaignPlan) -> tuple[Manifest | None, Manifest | None]:
    """Of the template and of the one row."""
    store = open_store(plan.store)
    shard = ShardPlan.model_validate_json(store.get(plan.shards[0].plan))
    cache = ArtifactCache(store, plan.tenant)
    template = cache.lookup("classify_template", shard.template.key("classify_template"))
    return template, cache.lookup("classify", shard.rows[0].key("classify"))


def test_a_verdict_without_the_detector_holds_until_there_is_one_and_no_longer(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_campaign(str(tiny.write()), tiny.settings)

    def run(python: str, run_id: str) -> Run:
        monkeypatch.setenv("UNDERSTUDY_NUDITY_PYTHON", python)
        return run_campaign(plan, tiny.settings, run_id=run_id)

    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    found = run(str(killed), "killed").unit("classify_template", "template")
    assert (found.status, found.code, found.retry) == ("failed", "nudity.lost", True)
    assert _verdicts(plan) == (None, None)

    absent = run("/nowhere/python", "absent")
    assert absent.unit("sign", "eve").status == "held", absent.said
    template, row = _verdicts(plan)
    assert template is not None
    assert row is not None
    assert row.facts["verdict"] == "review"
    assert any("cannot be run" in reason for reason in row.facts["reasons"])

    for python in ("/nowhere/python", str(killed)):  # nothing better to be had
        assert run(python, "again").unit("sign", "eve").status == "held"
        assert _verdicts(plan) == (template, row)

    there = run(str(tiny.settings.nudity_python), "there")
    assert there.unit("publish", "eve").status == "made", there.said
    _, row = _verdicts(plan)
    assert row is not None
    assert row.facts["verdict"] == "pass"
    checks = {check["name"]: check["verdict"] for check in row.facts["checks"]}
    assert checks["nudity"] == "pass"
    assert run(str(tiny.settings.nudity_python), "done").processes == []
