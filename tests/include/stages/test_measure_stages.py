"""The measuring stages, as real processes on a real campaign: rows, rules, gates, cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from include.contracts.features import FeatureRow
from include.contracts.plan import CampaignPlan, ShardPlan
from include.errors import BadInput, Usage
from include.features.catalogue import FEATURES, feature_names
from include.features.collect import MEASURED, asset_rows
from include.features.rules import rules_digest
from include.local_run import Run, run_campaign
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg
from include.planning import plan_campaign
from include.report import export, write_report
from include.samples import shifts
from include.stages import measure_inputs, measure_render
from include.stages.context import Events, StageContext
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import (
    FPS,
    SIZE,
    Tiny,
    hopper,
    make_tiny,
    template_frames,
    tiny_environment,
    write_video,
)

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).with_name("golden_features.json")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    root = tmp_path_factory.mktemp("measured")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in tiny_environment(root).items():
            patch.setenv(key, value)
        yield make_tiny(root)


@pytest.fixture(scope="module")
def rendered(tiny: Tiny) -> tuple[CampaignPlan, Run]:
    """``eve`` as she is, and a photo that somebody put a colour effect on."""
    tiny.add("green", shifts.hue(hopper(), 120))
    plan = plan_campaign(str(tiny.write()), tiny.settings)
    return plan, run_campaign(plan, tiny.settings)


def shards(plan: CampaignPlan) -> list[ShardPlan]:
    store = open_store(plan.store)
    return [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]


def features(plan: CampaignPlan, artifact: str, unit: str = "eve") -> dict[str, object] | None:
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    for shard in shards(plan):
        for owner in (shard.template, *shard.rows):
            if owner.id in (unit, "template") and artifact in owner.materials:
                found = cache.lookup(artifact, owner.key(artifact))
                return found and dict(found.facts["features"])
    raise KeyError(unit)


def test_each_kind_of_asset_has_its_row_of_features(rendered) -> None:
    plan, _ = rendered
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    shard = next(s for s in shards(plan) if "eve" in {row.id for row in s.rows})
    for artifact, kind in MEASURED.items():
        owner = shard.template if artifact == "measure_template" else shard.unit("eve")
        found = cache.lookup(artifact, owner.key(artifact))
        assert found is not None
        row = FeatureRow.model_validate_json(cache.read_bytes(found.outputs["features"]))
        assert row.kind == kind
        assert tuple(row.values) == feature_names(kind)
        assert row.values == found.facts["features"]


def test_the_figures_are_those_of_the_media(rendered) -> None:
    plan, _ = rendered
    template = features(plan, "measure_template")
    assert (template["width"], template["height"]) == SIZE
    assert (template["fps"], template["audio_codec"]) == (FPS, "none")
    assert template["face_count"] == 1
    render = features(plan, "measure_render")
    assert (render["width"], render["height"]) == (2 * SIZE[0], 2 * SIZE[1])
    assert render["dropped_frames"] == render["doubled_frames"] == 0
    assert abs(render["av_offset"]) < 20
    assert render["mouth_correlation"] > 0.7
    assert render["speech_present"] is True


def test_a_render_is_nearer_to_its_recipient_than_to_the_actor(rendered) -> None:
    found = features(rendered[0], "measure_render")
    assert found["identity_recipient"] < 0.6
    assert found["identity_recipient"] < found["identity_actor"]


def test_what_is_collected_is_null_in_the_artifact_and_known_in_the_report(
    rendered, tiny: Tiny, tmp_path: Path
) -> None:
    plan, run = rendered
    collected = [feature.name for feature in FEATURES["render"] if feature.collected]
    measured = features(plan, "measure_render")
    assert all(measured[name] is None for name in collected)
    write_report(plan, "test", run.refs, tiny.settings)
    export(plan, "test", tmp_path, tiny.settings)
    report = json.loads((tmp_path / "eve" / "report.json").read_text())
    render = report["features"]["render"]
    assert set(render) == set(feature_names("render"))
    assert render["verdict"] == "pass"
    assert render["cpu_seconds"] > render["cpu_compose"] > 0
    assert render["cost"] == pytest.approx(render["cpu_seconds"] / 3600 * tiny.settings.core_hour)
    assert 0 <= render["nudity_score"] < 0.5
    assert {name: render[name] for name in measured if name not in collected} == {
        name: measured[name] for name in measured if name not in collected
    }
    assert set(report["features"]) == {"photo", "audio", "render"}


def test_a_row_that_breaks_a_hard_rule_is_refused_by_its_name_before_it_is_rendered(
    rendered,
) -> None:
    _, run = rendered
    refused = run.unit("measure_inputs", "green")
    assert refused.status == "failed"
    assert (refused.code or "").startswith("rule.photo-")
    assert "green.jpg" in (refused.message or "")
    assert "wanted is" in (refused.message or "")
    for stage in ("face_swap", "lip_sync", "upscale", "compose", "publish"):
        assert run.unit(stage, "green").status == "skipped"
    assert run.unit("publish", "eve").status == "made"


def test_a_campaigns_rows_hold_every_asset_once_with_all_columns(rendered, tiny: Tiny) -> None:
    plan, run = rendered
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    rows = asset_rows(cache, shards(plan), tiny.settings.core_hour)
    assert len({row.asset for row in rows}) == len(rows)
    found = sorted((row.kind, row.unit) for row in rows)
    # The two rows say the same line: one voice.
    assert found == [
        ("audio", "eve"),
        ("photo", "eve"),
        ("photo", "green"),
        ("render", "eve"),
        ("template", "template"),
    ]
    for row in rows:
        assert tuple(row.values) == feature_names(row.kind)
        assert bool(row.refused) is (row.unit == "green"), row.refused
    green = next(row for row in rows if row.unit == "green")
    assert run.unit("measure_inputs", "green").code == f"rule.{green.refused.split(',')[0]}"
    assert cache.lookup("measure_inputs/photo", refused_key(plan, "green")) is None
    render = next(row for row in rows if row.kind == "render")
    assert render.values["cpu_seconds"] > 1
    assert render.made_at.tzinfo is not None


def refused_key(plan: CampaignPlan, unit: str) -> str:
    shard = next(s for s in shards(plan) if unit in {row.id for row in s.rows})
    return shard.unit(unit).key("measure_inputs/photo")


def test_a_template_that_breaks_a_hard_rule_fails_with_its_name_before_it_costs_more(
    tiny: Tiny,
) -> None:
    frames = [shifts.hue(frame, 120) for frame in template_frames()]
    write_video(tiny.root / "blue.mp4", frames)
    brief = {**tiny.brief, "template": {**tiny.brief["template"], "video": "blue.mp4"}}
    other = Tiny(tiny.root, tiny.settings, brief, [r for r in tiny.rows if r["id"] == "eve"])
    plan = plan_campaign(str(other.write()), tiny.settings)
    run = run_campaign(plan, tiny.settings, run_id="blue", until="face_swap")
    refused = run.unit("measure_template", "template")
    assert (refused.code or "").startswith("rule.template-")
    assert "blue.mp4" in (refused.message or "")
    assert 65 in run.exit_codes.values()
    for stage in ("upscale_plate", "encode_plate", "analyse_face"):
        assert run.unit(stage, "template").status == "skipped"
    assert run.unit("face_swap", "eve").status == "skipped"
    totals = write_report(plan, "blue", run.refs, tiny.settings)
    assert totals["missing"][0]["code"] == refused.code


def test_a_changed_rule_measures_again_and_renders_nothing_again(
    rendered, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.expectations import suites

    folder = tmp_path / "rules"
    shutil.copytree(suites.FOLDER, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    text = (folder / "photo.yaml").read_text()
    changed = text.replace(
        "hard:\n", "hard:\n  - {rule: new-rule, feature: width, min: 10, message: m}\n"
    )
    (folder / "photo.yaml").write_text(changed)
    before, _ = rendered
    old = next(row for s in shards(before) for row in s.rows if row.id == "eve")
    monkeypatch.setattr(suites, "FOLDER", folder)
    for kept in (suites.suite_of, rules_digest):
        kept.cache_clear()
    try:
        rows = [row for row in tiny.rows if row["id"] == "eve"]
        plan = plan_campaign(
            str(Tiny(tiny.root, tiny.settings, tiny.brief, rows).write()), tiny.settings
        )
    finally:
        for kept in (suites.suite_of, rules_digest):
            kept.cache_clear()
    new = next(row for s in shards(plan) for row in s.rows if row.id == "eve")
    differ = {name for name in new.materials if new.key(name) != old.key(name)}
    assert differ == {"measure_inputs/photo"}


def test_the_same_media_give_the_golden_features_under_the_same_key(rendered) -> None:
    """To accept other features after raising a version: delete the file, run this test twice."""
    plan, _ = rendered
    unit = next(row for s in shards(plan) for row in s.rows if row.id == "eve")
    template = shards(plan)[0].template
    body = {
        name: {
            "key": (template if name == "measure_template" else unit).key(name),
            "features": features(plan, name),
        }
        for name in MEASURED
    }
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and has been written: look at it and commit it")
    golden = json.loads(GOLDEN.read_text())
    for name, made in body.items():
        apart = differing(made["features"], golden[name]["features"])
        if apart:
            same = made["key"] == golden[name]["key"]
            assert not same, f"{name} measures otherwise under the same key: {apart}"
            pytest.fail(f"{name} has a new key and other features: renew {GOLDEN.name}: {apart}")


def differing(made, golden) -> dict[str, tuple[object, object]]:
    """Features that are apart by more than processors and codecs round."""
    assert made.keys() == golden.keys()
    return {
        name: (value, golden[name])
        for name, value in made.items()
        if (
            not np.isclose(value, golden[name], rtol=0.03, atol=0.03)
            if isinstance(value, float) and isinstance(golden[name], float)
            else value != golden[name]
        )
    }


def context(
    plan: CampaignPlan, tiny: Tiny, stage: str, scratch: Path, change: str = ""
) -> StageContext:
    """One row's context, in this process; ``change`` names an artifact of an outdated plan."""
    shard = next(s for s in shards(plan) if "eve" in {row.id for row in s.rows})
    row = shard.unit("eve")
    if change:
        outdated = row.materials[change].model_copy(update={"params": {"rules": "0" * 64}})
        row = row.model_copy(update={"materials": {**row.materials, change: outdated}})
    return StageContext(
        spec=STAGES[stage],
        shard=shard,
        unit=row,
        cache=ArtifactCache(open_store(plan.store), plan.tenant),
        scratch=scratch,
        settings=tiny.settings,
        events=Events(stage),
        run_id="test",
    )


