"""The tasks of model_rollout, on campaigns that were planned and rows that were collected.

Nothing is rendered here: what the renders measured is written down as the stages would have it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from include.contracts.plan import CampaignPlan, ShardPlan, UnitPlan
from include.contracts.stage import StageResult, UnitResult
from include.errors import Refused, Usage
from include.features.catalogue import FEATURES
from include.keys import DEFAULTS
from include.live import backend_ref, current, in_canary
from include.provenance import audit
from include.report import report_prefix
from include.rollout import machine
from include.rollout.canary import Sides
from include.rollout.rules import read_rules
from include.rollout.steps import Rollout, advance, load
from include.runs import run_prefix
from include.settings import Settings
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.campaign import Campaign

pytestmark = pytest.mark.airflow

LANCZOS = backend_ref("upscale", "lanczos")
SHARE = 0.4
ID = "20261121T000000-lanczos"
GOOD = {
    "duration": 8.0, "identity_recipient": 0.45, "outside_difference": 0.6, "flicker": 1.0,
    "mouth_correlation": 0.9, "av_offset": 3.0, "sharpness_ratio": 0.95, "noise": 1.5,
}  # fmt: skip
SPREAD = {"identity_recipient": 0.04, "flicker": 0.1, "sharpness_ratio": 0.05, "noise": 0.2}


class World:
    """A campaign of many rows, whose renders measure what the test says."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(
            store=str(folder / "store"),
            state=folder / "state",
            roots=(folder / "in",),
            worker_python=Path("python"),
            nudity_python=Path("python"),
        )
        (folder / "in").mkdir()
        self.campaign = Campaign(folder / "in", self.settings)
        self.store = open_store(self.settings.store)
        self.scratch = folder / "features.json"
        self.scratch.write_text("{}")
        self.rng = np.random.default_rng(7)
        self.stage, self.challenger = "upscale", LANCZOS
        self.reached = True
        """Whether what fails had all that the stage needs."""

    def plan(self, rows: int, name: str = "r") -> CampaignPlan:
        self.campaign.rows.clear()
        for number in range(rows):
            self.campaign.add(f"{name}{number}")
        return self.campaign.plan()

    def render(
        self,
        plan: CampaignPlan,
        values: Callable[[UnitPlan, bool], dict[str, float] | None],
        run_id: str = "one",
        *,
        through: bool = True,
    ) -> None:
        """Have every row measured; ``values`` says what, None that it failed.

        Args:
            plan: the campaign.
            values: of the recipient, and whether it tries the new backend.
            run_id: of the run whose results and feature rows are written.
            through: its report was written.
        """
        from operators.drift import collect_rows

        for number, ref in enumerate(plan.shards):
            shard = ShardPlan.model_validate_json(self.store.get(ref.plan))
            units = tuple(self._row(shard, row, values) for row in shard.rows)
            result = StageResult(stage="measure_render", plan=ref.plan, run_id=run_id, units=units)
            where = run_prefix("acme", "campaign_render", run_id)
            key = f"{where}/render_shard.measure_render-{number:04}/001.result.json"
            self.store.put(key, result.model_dump_json().encode())
        collect_rows(plan, run_id, self.settings)
        if through:
            report = report_prefix("acme", plan.campaign, run_id)
            self.store.put(f"{report}/results.csv", b"")

    def _row(self, shard: ShardPlan, row: UnitPlan, values) -> UnitResult:
        found = values(row, row.materials[self.stage].backend == self.challenger)
        key = row.key("measure_render")
        cache = ArtifactCache(self.store, "acme")
        if found is None:
            for name in STAGES[self.stage].upstream if self.reached else ():
                owner = row if name in row.materials else shard.template
                cache.publish(owner.materials[name], {}, {})
            return UnitResult(id=row.id, status="failed", key=key, code="bug")
        noisy = {n: v + self.rng.normal(0, SPREAD.get(n, 0.0)) for n, v in found.items()}
        features = {f.name: noisy.get(f.name) for f in FEATURES["render"]}
        files = {"features": (self.scratch, "application/json")}
        cache.publish(row.materials["measure_render"], files, {"features": features})
        cache.publish(row.materials["classify"], {}, {"verdict": "pass", "checks": []})
        cache.publish(row.materials["compose"], {}, {}, cpu_seconds=20.0, peak_mib=600.0)
        return UnitResult(id=row.id, status="made", key=key)


