"""Demand: a finished campaign wants nothing, whatever else was cleared away."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.contracts.brief import Brief
from include.contracts.manifest import KeyMaterial
from include.contracts.plan import TEMPLATE_UNIT, ShardPlan, UnitPlan
from include.demand import demand
from include.stages.specs import MAKER, STAGES
from include.store import open_store
from include.store.cache import ArtifactCache

ROW_STAGES = [name for name, spec in STAGES.items() if spec.scope == "row"]
TEMPLATE_STAGES = [name for name, spec in STAGES.items() if spec.scope == "template"]
ROW_ARTIFACTS = [name for name, spec in MAKER.items() if spec.scope == "row"]


class Campaign:
    """Two shards of two rows and the template's own plan, in a store."""

    def __init__(self, root: Path) -> None:
        self.file = root / "out.bin"
        self.cache = ArtifactCache(open_store(str(root / "store")), "acme")
        self.template = self.unit(TEMPLATE_UNIT, "template")
        self.rows = [self.unit(name, "row") for name in ("ann", "ben", "cem", "dan")]
        self.shards = [self.plan(self.rows[:2]), self.plan(self.rows[2:])]
        keys = tuple(f"acme/plan/x/shard-{i:04}.json" for i in range(2))
        for key, shard in zip(keys, self.shards, strict=True):
            self.cache.store.put(key, shard.model_dump_json().encode())
        self.own = self.plan([]).model_copy(update={"shared_by": keys})

    def unit(self, name: str, scope: str) -> UnitPlan:
        materials = {
            artifact: KeyMaterial(stage=artifact, stage_version=1, params={"unit": name})
            for artifact, spec in MAKER.items()
            if spec.scope == scope
        }
        return UnitPlan(id=name, materials=materials)

    def plan(self, rows: list[UnitPlan]) -> ShardPlan:
        template = {"video": "t.mp4", "consent": "t.json"}
        return ShardPlan(
            brief=Brief(campaign="c", tenant="acme", template=template, recipients="r.csv"),
            brief_sha256="0" * 64,
            label="",
            template=self.template,
            chunk_s=10.0,
            rows=tuple(rows),
        )

    def make(self, unit: UnitPlan, *artifacts: str) -> None:
        for artifact in artifacts:
            self.file.write_bytes(f"{unit.id} {artifact}".encode())
            files = {"out": (self.file, "application/octet-stream")}
            self.cache.publish(unit.materials[artifact], files, {})

    def judge(self, unit: UnitPlan, artifact: str, why: str) -> None:
        finding = {"rule": "nudity.unavailable", "detail": why}
        self.cache.publish(unit.materials[artifact], {}, {"findings": [finding]})

    def lose_blob(self, unit: UnitPlan, artifact: str) -> None:
        found = self.cache.lookup(artifact, unit.key(artifact))
        assert found
        self.cache.store.delete(self.cache.blob_key(found.outputs["out"].sha256))

    def to_make(self, stage: str, shard: ShardPlan) -> tuple[str, ...]:
        return demand(self.cache, shard, STAGES[stage]).to_make


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def finish(campaign: Campaign) -> None:
    for row in campaign.rows:
        campaign.make(row, "publish")


@pytest.mark.parametrize("stage", ROW_STAGES)
def test_a_published_row_wants_nothing_although_all_else_is_gone(
    campaign: Campaign, stage: str
) -> None:
    finish(campaign)
    found = demand(campaign.cache, campaign.shards[0], STAGES[stage])
    assert found.to_make == ()
    assert [result.status for result in found.results] == ["hit", "hit"]


@pytest.mark.parametrize("stage", TEMPLATE_STAGES)
def test_a_finished_campaign_does_not_make_its_template_again(
    campaign: Campaign, stage: str
) -> None:
    finish(campaign)
    found = demand(campaign.cache, campaign.own, STAGES[stage])
    assert [result.status for result in found.results] == ["hit"]


def test_one_unpublished_row_in_any_shard_demands_the_template(campaign: Campaign) -> None:
    for row in campaign.rows[:3]:
        campaign.make(row, "publish")
    assert campaign.to_make("ingest_template", campaign.own) == (TEMPLATE_UNIT,)


def test_a_template_artifact_that_no_missing_artifact_is_made_from_stays_unmade(
    campaign: Campaign,
) -> None:
    finish(campaign)
    waiting = campaign.unit("eva", "row")
    campaign.make(waiting, *(name for name in ROW_ARTIFACTS if name not in ("sign", "publish")))
    key = "acme/plan/x/shard-0002.json"
    campaign.cache.store.put(key, campaign.plan([waiting]).model_dump_json().encode())
    own = campaign.own.model_copy(update={"shared_by": (*campaign.own.shared_by, key)})
    assert all(campaign.to_make(stage, own) == () for stage in TEMPLATE_STAGES)