def test_a_worker_with_other_rules_than_the_plans_measures_nothing(
    rendered, tiny: Tiny, tmp_path: Path
) -> None:
    name = "measure_inputs/photo"
    ctx = context(rendered[0], tiny, "measure_inputs", tmp_path, change=name)
    with pytest.raises(Usage, match="plan the campaign again"):
        measure_inputs.run(ctx, name)


def faulty(plan: CampaignPlan, tiny: Tiny, folder: Path, *options: str) -> dict[str, object]:
    """The features of eve's video after ffmpeg did something to it.

    After ``inside`` comes a filter for the face's window alone.
    """
    ctx = context(plan, tiny, "measure_render", folder)
    composed = ctx.manifest("compose")
    if options[0] == "inside":
        x, y, w, h = (2 * side for side in composed.facts["segments"][0]["window"])
        part = f"[a]crop={w}:{h}:{x}:{y},{options[1]}[c];[b][c]overlay={x}:{y}"
        options = ("-filter_complex", f"split[a][b];{part}")
    video, out = ctx.fetch("compose", "video"), folder / "faulty.mp4"
    quiet = ("-c:v", "libx264", "-crf", "16", "-g", "20", "-c:a", "aac", "-threads", "1")
    command = [ffmpeg_binary(), *GLOBAL_ARGUMENTS, "-i", str(video), *quiet, *options, str(out)]
    run_ffmpeg(command, "damaging", out)
    material = composed.material.model_copy(update={"params": {"fault": list(options)}})
    stored = ctx.cache.publish(material, {"video": (out, "video/mp4")}, composed.facts)
    ctx.own["compose", None] = composed.model_copy(update={"outputs": stored.outputs})
    found = measure_render.run(ctx, "measure_render")
    return dict(found.facts["features"])