@pytest.fixture
def world(tmp_path, monkeypatch) -> World:
    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("UNDERSTUDY_CONSENT_KEYS", str(tmp_path / "state" / "consent"))
    return World(tmp_path)


@pytest.fixture
def ref(world: World) -> dict[str, str]:
    """A rollout of Lanczos in its canary; who is in it hangs on the id, so the id is fixed."""
    rules = read_rules(share=SHARE)
    rollout = machine.start(
        world.store, "acme", "upscale", "lanczos", rules=rules, by="anna", rollout=ID
    )
    found = {"reason": "golden.as_good", "said": "as good"}
    rollout = advance(world.store, rollout, "measured", by="anna", **found)
    rollout = machine.begin_canary(world.store, rollout, by="anna")
    return {"store": world.settings.store, "tenant": "acme", "rollout": rollout.id}


@pytest.fixture
def context():
    return {"run_id": "manual__2026-11-21T00:00:00+00:00", "ti": SimpleNamespace(task_id="x")}


def as_it_is(world: World, ref: dict[str, str]) -> Rollout:
    return load(world.store, "acme", ref["rollout"])


def tasks():
    from operators import rollout

    return rollout


def same(row: UnitPlan, tries: bool) -> dict[str, float]:
    return GOOD


def softer(row: UnitPlan, tries: bool) -> dict[str, float]:
    return {**GOOD, "sharpness_ratio": 0.5, "noise": 4.5} if tries else GOOD


def crashing(row: UnitPlan, tries: bool) -> dict[str, float] | None:
    return None if tries else GOOD


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "state", "reason"),
    [
        (same, "promoted", "canary.as_good"),
        (softer, "rolled_back", "canary.worse"),
        (crashing, "rolled_back", "canary.worse"),
    ],
)
def test_a_canary_is_promoted_or_rolled_back_by_its_renders(
    world: World, ref, context, values, state: str, reason: str
) -> None:
    plan = world.plan(100)
    tries = sum(in_canary(ref["rollout"], f"r{number}", SHARE) for number in range(100))
    assert tries >= 40
    before = world.plan(3).plan_id  # of another brief: not rendered, so not looked at
    assert before != plan.plan_id
    assert tasks().watch(ref, context) == (False, "unclear")
    world.render(plan, values)
    decided, verdict = tasks().watch(ref, context)
    assert (decided, verdict) == (True, "as_good" if state == "promoted" else "worse")
    assert tasks().watch(ref, context) == (decided, verdict), "asked again it says the same"
    assert tasks().decide(ref, context) == state
    assert as_it_is(world, ref).last.reason == reason
    live = current(world.store, "acme", "upscale")
    assert live.champion == (LANCZOS if state == "promoted" else None)
    assert live.canary is None
    done = tasks().report(ref, context)
    assert (done["state"], done["reason"]) == (state, reason)
    assert audit.verify(world.store, "acme").holds


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "values", "state"),
    [("face_swap", same, "promoted"), ("lip_sync", softer, "rolled_back")],
)
def test_another_stage_is_rolled_out_like_the_upscaler(
    world: World, context, monkeypatch, stage: str, values, state: str
) -> None:
    """A second version of a built-in backend, in the registry of this process."""
    import models.face_swap
    import models.lip_sync

    package = {"face_swap": models.face_swap, "lip_sync": models.lip_sync}[stage]
    own = package.BACKENDS[DEFAULTS[stage]]
    newer = replace(own, name=f"{own.name}-next", version="2")
    monkeypatch.setattr(package, "BACKENDS", {**package.BACKENDS, newer.name: newer})
    before = world.campaign.shard(world.plan(120)).rows
    world.stage, world.challenger = stage, backend_ref(stage, newer.name)
    params = {"tenant": "acme", "stage": stage, "backend": newer.name, "share": SHARE}
    made = tasks().start(params, context)
    found = {"reason": "golden.as_good", "said": "as good"}
    advance(world.store, as_it_is(world, made), "measured", by="anna", **found)
    tasks().gate(made, context)
    tasks().canary(made, context)
    plan = world.plan(120)
    rows = [
        row for number in range(len(plan.shards)) for row in world.campaign.shard(plan, number).rows
    ]
    tries = {row.id for row in rows if row.materials[stage].backend == world.challenger}
    assert tries == {row.id for row in rows if in_canary(made["rollout"], row.id, SHARE)}
    was = {row.id: row for row in before}
    for row in rows:
        if row.id in was:
            assert (row.key("compose") != was[row.id].key("compose")) is (row.id in tries)
    world.render(plan, values)
    assert tasks().watch(made, context)[0]
    assert tasks().decide(made, context) == state
    live = current(world.store, "acme", stage)
    assert live.champion == (world.challenger if state == "promoted" else None)
    assert current(world.store, "acme", "upscale") is None, "no other stage is touched"


