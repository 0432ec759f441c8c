"""Real weights side by side: a better upscaler is promoted, a damaged one never goes live."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks.rrdb_weights import make_weights
from include.backends import declare
from include.contracts.live import Canary
from include.contracts.plan import CampaignPlan, ShardPlan
from include.drift import gates
from include.errors import BadInput, Refused
from include.live import backend_ref, current, in_canary, set_live
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.provenance import audit
from include.rollout import machine
from include.rollout.golden import Arm, GoldenSet, _check_usable, by_picture
from include.rollout.measures import failed_measures
from include.rollout.pictures import measure, pictures
from include.rollout.rules import read_rules
from include.rollout.statistics import compare_pairs, overall
from include.rollout.steps import Rollout
from include.store import ObjectStore, open_store
from models.registry import DECLARED_ENV
from models.upscale import load_upscaler
from models.upscale.base import Upscaler
from tests.include.drift.test_gates import verdict
from tests.support.tiny import Tiny, hopper, make_tiny, tiny_environment

pytestmark = pytest.mark.slow

RULES = read_rules().model_copy(
    update={
        "renders": tuple(
            rule.model_copy(update={"margin": 0.1}) if rule.measure == "mouth_error_size" else rule
            for rule in read_rules().renders
        )
    }
)
"""Three recipients with one photo say little about mouths."""
PEOPLE = ("eve", "ann", "bob")


def damage(upscaler: Upscaler, share: float) -> Upscaler:
    """Add noise to shipped weights: a share of each kernel's own deviation."""
    torch.manual_seed(1)
    upscaler._kernels = [
        (weight + share * weight.std() * torch.randn_like(weight), bias)
        for weight, bias in upscaler._kernels
    ]
    return upscaler


def scored(upscaler: Upscaler):
    return by_picture(measure(upscaler, pictures(6, 192, 2, None, 0), repeat=2))


def verdicts(champion, challenger) -> dict[str, str]:
    found = [compare_pairs("pictures", r, champion, challenger, RULES) for r in RULES.pictures]
    return {one.rule.measure: one.verdict for one in found} | {"all": overall(found)}


def test_on_held_out_pictures_compact_beats_lanczos_and_damaged_weights_lose() -> None:
    lanczos = scored(load_upscaler("lanczos", 2))
    compact = scored(load_upscaler("compact", 2))
    damaged = scored(damage(load_upscaler("compact", 2), 0.3))
    assert len(compact) == 6
    assert verdicts(lanczos, compact)["all"] == "as_good"
    assert verdicts(compact, compact)["all"] == "as_good"
    assert verdicts(compact, damaged)["psnr_y"] == "worse"
    assert verdicts(compact, damaged)["ssim_y"] == "worse"
    assert verdicts(compact, lanczos)["psnr_y"] == "worse"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A tiny campaign, and weights of somebody's own: as made, and damaged."""
    root = tmp_path_factory.mktemp("rollout")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        declarations = root / "backends.yaml"
        patch.setenv(DECLARED_ENV, str(declarations))
        good, bad = root / "studio.pth", root / "damaged.pth"
        make_weights(good, features=8, blocks=1, scale=2)
        torch.manual_seed(1)
        made = torch.load(good, weights_only=True)["params_ema"]
        noisy = {name: tensor + 0.05 * torch.randn_like(tensor) for name, tensor in made.items()}
        torch.save(noisy, bad)
        for path in (good, bad):
            declare(
                declarations, name=path.stem, weights=str(path), margin=8,
                licence="CC0-1.0", origin="a test",
            )  # fmt: skip
        tiny = make_tiny(root)
        for name in PEOPLE[1:]:
            tiny.add(name, hopper(), name=name.capitalize())
        tiny.write()
        yield tiny


@pytest.fixture(scope="module")
def store(world: Tiny) -> ObjectStore:
    return open_store(world.settings.store)


GOLDEN_PICTURES = {"pictures": 3, "crop": 160, "frames": 2}


def through_golden(store: ObjectStore, world: Tiny, name: str) -> Rollout:
    rollout = machine.start(
        store, "acme", "upscale", name, rules=RULES, golden=str(world.path), by="test"
    )
    golden = GoldenSet(rollout.begin.golden, **GOLDEN_PICTURES)
    settings = replace(world.settings, drift_policy="stop")
    rollout = machine.measure(store, rollout, settings, golden=golden, by="test")
    return machine.gate(store, rollout, by="test")