def test_a_verdict_without_the_detector_is_asked_for_again_and_serves_until_then(
    campaign: Campaign,
) -> None:
    ann, ben = campaign.rows[:2]
    late = ("classify", "sign", "publish")
    for row in (ann, ben):
        campaign.make(row, *(name for name in ROW_ARTIFACTS if name not in late))
    others = [name for name in TEMPLATE_STAGES if name != "classify_template"]
    campaign.make(campaign.template, *others)
    campaign.judge(campaign.template, "classify_template", "/opt/nudity cannot be run")
    campaign.judge(ann, "classify", "in the template: /opt/nudity cannot be run")
    campaign.judge(ben, "classify", "there was no frame to look at")
    assert campaign.to_make("classify_template", campaign.shards[0]) == (TEMPLATE_UNIT,)
    assert campaign.to_make("classify", campaign.shards[0]) == ("ann",)
    assert campaign.to_make("sign", campaign.shards[0]) == ("ann", "ben")
    campaign.lose_blob(ann, "compose")
    found = demand(campaign.cache, campaign.shards[0], STAGES["classify"])
    assert [result.status for result in found.results] == ["hit", "hit"]
    finish(campaign)
    assert campaign.to_make("classify_template", campaign.shards[0]) == ()
    assert campaign.to_make("classify", campaign.shards[0]) == ()


def test_a_publication_that_lost_its_file_is_made_again(campaign: Campaign) -> None:
    finish(campaign)
    campaign.make(campaign.rows[1], "sign", *STAGES["publish"].after)
    campaign.lose_blob(campaign.rows[1], "publish")
    assert campaign.to_make("publish", campaign.shards[0]) == ("ben",)


def test_a_row_without_its_inputs_is_skipped_with_their_names(campaign: Campaign) -> None:
    campaign.make(campaign.rows[0], "compose", "classify", *STAGES["sign"].after)
    found = demand(campaign.cache, campaign.shards[0], STAGES["sign"])
    assert found.to_make == ("ann",)
    assert [(r.id, r.code) for r in found.results] == [("ben", "upstream.missing")]
    said = found.results[0].message or ""
    assert "compose, classify" in said
    assert "run it again" in said


def test_only_the_rows_asked_for_are_looked_at(campaign: Campaign) -> None:
    rows = (campaign.rows[1],)
    found = demand(campaign.cache, campaign.shards[0], STAGES["ingest_recipients"], rows=rows)
    assert found.to_make == ("ben",)
    assert demand(campaign.cache, campaign.shards[0], STAGES["sign"], rows=()).results == ()


def test_a_plan_that_names_no_rows_demands_its_template(campaign: Campaign) -> None:
    own = campaign.own.model_copy(update={"shared_by": ()})
    assert campaign.to_make("ingest_template", own) == (TEMPLATE_UNIT,)


def test_a_check_is_made_although_nothing_is_made_from_it(campaign: Campaign) -> None:
    row = campaign.rows[0]
    row_inputs = ("ingest_recipients/face", "ingest_recipients/voice")
    campaign.make(row, *row_inputs)
    assert "ann" in campaign.to_make("measure_inputs", campaign.shards[0])
    everything = [name for name in ROW_ARTIFACTS if name not in ("sign", "publish")]
    campaign.make(row, *(name for name in everything if name != "measure_render"))
    campaign.make(campaign.template, *(n for n, s in MAKER.items() if s.scope == "template"))
    assert "ann" in campaign.to_make("measure_render", campaign.shards[0])


def test_nothing_is_rendered_for_a_row_whose_check_is_missing(campaign: Campaign) -> None:
    row, gated = campaign.rows[0], STAGES["face_swap"]
    campaign.make(campaign.template, *(n for n, s in MAKER.items() if s.scope == "template"))
    campaign.make(row, "ingest_recipients/face", "measure_inputs/audio")
    found = demand(campaign.cache, campaign.shards[0], gated)
    assert found.to_make == ()
    assert "measure_inputs/photo" in (found.results[0].message or "")
    campaign.make(row, "measure_inputs/photo")
    assert campaign.to_make("face_swap", campaign.shards[0]) == ("ann",)


def test_a_check_that_was_changed_is_made_again_and_what_it_gates_is_not(
    campaign: Campaign,
) -> None:
    row = campaign.rows[0]
    campaign.make(campaign.template, *(n for n, s in MAKER.items() if s.scope == "template"))
    made = [n for n in ROW_ARTIFACTS if not n.startswith("measure_inputs")]
    campaign.make(row, *(n for n in made if n not in ("sign", "publish")))
    shard = campaign.shards[0]
    assert "ann" in campaign.to_make("measure_inputs", shard)
    for stage in ("face_swap", "lip_sync", "upscale", "compose"):
        assert "ann" not in campaign.to_make(stage, shard)
    found = demand(campaign.cache, shard, STAGES["sign"])
    assert "ann" not in found.to_make, "the video waits for the check"