def test_too_few_renders_decide_nothing(world: World, ref, context) -> None:
    world.render(world.plan(20), softer)
    assert tasks().watch(ref, context) == (False, "unclear")


def test_renders_that_the_rollout_had_no_say_in_do_not_count(world: World, ref, context) -> None:
    world.campaign.brief.write_text(
        world.campaign.brief.read_text() + "output: {upscaler: lanczos}\n"
    )
    world.render(world.plan(12), softer)
    assert renders(world, ref).rows == (0, 0)


def renders(world: World, ref) -> Sides:
    from include.rollout.watch import collect

    return sum(collect(world.store, as_it_is(world, ref)), Sides())


def failing(row: UnitPlan, tries: bool) -> None:
    return None


def test_a_row_that_failed_and_was_then_made_counts_once(world: World, ref) -> None:
    plan = world.plan(12)
    world.render(plan, failing, "one")
    first = renders(world, ref)
    assert sum(first.rows) == 12
    assert first.made == (0, 0)
    world.render(plan, same, "two")
    again = renders(world, ref)
    assert again.rows == again.made == first.rows


def test_what_fails_before_the_stage_says_nothing_of_its_backend(world: World, ref) -> None:
    plan = world.plan(12)
    world.reached = False
    world.render(plan, failing)
    assert renders(world, ref).rows == (0, 0), "no photo was usable"


def test_a_run_counts_when_it_is_through_so_that_failures_do_not_come_first(
    world: World, ref
) -> None:
    plan = world.plan(12)
    world.render(plan, failing, through=False)
    assert renders(world, ref).rows == (0, 0)
    world.render(plan, same)
    assert sum(renders(world, ref).made) == 12


@pytest.mark.slow
def test_two_sides_that_both_fail_are_no_evidence(world: World, ref, context) -> None:
    plan = world.plan(110)
    world.render(plan, failing)
    assert min(renders(world, ref).rows) >= 40
    assert tasks().watch(ref, context) == (False, "unclear")


def test_a_run_begins_one_rollout_however_often_it_is_tried(world: World, context) -> None:
    params = {"tenant": "acme", "stage": "upscale", "backend": "lanczos", "share": 0.2}
    made = tasks().start(params, context)
    assert tasks().start(params, context) == made
    rollout = as_it_is(world, made)
    assert len(rollout.steps) == 1
    assert rollout.begin.rules.share == 0.2
    assert rollout.steps[0].by == "model_rollout/manual__2026-11-21T00:00:00+00:00"