@pytest.mark.parametrize(
    ("options", "feature", "least"),
    [
        (("-af", "adelay=100:all=1"), "av_offset", 90),
        (("-af", "volume=-12dB"), "loudness", -11),
        (("inside", "gblur=sigma=4"), "sharpness_ratio", -0.2),
        (("inside", "eq=brightness=0.06*mod(n\\,2):eval=frame"), "flicker", 1),
        (("-vf", "drawbox=x=0:y=0:w=60:h=60:c=red:t=fill"), "outside_difference", 0.3),
        (("-an",), "loudness", None),
    ],
)
def test_a_fault_in_a_render_moves_its_feature(
    rendered,
    tiny: Tiny,
    tmp_path: Path,
    options: tuple[str, ...],
    feature: str,
    least: float | None,
) -> None:
    plan, _ = rendered
    plain, found = features(plan, "measure_render"), faulty(plan, tiny, tmp_path, *options)
    if least is None:
        assert found[feature] is None
        return
    moved = float(found[feature]) - float(plain[feature])
    assert moved * np.sign(least) >= abs(least), (plain[feature], found[feature])


def test_a_face_that_was_covered_is_not_recognised(rendered, tiny: Tiny, tmp_path: Path) -> None:
    found = faulty(rendered[0], tiny, tmp_path, "inside", "drawbox=c=gray:t=fill")
    for name in ("identity_recipient", "face_size", "mouth_correlation", "sharpness_ratio"):
        assert found[name] is None
    assert found["face_count"] == 0


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (("-af", "adelay=300:all=1"), "render-offset"),
        (("-vf", "select=not(eq(n\\,9))", "-fps_mode", "passthrough"), "render-dropped"),
        (("-vf", "eq=brightness=0.1"), "render-outside"),
    ],
)
def test_a_render_that_breaks_a_hard_rule_is_refused_with_its_name(
    rendered, tiny: Tiny, tmp_path: Path, options: tuple[str, ...], rule: str
) -> None:
    with pytest.raises(BadInput, match="eve") as refused:
        faulty(rendered[0], tiny, tmp_path, *options)
    assert refused.value.code == f"rule.{rule}"