def test_better_weights_are_promoted_and_worse_ones_rolled_back(
    world: Tiny, store: ObjectStore
) -> None:
    machine.set_by_hand(store, "acme", "upscale", "lanczos", by="test")
    # Incoming media have drifted and stop campaigns; the golden set's are not those.
    gates.apply(store, "acme", [verdict("drift")], "run", "acme/drift/report/x.html")
    with pytest.raises(Refused, match="drift is not settled"):
        plan_campaign(str(world.path), replace(world.settings, drift_policy="stop"))

    better = through_golden(store, world, "compact")
    assert better.last.reason == "golden.as_good", better.last.said
    parts = {one.part for one in better.last.comparisons if one.verdict == "as_good"}
    assert parts == {"pictures", "renders"}
    better = machine.promote(store, machine.begin_canary(store, better, by="test"), by="test")
    assert current(store, "acme", "upscale").champion == backend_ref("upscale", "compact")

    plan = plan_campaign(str(world.path), world.settings)
    before = row_keys(plan)
    assert plan.live[0].rollout == better.id

    worse = through_golden(store, world, "damaged")
    assert (worse.last.state, worse.last.reason) == ("rolled_back", "golden.worse")
    broken = {o.rule.measure for s in worse.steps for o in s.comparisons if o.verdict == "worse"}
    assert "psnr_y" in broken
    again = plan_campaign(str(world.path), world.settings)
    assert row_keys(again) == before
    run = run_campaign(again, world.settings, run_id="after", until="measure_render")
    assert run.processes == [], "what was rendered before the rollout is still there"

    found = audit.verify(store, "acme")
    assert found.holds
    actions = [record.action for record in audit.records(store, "acme")]
    assert actions[1:] == [
        "live.set", "rollout.started", "rollout.measured", "rollout.canary", "rollout.promoted",
        "rollout.started", "rollout.measured", "rollout.rolled_back",
    ]  # fmt: skip


def test_two_backends_that_fail_on_the_golden_set_are_no_evidence(world: Tiny) -> None:
    plan = plan_campaign(str(world.path), world.settings)
    failed = Arm({"eve": failed_measures()}, {"eve": "photo eve.jpg is dark"}, plan)
    with pytest.raises(BadInput, match=r"rendered 0 recipients.*eve\.jpg is dark") as caught:
        _check_usable(failed, RULES)
    assert caught.value.code == "unusable"
    three = {name: {"failed": 0.0} for name in PEOPLE}
    _check_usable(Arm(three, {}, plan), RULES)
    few = {"eve": three["eve"]}
    with pytest.raises(BadInput, match=r"rendered 1 recipients.*, 3 are needed"):
        _check_usable(Arm(few, {}, plan), RULES)


def test_weights_that_cannot_be_loaded_are_rolled_back_with_the_reason(
    world: Tiny, store: ObjectStore
) -> None:
    (world.root.parent / "studio.pth").write_bytes(b"cut short")
    rollout = through_golden(store, world, "studio")
    assert rollout.last.state == "rolled_back"
    assert "studio" in rollout.last.said


def test_a_canarys_rows_are_rendered_beside_the_others_and_undone_without_a_trace(
    world: Tiny, store: ObjectStore
) -> None:
    machine.set_by_hand(store, "acme", "upscale", None, by="test")
    world.add("kim", hopper(), name="Kim")  # whom no golden set has rendered
    world.write()
    everybody = (*PEOPLE, "kim")
    plan = plan_campaign(str(world.path), world.settings)
    run = run_campaign(plan, world.settings, run_id="before", until="compose")
    assert {run.unit("compose", unit).status for unit in everybody} <= {"made", "hit"}
    before = row_keys(plan)

    rollout = next(name for name in map(str, range(99)) if inside(name, everybody) == {"kim"})
    lanczos = backend_ref("upscale", "lanczos")
    canary = Canary(backend=lanczos, share=0.5, rollout=rollout)
    here = current(store, "acme", "upscale")
    set_live(store, here, tenant="acme", stage="upscale", champion=None, canary=canary, by="test")
    tried = plan_campaign(str(world.path), world.settings)
    run = run_campaign(tried, world.settings, run_id="canary", until="compose")
    assert [run.unit("compose", unit).status for unit in everybody] == ["hit", "hit", "hit", "made"]
    assert not {"ingest_template", "track_face", "face_swap", "lip_sync"} & set(run.processes)
    moved = {unit for (unit, name), key in row_keys(tried).items() if key != before[unit, name]}
    assert moved == {"kim"}

    here = current(store, "acme", "upscale")
    set_live(store, here, tenant="acme", stage="upscale", champion=None, by="test")
    again = plan_campaign(str(world.path), world.settings)
    assert row_keys(again) == before
    after = run_campaign(again, world.settings, run_id="after-canary", until="compose")
    assert after.processes == []


def inside(rollout: str, units: Iterable[str]) -> set[str]:
    return {unit for unit in units if in_canary(rollout, unit, 0.5)}


def row_keys(plan: CampaignPlan) -> dict[tuple[str, str], str]:
    """Every key of every row, its template's included."""
    shards = open_store(plan.store)
    found = {}
    for ref in plan.shards:
        shard = ShardPlan.model_validate_json(shards.get(ref.plan))
        for row in shard.rows:
            materials = {**shard.template.materials, **row.materials}
            found |= {(row.id, name): made.key() for name, made in materials.items()}
    return found
