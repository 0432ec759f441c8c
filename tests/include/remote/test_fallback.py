"""Rows that cannot be made as planned: another artifact, named in the report, or a plan."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from include.contracts.stage import UnitResult
from include.errors import Usage
from include.local_run import Run, run_stage
from include.remote.config import Remotes, Step, load_remotes
from include.remote.fallback import can_fall, exhausted, fall, falls_of, parts, with_step
from include.report import gather, results_csv
from include.settings import Settings
from include.stages.specs import STAGES
from tests.include.remote.conftest import World
from tests.services.canned_http import Reply, canned_http

CHAIN = Remotes.model_validate({"fallback": {"upscale": [{"backend": "lanczos"}, {"scale": 1}]}})
BUSY = UnitResult(id="eve", status="failed", code="remote.breaker_open", message="down", retry=True)


def ref_of(world: World):
    return world.plan.shards[0].model_copy(update={"store": world.store})


def kept(world: World, name: str) -> str:
    """Where a step down of eve's is kept."""
    return f"{ref_of(world).plan.removesuffix('.json')}.fallback/eve/{name}.json"


def step_down(
    world: World, failed: UnitResult = BUSY, stage: str = "upscale", chain: Remotes = CHAIN
):
    return fall(world.cache.store, ref_of(world), stage, failed, chain)


def test_a_step_changes_the_keys_that_it_must_and_no_others(world: World) -> None:
    before = world.shard
    after = with_step(before, "upscale", Step(backend="lanczos"))
    changed = {
        name
        for name, material in before.rows[0].materials.items()
        if after.rows[0].key(name) != material.key()
    }
    assert changed == {"upscale", "compose", "classify", "measure_render", "sign", "publish"}
    template = {
        name
        for name in before.template.materials
        if after.template.key(name) != before.template.key(name)
    }
    assert template == {"upscale_plate", "encode_plate"}
    lower = with_step(after, "upscale", Step(scale=1))
    assert lower.brief.output.scale == 1
    assert lower.rows[0].materials["upscale"].params["scale"] == 1
    assert lower.rows[0].materials["upscale"].backend.name == "lanczos", "steps add up"


def test_rows_fall_step_by_step_and_only_they(world: World) -> None:
    store, ref = world.cache.store, ref_of(world)
    (own,) = parts(store, ref)
    assert own.wanted(None) is None
    first = step_down(world)
    assert first.said == "upscale by lanczos instead of compact"
    own, lowered = parts(store, ref)
    assert (own.wanted(None), own.wanted(["eve"])) == ([], [])
    assert lowered.wanted(None) is None
    assert (lowered.wanted(["eve"]), lowered.wanted(["tom"])) == (["eve"], [])
    assert lowered.shard.instead == first.said
    second = step_down(world, BUSY.model_copy(update={"code": "budget.exceeded"}))
    assert second.said == "scale 1 instead of 2"
    _, lowest = parts(store, ref)
    assert lowest.shard.brief.output.scale == 1
    assert parts(store, lowest.ref)[0].shard == lowest.shard, "its plan stands by itself"
    assert step_down(world) is None


def test_the_first_fall_that_is_written_holds_for_all(world: World) -> None:
    first = step_down(world)
    falls = falls_of(world.cache.store, ref_of(world))
    world.cache.store.delete(kept(world, "upscale-01"))
    body = first.model_copy(update={"said": "by somebody else", "at": datetime.now(UTC)})
    world.cache.store.put(kept(world, "upscale-01"), body.model_dump_json().encode())
    assert falls["eve"][0].said != "by somebody else"
    assert falls_of(world.cache.store, ref_of(world))["eve"][0].said == "by somebody else"


def test_a_row_falls_in_two_stages(world: World) -> None:
    steps = {"face_swap": [{"backend": "mesh-batched"}], "upscale": [{"backend": "lanczos"}]}
    chain = Remotes.model_validate({"fallback": steps})
    swap = step_down(world, stage="face_swap", chain=chain)
    assert swap.said == "face_swap by mesh-batched instead of mesh"
    assert step_down(world, chain=chain).said == "upscale by lanczos instead of compact"
    store, ref = world.cache.store, ref_of(world)
    _, lowered = parts(store, ref)
    materials = lowered.shard.rows[0].materials
    made = [materials[stage].backend.name for stage in ("face_swap", "upscale")]
    assert made == ["mesh-batched", "lanczos"]
    assert step_down(world, chain=chain) is None
    exhausted(store, ref, "upscale", BUSY)
    assert falls_of(store, ref) == {"eve": [swap]}, "the other stage's step holds"


def test_a_step_that_cannot_be_taken_is_passed_over_once(world: World) -> None:
    steps = [{"backend": "not-installed"}, {"backend": "lanczos"}, {"scale": 1}]
    chain = Remotes.model_validate({"fallback": {"upscale": steps}})
    assert [step_down(world, chain=chain).number for _ in range(2)] == [2, 3]
    assert step_down(world, chain=chain) is None


