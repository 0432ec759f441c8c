"""Garbage collection: what nothing needs goes, what a render needs stays."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include.contracts.manifest import KeyMaterial
from include.contracts.stage import ReviewItem, StageRequest
from include.errors import LeaseHeld, Usage
from include.retention.collect import collect
from include.retention.policy import Retention
from include.store.lease import Lease
from include.store.notice import notice_key
from tests.include.retention.world import TENANT, World


def test_what_a_row_that_fell_back_is_made_from_is_in_use_with_its_shard(world: World) -> None:
    planned, instead = world.make("upscale", "planned"), world.make("upscale", "instead")
    world.make("upscale", "nobody's")
    world.plan("p", instead, file="shard-0000.json.fallback/plan-0123abcd.json")
    world.age(40)
    world.plan("p", planned)  # planned again: the shard is young, its rows' fall is not
    world.collect()
    assert world.there() == {"upscale planned", "upscale instead"}


def test_what_is_young_stays_and_what_is_old_and_hot_goes_with_its_files(world: World) -> None:
    world.make("face_swap", "old")
    world.age(31)
    world.make("face_swap", "young")
    found = world.collect()
    assert world.there() == {"face_swap young"}
    assert found.doomed == {"face_swap": 1}
    assert found.blobs == 1
    assert len(list(world.store.list(f"{TENANT}/blob/"))) == 1


def test_days_of_the_policy_count_beyond_the_grace_period(world: World) -> None:
    world.make("face_swap", "a")
    world.age(8)
    world.collect(Retention(hot_days=30))
    assert world.there() == {"face_swap a"}
    world.collect(Retention(hot_days=0))
    assert world.there() == set()


def test_plates_stay_and_so_does_what_a_publication_rests_on(world: World) -> None:
    world.make("upscale_plate", "t")
    world.make("upscale_plate/chunk", "t")
    classify = world.make("classify", "eve", compose="a" * 64)
    sign = world.make("sign", "eve", compose="a" * 64, classify=classify.key)
    world.make("publish", "eve", sign=sign.key)
    world.make("classify", "not published")
    world.make("compose", "eve")
    world.age(400)
    world.collect()
    assert world.there() == {"upscale_plate t", "classify eve", "sign eve", "publish eve"}
    world.collect(Retention(plate_days=90))
    assert world.there() == {"classify eve", "sign eve", "publish eve"}


def test_a_file_that_two_artifacts_share_goes_with_the_last(world: World) -> None:
    one = world.make("face_swap", "a")
    material = KeyMaterial(stage="lip_sync", stage_version=1)
    world.made["lip_sync"] = world.cache.publish(material, dict(one.outputs), {})
    world.age(31, f"{TENANT}/face_swap/")
    world.age(31, f"{TENANT}/blob/")
    world.collect()
    assert world.there() == {"lip_sync"}
    world.age(31, f"{TENANT}/lip_sync/")
    assert world.collect().blobs == 1


def test_a_live_plan_keeps_its_artifacts_and_its_sources(world: World) -> None:
    plan = world.plan("p1", world.make("face_swap", "a"), source=b"a photo")
    world.age(100)
    world.store.put(plan, world.store.get(plan))  # planning again writes the plan again
    found = world.collect()
    assert world.there() == {"face_swap a"}
    assert (found.plans, found.blobs) == (1, 0)
    world.age(8, f"{TENANT}/plan/")
    found = world.collect()
    assert world.there() == set()
    assert found.blobs == 2


def test_a_run_that_still_writes_keeps_its_plan_alive(world: World) -> None:
    plan = world.plan("p1", world.make("face_swap", "a"))
    request = StageRequest(
        stage="compose", store=world.store.uri, tenant=TENANT, plan=plan, units=("eve",),
        run_id="r", result="x",
    )  # fmt: skip
    world.age(100)
    body = request.model_dump_json().encode()
    world.store.put(f"{TENANT}/run/campaign_render/r/shard.compose/001.request.json", body)
    # What names no plan, and comes later in the list, does not hide it.
    world.store.put(f"{TENANT}/run/campaign_render/r/shard.compose/002.progress.json", b"{}")
    world.collect()
    assert world.there() == {"face_swap a"}


def test_a_question_that_nobody_answered_keeps_what_it_is_about(world: World) -> None:
    compose = world.make("compose", "eve")
    plan = world.plan("p1", compose)
    decision = KeyMaterial(stage="decision", stage_version=1)
    item = ReviewItem(
        store="s", tenant=TENANT, plan=plan, unit="eve", label="eve", reasons=(), subject="",
        body="", contact_sheet="c", video="v", decision=decision.key(),
    )  # fmt: skip
    where = f"{TENANT}/run/campaign_render/r/review/eve.json"
    world.store.put(where, item.model_dump_json().encode())
    world.age(40)
    world.collect()
    assert world.there() == {"compose eve"}
    world.cache.publish(decision, {}, {"approved": False})
    world.collect()
    assert world.there() == set()


def test_a_lease_that_beats_keeps_its_plan_alive(world: World) -> None:
    done, making = world.make("face_swap", "a"), world.make("compose", "b")
    world.plan("p1", done, making)
    world.age(100)
    with Lease.acquire(world.store, TENANT, making.key):
        world.collect()
    assert world.there() == {"face_swap a", "compose b"}
    world.collect()
    assert world.there() == set()


def test_nothing_but_artifacts_is_ever_deleted(world: World) -> None:
    kinds = ("plan", "draft", "run", "report", "published", "audit", "gate", "reference")
    kinds += ("features", "live", "rollout", "timings", "decision", "scheduled", "drift")
    for kind in kinds:
        world.store.put(f"{TENANT}/{kind}/aa/{'a' * 64}", b"{}")
    world.store.put(f"{TENANT}x/blob/aa/{'a' * 64}", b"another tenant's")
    world.age(4000)
    before = {info.key for info in world.store.list()}
    world.collect(Retention(hot_days=0, plate_days=0.001))
    assert {info.key for info in world.store.list()} - {notice_key(TENANT)} == before


def test_files_of_artifacts_that_the_collector_does_not_know_stay(world: World) -> None:
    world.make("refused/upscale", "a"), world.make("a_stage_of_tomorrow", "b")
    world.age(4000)
    world.collect(Retention(hot_days=0))
    assert world.there() == {"refused/upscale a", "a_stage_of_tomorrow b"}


def test_a_dry_run_says_the_same_and_deletes_nothing(world: World) -> None:
    for tag in "abc":
        world.make("face_swap", tag)
    world.age(31)
    world.make("face_swap", "young")
    before = {info.key for info in world.store.list()}
    told = world.collect(dry_run=True)
    assert {info.key for info in world.store.list()} == before
    found = world.collect()
    assert (told.doomed, told.kept) == (found.doomed, found.kept) == ({"face_swap": 3}, 1)
    assert (told.blobs, told.bytes) == (found.blobs, found.bytes)


def test_only_one_collection_at_a_time_and_no_grace_that_is_too_short(world: World) -> None:
    with Lease.acquire(world.store, TENANT, "gc"), pytest.raises(LeaseHeld):
        world.collect()
    with pytest.raises(Usage, match="too short") as caught:
        collect(world.store, TENANT, Retention(), timedelta(minutes=59))
    assert caught.value.code == "gc.grace"
