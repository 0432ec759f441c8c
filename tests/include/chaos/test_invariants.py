"""Every check says nothing about a good round and names what a bad one broke."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from include.chaos import invariants
from include.cli.demo import Verdict
from include.contracts.brief import Brief
from include.contracts.manifest import KeyMaterial
from include.contracts.plan import CampaignPlan, ShardPlan, ShardRef, UnitPlan
from include.report import RowOutcome, results_csv
from include.settings import Settings
from include.store import ObjectStore, open_store
from include.store.cache import ArtifactCache

PEOPLE = ["anna", "tom"]
RUN = "run-1"


class Campaign:
    """A rendered campaign of two people: artifacts, published files, a report."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store: ObjectStore = open_store(str(folder / "store"))
        self.cache = ArtifactCache(self.store, "acme")
        template = {"video": "t.mp4", "consent": "t.json"}
        brief = Brief(campaign="spring", tenant="acme", template=template, recipients="r.csv")
        shard = ShardPlan(
            brief=brief,
            brief_sha256="0" * 64,
            label="all",
            template=_unit("template", ("track_face",)),
            chunk_s=10.0,
            rows=tuple(_unit(name, ("compose", "sign", "publish")) for name in PEOPLE),
        )
        self.shard = shard
        self.store.put("acme/plan/x/shard.json", shard.model_dump_json().encode())
        ref = ShardRef(
            store=self.store.uri, tenant="acme", plan="acme/plan/x/shard.json", label="all", rows=2
        )
        self.plan = CampaignPlan(
            store=self.store.uri,
            tenant="acme",
            campaign="spring",
            plan_id="0" * 64,
            template=ref,
            shards=(ref,),
            rejects=(),
            accepted=2,
            min_success_ratio=1.0,
            rejects_csv="acme/plan/x/rejects.csv",
        )
        self.artifact(shard.template, "track_face", {"track": "x"})
        for row in shard.rows:
            self._deliver(row)
        self.report([RowOutcome(i + 2, name, "delivered") for i, name in enumerate(PEOPLE)])

    def artifact(self, unit: UnitPlan, name: str, outputs: dict[str, str]) -> Any:
        files = {}
        for output, content in outputs.items():
            path = self.folder / f"{unit.id}-{name}-{output}"
            path.write_text(content)
            files[output] = (path, "text/plain")
        return self.cache.publish(unit.materials[name], files, {})

    def _deliver(self, row: UnitPlan) -> None:
        pictures = {"video": f"{row.id} moves", "thumbnail": "small", "captions": "said"}
        composed = self.artifact(row, "compose", pictures)
        signed = self.artifact(row, "sign", {"video": f"{row.id} moves, signed"})
        self.artifact(row, "publish", {"report": row.id})
        for name, blob in {
            "video.mp4": signed.outputs["video"],
            "thumbnail.jpg": composed.outputs["thumbnail"],
            "captions.vtt": composed.outputs["captions"],
        }.items():
            self.store.copy(self.cache.blob_key(blob.sha256), self.published(row.id, name))
        video = {
            "sha256": signed.outputs["video"].sha256,
            "sha256_before_signing": composed.outputs["video"].sha256,
        }
        body = json.dumps({"video": video}).encode()
        self.store.put(self.published(row.id, "report.json"), body)

    def published(self, recipient: str, name: str) -> str:
        return f"acme/published/spring/{recipient}/{name}"

    def report(self, rows: list[RowOutcome]) -> None:
        self.store.put(f"acme/report/spring/{RUN}/results.csv", results_csv(rows))