def test_steps_that_an_earlier_release_wrote_hold(world: World) -> None:
    store, ref = world.cache.store, ref_of(world)
    body = step_down(world).model_dump_json().encode()
    store.delete(kept(world, "upscale-01"))
    store.put(kept(world, "01"), body)
    assert step_down(world).number == 2
    assert [held.number for held in falls_of(store, ref)["eve"]] == [1, 2]
    exhausted(store, ref, "upscale", BUSY)
    assert falls_of(store, ref) == {}


def test_a_used_up_chain_says_what_was_tried_and_begins_anew(world: World) -> None:
    step_down(world)
    step_down(world, BUSY.model_copy(update={"message": "slow", "code": "remote.timeout"}))
    last = UnitResult(id="eve", status="failed", code="budget.exceeded", message="1.08 USD")
    found = exhausted(world.cache.store, ref_of(world), "upscale", last)
    assert found.code == "fallback.exhausted"
    for words in (
        "(1) as planned: remote.breaker_open: down",
        "(2) upscale by lanczos instead of compact: remote.timeout: slow",
        "(3) scale 1 instead of 2: budget.exceeded: 1.08 USD",
        "To do: raise budget.limit",
    ):
        assert words in found.message
    assert falls_of(world.cache.store, ref_of(world)) == {}
    assert len(parts(world.cache.store, ref_of(world))) == 1


def test_only_failures_of_apis_make_a_row_fall() -> None:
    assert can_fall(BUSY)
    for code in ("face.none", "voice.too_long", "memory", "lease.held", None):
        assert not can_fall(BUSY.model_copy(update={"code": code}))
    assert not can_fall(BUSY.model_copy(update={"status": "skipped"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("endpoints: [{name: a, url: 'http://models.example.com', models: []}]", "use https"),
        ("endpoints: [{name: a, url: 'https://u:p@x.com', models: []}]", "without credentials"),
        ("fallback: {sign: [{backend: x}]}", "cannot be called"),
        ("fallback: {face_swap: [{scale: 1}]}", "upscale's to change"),
        ("fallback: {upscale: [{}]}", "names a backend, a scale"),
        ("endpoints: {", "while parsing"),
    ],
)
def test_declarations_that_cannot_be_meant_are_refused(
    text: str, said: str, tmp_path: Path, monkeypatch
) -> None:
    (tmp_path / "r.yaml").write_text(text)
    monkeypatch.setenv("UNDERSTUDY_REMOTE", str(tmp_path / "r.yaml"))
    with pytest.raises(Usage, match=said) as caught:
        load_remotes()
    assert caught.value.code == "remote.declarations"


@pytest.mark.slow
def test_in_a_storm_of_503_the_breaker_opens_and_the_fallback_makes_the_row(world: World) -> None:
    settings = Settings(
        store=world.store,
        state=Path(world.env["UNDERSTUDY_STATE"]),
        roots=(),
        worker_python=world.python,
        nudity_python=world.python,
    )
    model = {"stage": "upscale", "backend": "compact"}
    with canned_http(Reply(503)) as server:
        storm = {"name": "storm", "url": server.url, "models": [model]}
        chain = [{"backend": "lanczos"}, {"scale": 1}]
        world.declare(endpoints=[storm], fallback={"upscale": chain})
        codes = [world.call(last_attempt=False)[1].code for _ in range(6)]
        asked = len(server.requests)
        assert codes == ["remote.busy"] * 5 + ["remote.breaker_open"]
        _, failed, _ = world.call()
        assert len(server.requests) == asked, "an open breaker asks nothing"
    assert fall(world.cache.store, ref_of(world), "upscale", failed, CHAIN)
    plan = world.plan.model_copy(
        update={
            "store": world.store,
            "template": world.plan.template.model_copy(update={"store": world.store}),
            "shards": (ref_of(world),),
        }
    )
    run = Run()
    for name in ("upscale", "lip_sync", "compose"):
        run_stage(STAGES[name], plan.shards[0], settings, run, "test")
    assert set(run.exit_codes.values()) == {0}, run.said
    assert run.processes == [
        *("upscale", "lip_sync", "upscale_plate", "encode_plate", "compose")
    ], "the template is compiled for it when it is needed, and once"
    (_, lowered) = parts(world.cache.store, plan.shards[0])
    made = world.cache.lookup("compose", lowered.shard.rows[0].key("compose"))
    assert made.material.backend.name == "lanczos"
    outcome = gather(plan, "test", run.refs, settings)
    (row,) = csv.DictReader(io.StringIO(results_csv(outcome.rows).decode("utf-8-sig")))
    assert row["instead"].startswith("upscale by lanczos instead of compact (remote.breaker_open: ")
    assert outcome.totals()["instead"][0]["recipient"] == "eve"