def test_rules_of_ones_own_are_taken_from_the_settings(
    world: World, context, tmp_path, monkeypatch
) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("min_rows: 7\nmax_hours: 5\ncanary: []\n")
    monkeypatch.setenv("UNDERSTUDY_ROLLOUT_RULES", str(rules))
    params = {"tenant": "acme", "stage": "upscale", "backend": "lanczos", "share": None}
    assert as_it_is(world, tasks().start(params, context)).begin.rules.min_rows == 7


def test_a_gate_that_is_not_passed_skips_what_follows(world: World, context) -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    params = {"tenant": "acme", "stage": "upscale", "backend": "lanczos"}
    made = tasks().start(params, context)
    found = {"reason": "golden.worse", "said": "psnr_y: worse"}
    advance(world.store, as_it_is(world, made), "measured", by="anna", **found)
    with pytest.raises(AirflowSkipException, match="psnr_y"):
        tasks().gate(made, context)
    assert tasks().report(made, context)["state"] == "rolled_back"
    assert current(world.store, "acme", "upscale") is None


def test_a_run_that_fails_leaves_no_canary_behind(world: World, ref, context) -> None:
    with pytest.raises(Refused, match="before a decision"):
        tasks().report(ref, context)
    assert current(world.store, "acme", "upscale").canary is None
    assert as_it_is(world, ref).last.reason == "run.failed"


def test_a_run_without_a_rollout_says_so(context) -> None:
    with pytest.raises(Refused, match="task start"):
        tasks().report(None, context)


def test_the_command_shows_promotes_rolls_back_and_verifies_the_log(
    world: World, ref, capsys
) -> None:
    from include.cli.rollout import main

    assert main(["status", "--tenant", "acme"]) == 0
    said = capsys.readouterr().out
    assert "lanczos for 40%" in said
    assert ref["rollout"] in said
    assert main(["promote", "--tenant", "acme"]) == 0
    assert current(world.store, "acme", "upscale").champion == LANCZOS
    assert main(["rollback", "--tenant", "acme"]) == 0
    assert current(world.store, "acme", "upscale").champion is None
    assert main(["promote", "--tenant", "acme", "--backend", "lanczos"]) == 0
    assert main(["promote", "--tenant", "acme", "--backend", "default"]) == 0
    assert main(["log", "--tenant", "acme"]) == 0
    said = capsys.readouterr().out
    assert "rollout.promoted" in said
    assert "live.set" in said
    key = [info.key for info in world.store.list("acme/audit/")][3]
    world.store.put(key, world.store.get(key).replace(b"rollout", b"holiday"))
    assert main(["log", "--tenant", "acme"]) == 1
    assert key in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_watches_and_decides(world: World, ref, capsys) -> None:
    from include.cli.rollout import main

    assert main(["watch", "--tenant", "acme"]) == 0
    assert "unclear" in capsys.readouterr().out
    world.render(world.plan(100), softer)
    assert main(["watch", "--tenant", "acme"]) == 3
    assert "sharpness_ratio" in capsys.readouterr().out


def test_promoting_takes_a_backend_or_a_rollout(world: World, capsys) -> None:
    from include.cli.rollout import main

    both = ["--backend", "compact", "--rollout", "none"]
    assert main(["promote", "--tenant", "acme", *both]) == Usage.exit_code
    assert "not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["start", "--backend", "sharp"],
        ["watch", "--stage", "lip_sync"],
        ["rollback", "--rollout", "none"],
    ],
)
def test_the_command_says_what_is_wrong(world: World, capsys, arguments: list[str]) -> None:
    from include.cli.rollout import main

    assert main([arguments[0], "--tenant", "acme", *arguments[1:]]) == Usage.exit_code
    assert "understudy: " in capsys.readouterr().err
