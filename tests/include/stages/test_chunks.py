"""Long templates: worked through in chunks, with the same pixels and no seams."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from include.contracts.manifest import Manifest
from include.contracts.plan import CampaignPlan, ShardPlan
from include.contracts.stage import StageRequest, StageResult
from include.demand import demand
from include.keys import chunk_material
from include.local_run import Run, run_campaign
from include.planning import plan_campaign
from include.settings import Settings
from include.stages.context import Events
from include.stages.runner import run_stage
from include.stages.segments import load_points
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import SIZE, Tiny, astronaut, make_tiny, tiny_environment, write_video

pytestmark = pytest.mark.slow

CARD, FACE, FPS = 4, 60, 10
CHUNK_S = 2.0


def long_frames() -> Iterator[np.ndarray]:
    """A card, then one long shot of a face that moves and nods."""
    yield from [np.full((SIZE[1], SIZE[0], 3), (28, 40, 66), np.uint8)] * CARD
    still = astronaut()[0:330, 30:470]
    for number in range(FACE):
        shift = 4 * np.sin(number / 9), 3 * np.cos(number / 11)
        move = np.float32([[0.72, 0, shift[0]], [0, 0.72, shift[1]]])
        yield cv2.warpAffine(still, move, SIZE, flags=cv2.INTER_AREA)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    root = tmp_path_factory.mktemp("chunks")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        tiny = make_tiny(root)
        tiny.settings = replace(tiny.settings, chunk_s=CHUNK_S)
        write_video(tiny.root / "ad.mp4", long_frames(), FPS)
        tiny.rows[0]["script"] = "Hi {name}, this is a line that goes on for a while."
        tiny.write()
        yield tiny


@pytest.fixture(scope="module")
def rendered(tiny: Tiny) -> tuple[CampaignPlan, Run]:
    plan = plan_campaign(str(tiny.path), tiny.settings)
    run = run_campaign(plan, tiny.settings)
    assert run.unit("publish", "eve").status == "made", run.said
    return plan, run


def load(plan: CampaignPlan, store: str) -> tuple[ArtifactCache, ShardPlan]:
    objects = open_store(store)
    shard = ShardPlan.model_validate_json(objects.get(plan.shards[0].plan))
    return ArtifactCache(objects, plan.tenant), shard


def whole(plan: CampaignPlan, store: str, name: str) -> Manifest:
    cache, shard = load(plan, store)
    owner = shard.template if name in shard.template.materials else shard.rows[0]
    found = cache.lookup(name, owner.key(name))
    assert found is not None, name
    return found


def part(plan: CampaignPlan, store: str, name: str, index: int) -> Manifest | None:
    cache, shard = load(plan, store)
    owner = shard.template if name in shard.template.materials else shard.rows[0]
    material = chunk_material(owner.materials[name], index)
    return cache.lookup(material.stage, material.key())


def copy_of(settings: Settings, folder: Path, keep: tuple[str, ...]) -> Settings:
    """A store with the same inputs in which only some artifacts exist."""
    shutil.copytree(settings.store, folder)
    for stage in (folder / "acme").iterdir():
        if stage.name not in ("blob", "plan", "draft", *keep):
            shutil.rmtree(stage)
    return replace(settings, store=str(folder))


def test_a_long_template_is_made_of_several_chunks(rendered, tiny: Tiny) -> None:
    plan, _ = rendered
    assert whole(plan, tiny.settings.store, "track_face").facts["chunks"] > 3
    for name, spec in STAGES.items():
        stored = part(plan, tiny.settings.store, name, 1) if spec.chunked else None
        assert (stored is not None) == spec.chunked, name


def test_chunks_change_no_byte_of_the_video(rendered, tiny: Tiny, tmp_path: Path) -> None:
    plan, _ = rendered
    kept = ("ingest_template", "track_face", "measure_template")
    settings = copy_of(tiny.settings, tmp_path / "store", kept)
    store = open_store(settings.store)
    for ref in (plan.template, *plan.shards):
        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        shard = shard.model_copy(update={"chunk_s": 0.0})
        store.put(ref.plan, shard.model_dump_json().encode())
    plan = plan.model_copy(
        update={
            "store": settings.store,
            "template": plan.template.model_copy(update={"store": settings.store}),
            "shards": tuple(r.model_copy(update={"store": settings.store}) for r in plan.shards),
        }
    )
    run = run_campaign(plan, settings, run_id="whole", until="compose")
    assert run.unit("compose", "eve").status == "made", run.said
    assert part(plan, settings.store, "compose", 1) is None
    one, several = (whole(plan, s, "compose") for s in (settings.store, tiny.settings.store))
    assert one.outputs["video"].sha256 == several.outputs["video"].sha256


def test_a_chunks_edge_is_no_seam_in_the_track(rendered, tiny: Tiny, tmp_path: Path) -> None:
    """Landmarks of a template tracked in chunks, against one tracker for the whole shot."""
    plan, _ = rendered
    settings = replace(copy_of(tiny.settings, tmp_path / "store", ("ingest_template",)), chunk_s=0)
    other = plan_campaign(str(tiny.path), settings)
    run_campaign(other, settings, until="track_face")
    points = []
    for which, place in ((plan, tiny.settings), (other, settings)):
        cache, _ = load(which, place.store)
        blob = whole(which, place.store, "track_face").outputs["track"]
        points.append(load_points(cache.fetch(blob, tmp_path / place.store.replace("/", "-"))))
    chunked, alone = (track[CARD:, :, :2] for track in points)
    assert chunked.shape == alone.shape
    off = np.linalg.norm(chunked - alone, axis=2).mean(1)
    assert off.max() < 0.5, "mean distance of a frame's landmarks, pixels"
    # Jerk: what the eye would see at a seam is a step that the frames around it do not have.
    jerk = np.abs(np.diff(chunked, n=2, axis=0)).mean((1, 2))
    assert jerk.max() < 3 * np.abs(np.diff(alone, n=2, axis=0)).mean((1, 2)).max()


def request(plan: CampaignPlan, settings: Settings, stage: str, chunk: int) -> StageRequest:
    spec = STAGES[stage]
    ref = plan.template if spec.scope == "template" else plan.shards[0]
    units = ("template",) if spec.scope == "template" else ("eve",)
    return StageRequest(
        stage=stage, store=settings.store, tenant=plan.tenant, plan=ref.plan, units=units,
        run_id="one-chunk", result=f"{plan.tenant}/result/one-chunk/{stage}-{chunk}", chunk=chunk,
    )  # fmt: skip


def one_chunk(plan: CampaignPlan, settings: Settings, stage: str, chunk: int) -> StageResult:
    return run_stage(request(plan, settings, stage, chunk), Events(stage))


def test_a_recipients_chunks_can_be_made_one_by_one_and_in_any_order(
    rendered, tiny: Tiny, tmp_path: Path
) -> None:
    template = tuple(name for name, spec in STAGES.items() if spec.scope == "template")
    settings = copy_of(
        tiny.settings, tmp_path / "store", (*template, "ingest_recipients", "measure_inputs")
    )
    plan = plan_campaign(str(tiny.path), settings)
    count = whole(plan, settings.store, "track_face").facts["chunks"]
    for chunk in reversed(range(count)):
        for stage in ("face_swap", "lip_sync", "upscale", "compose"):
            made = one_chunk(plan, settings, stage, chunk)
            assert [unit.status for unit in made.units] == ["made"], (stage, made)
    before = {i: part(plan, settings.store, "compose", i) for i in range(count)}
    run_campaign(plan, settings, run_id="join", until="compose")
    after = {i: part(plan, settings.store, "compose", i) for i in range(count)}
    assert before == after
    ours, theirs = (whole(plan, s.store, "compose") for s in (settings, tiny.settings))
    assert ours.outputs["video"].sha256 == theirs.outputs["video"].sha256


def test_an_interrupted_stage_goes_on_where_it_was(rendered, tiny: Tiny, tmp_path: Path) -> None:
    keep = ("ingest_template", "track_face", "measure_template")
    settings = copy_of(tiny.settings, tmp_path / "store", keep)
    plan = plan_campaign(str(tiny.path), settings)
    one_chunk(plan, settings, "upscale_plate", 1)
    kept = part(plan, settings.store, "upscale_plate", 1)
    assert kept is not None
    run_campaign(plan, settings, run_id="rest", until="upscale_plate")
    assert part(plan, settings.store, "upscale_plate", 1) == kept
    assert set(kept.outputs) <= set(whole(plan, settings.store, "upscale_plate").outputs)


def test_a_chunk_that_exists_is_not_asked_for_again(rendered, tiny: Tiny) -> None:
    plan, _ = rendered
    cache, shard = load(plan, tiny.settings.store)
    for stage in ("upscale_plate", "face_swap", "compose"):
        assert demand(cache, shard, STAGES[stage], chunk=1).to_make == ()


def test_a_request_for_a_chunk_that_is_not_there_says_so(
    rendered, tiny: Tiny, tmp_path: Path
) -> None:
    kept = ("ingest_template", "track_face", "measure_template")
    settings = copy_of(tiny.settings, tmp_path / "store", kept)
    plan = plan_campaign(str(tiny.path), settings)
    with pytest.raises(Exception, match="has no chunk 99"):
        one_chunk(plan, settings, "upscale_plate", 99)