def _unit(name: str, artifacts: tuple[str, ...]) -> UnitPlan:
    made = {a: KeyMaterial(stage=a, stage_version=1, params={"unit": name}) for a in artifacts}
    return UnitPlan(id=name, materials=made)


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env().with_store(str(tmp_path / "store"))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes the words of these tests for signed videos."""
    monkeypatch.setattr(invariants, "verify", lambda video, _: Verdict(video, True, ""))


def test_a_good_round_passes(campaign: Campaign, settings: Settings, trusting: None) -> None:
    plan = campaign.plan
    found = invariants.digests(plan)
    assert len(found) == 7
    assert invariants.nobody_lost(plan, PEOPLE) == []
    assert invariants.everybody_told(plan, RUN, PEOPLE) == []
    assert invariants.same_outputs(found, found) == []
    assert invariants.whole_store(campaign.store, "acme") == []
    assert invariants.published_whole(plan, settings) == []


def test_a_recipient_without_a_video_is_lost(campaign: Campaign) -> None:
    campaign.store.delete(campaign.published("tom", "video.mp4"))
    assert invariants.nobody_lost(campaign.plan, PEOPLE) == ["tom was never delivered"]


def test_a_row_that_no_report_knows_or_explains_is_named(campaign: Campaign) -> None:
    campaign.report([RowOutcome(2, "anna", "failed", "compose")])
    assert invariants.everybody_told(campaign.plan, RUN, PEOPLE) == [
        "run-1: tom is not in results.csv",
        "run-1: anna is missing without a reason",
    ]
    assert invariants.everybody_told(campaign.plan, "run-2", PEOPLE) == ["run-2 wrote no report"]


def test_another_unsigned_video_for_the_same_key_is_found(campaign: Campaign) -> None:
    reference = invariants.digests(campaign.plan)
    row = campaign.shard.rows[0]
    campaign.cache.quarantine("compose", row.key("compose"))
    campaign.cache.quarantine("sign", row.key("sign"))
    campaign.artifact(row, "compose", {"video": "otherwise", "thumbnail": "small"})
    campaign.artifact(row, "sign", {"video": "otherwise, signed"})  # random: may differ
    (wrong,) = invariants.same_outputs(invariants.digests(campaign.plan), reference)
    assert "compose" in wrong
    assert "came out different: video" in wrong
    (unknown,) = invariants.same_outputs({("compose", "a" * 64): {}}, reference)
    assert "never made undisturbed" in unknown


def test_a_half_file_and_a_blob_with_other_bytes_are_found(campaign: Campaign) -> None:
    sha = hashlib.sha256(b"whole").hexdigest()
    campaign.store.put(f"acme/blob/{sha[:2]}/{sha}", b"who")
    campaign.store.put("acme/published/spring/tom/video.mp4.part", b"")
    found = invariants.whole_store(campaign.store, "acme")
    assert len(found) == 2
    assert "holds other bytes" in found[0]
    assert "half a file" in found[1]


@pytest.mark.parametrize(
    ("name", "body", "said"),
    [
        ("video.mp4", b"anna mov", "anna: video.mp4 is not what sign made"),
        ("captions.vtt", b"other words", "anna: captions.vtt is not what compose made"),
        ("video.mp4.tmp", b"x", "anna: published besides: video.mp4.tmp"),
        ("thumbnail.jpg", None, "anna: a video without thumbnail.jpg"),
        (
            "report.json",
            b'{"video": {"sha256": "1", "sha256_before_signing": "2"}}',
            "anna: report.json is about another video",
        ),
    ],
)
def test_what_is_published_must_be_of_one_piece(
    campaign: Campaign,
    settings: Settings,
    trusting: None,
    name: str,
    body: bytes | None,
    said: str,
) -> None:
    key = campaign.published("anna", name)
    if body is None:
        campaign.store.delete(key)
    else:
        campaign.store.put(key, body)
    assert said in invariants.published_whole(campaign.plan, settings)


def test_an_unsigned_video_is_found(campaign: Campaign, settings: Settings) -> None:
    """The real verify command, on bytes that nobody signed."""
    found = invariants.published_whole(campaign.plan, settings)
    assert [line.split(":")[0] for line in found] == PEOPLE
    assert all("does not verify" in line for line in found)


def test_a_published_video_whose_artifact_is_gone_is_found(
    campaign: Campaign, settings: Settings, trusting: None
) -> None:
    campaign.cache.quarantine("sign", campaign.shard.rows[1].key("sign"))
    (wrong,) = invariants.published_whole(campaign.plan, settings)
    assert wrong == "tom: published, but sign does not exist"


def _task(tries: int, state: str = "success") -> dict[str, Any]:
    return {
        "task_id": "compose",
        "map_index": 0,
        "try_number": tries,
        "max_tries": 2,
        "state": state,
    }


def test_retries_within_the_budget_pass() -> None:
    assert invariants.within_budget([_task(3), _task(1), _task(1)], scheduler_kills=0) == []
    assert invariants.within_budget([_task(4), _task(1), _task(1)], scheduler_kills=1) == []


def test_a_task_beyond_its_retries_and_a_cascade_are_found() -> None:
    (one,) = invariants.within_budget([_task(4), _task(1), _task(1)], scheduler_kills=0)
    assert one == "compose[0] was tried 4 times, its retries allow 3"
    (cascade,) = invariants.within_budget([_task(3), _task(3), _task(1)], scheduler_kills=0)
    assert cascade == "7 attempts for 3 tasks that succeeded"
