"""Plans while backends are rolled out: champions, canaries, backends that are tried."""

from __future__ import annotations

import pytest

from include.contracts.live import Canary
from include.contracts.manifest import BackendRef
from include.contracts.plan import ShardPlan
from include.keys import row_materials
from include.live import backend_ref, current, in_canary, set_live
from include.store import open_store
from tests.support.campaign import Campaign

LANCZOS = backend_ref("upscale", "lanczos")


def point(campaign: Campaign, champion: BackendRef | None, canary: Canary | None = None) -> None:
    """Put the next state of the upscaler's pointer."""
    store = open_store(campaign.settings.store)
    before = current(store, "acme", "upscale")
    set_live(
        store, before, tenant="acme", stage="upscale", champion=champion, canary=canary, by="anna"
    )


def all_keys(campaign: Campaign) -> dict[tuple[str, str], str]:
    """Every key of every row, the template's included, by recipient and artifact."""
    plan = campaign.plan()
    found = {}
    for number in range(len(plan.shards)):
        shard = campaign.shard(plan, number)
        for row in shard.rows:
            materials = {**shard.template.materials, **row.materials}
            found |= {(row.id, name): item.key() for name, item in materials.items()}
    return found


@pytest.fixture
def twelve(campaign: Campaign) -> Campaign:
    for number in range(12):
        campaign.add(f"r{number}")
    return campaign


def test_another_champion_changes_upscaling_and_what_is_made_from_it(twelve: Campaign) -> None:
    before = all_keys(twelve)
    point(twelve, LANCZOS)
    names = {name for (_, name), key in all_keys(twelve).items() if key != before["r0", name]}
    assert names >= {"upscale_plate", "encode_plate", "upscale", "compose", "publish"}
    assert not names & {"ingest_template", "track_face"}
    assert twelve.plan().live[0].champion == LANCZOS


def test_a_canary_gets_its_share_of_the_rows_in_shards_and_a_template_of_their_own(
    twelve: Campaign,
) -> None:
    before = all_keys(twelve)
    point(twelve, None, Canary(backend=LANCZOS, share=0.4, rollout="r"))
    inside = {f"r{number}" for number in range(12) if in_canary("r", f"r{number}", 0.4)}
    assert 0 < len(inside) < 12
    plan = twelve.plan()
    store = open_store(plan.store)
    own = ShardPlan.model_validate_json(store.get(plan.template.plan))
    assert len(own.variants) == 1
    other = ShardPlan.model_validate_json(store.get(own.variants[0].plan))
    assert {*own.shared_by, *other.shared_by} == {ref.plan for ref in plan.shards}
    for ref in plan.shards:
        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        tries = shard.backends == {"upscale": LANCZOS}
        assert {row.id in inside for row in shard.rows} == {tries}
        assert shard.template == (other if tries else own).template
        assert (ref.plan in other.shared_by) is tries
    after = all_keys(twelve)
    for name in ("face_swap", "upscale", "upscale_plate", "publish"):
        moved = {
            unit for unit, each in after if each == name and after[unit, name] != before[unit, name]
        }
        assert moved == (set() if name == "face_swap" else inside)


def test_rolling_back_restores_exactly_the_keys_of_before(twelve: Campaign) -> None:
    before = all_keys(twelve)
    point(twelve, None, Canary(backend=LANCZOS, share=0.4, rollout="r"))
    assert all_keys(twelve) != before
    point(twelve, None)
    assert all_keys(twelve) == before
    point(twelve, LANCZOS)
    point(twelve, backend_ref("upscale", "compact"))
    assert all_keys(twelve) == before, "naming the default is the default"


def test_keys_follow_from_the_plan_whatever_is_live_later(twelve: Campaign) -> None:
    point(
        twelve, LANCZOS, Canary(backend=backend_ref("upscale", "compact"), share=0.4, rollout="r")
    )
    plan = twelve.plan()
    point(twelve, None)
    for number in range(len(plan.shards)):
        shard = twelve.shard(plan, number)
        for row in shard.rows:
            bare = row.model_copy(update={"materials": {}})
            made = row_materials(shard.brief, shard.template, bare, shard.backends)
            assert made == row.materials


def test_a_canary_of_everybody_needs_no_other_template(twelve: Campaign) -> None:
    point(twelve, None, Canary(backend=LANCZOS, share=1, rollout="r"))
    plan = twelve.plan()
    own = ShardPlan.model_validate_json(open_store(plan.store).get(plan.template.plan))
    assert own.variants == ()
    assert own.template.materials["upscale_plate"].backend == LANCZOS


def test_a_backend_can_be_tried_whatever_is_live(twelve: Campaign) -> None:
    point(twelve, None, Canary(backend=LANCZOS, share=0.4, rollout="r"))
    plan = twelve.plan(backends={"upscale": LANCZOS})
    shard = twelve.shard(plan)
    assert {row.materials["upscale"].backend for row in shard.rows} == {LANCZOS}
    assert plan.live == ()
