"""The cut into shards: its promises for every size of campaign, and where its times come from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from include.contracts.manifest import KeyMaterial
from include.contracts.plan import TEMPLATE_UNIT, UnitPlan
from include.sharding import (
    LONG_S,
    MAX_SHARDS,
    SHORT_S,
    StageTime,
    StageTimes,
    choose_shard_size,
    load_times,
    predict_seconds,
    record_times,
)
from include.stages.specs import STAGES
from include.store import ObjectStore, open_store

ROWS = st.integers(1, 100_000)
SLOTS = st.integers(1, 256)


@dataclass(frozen=True)
class Work:
    made: int
    seconds: float


def measured(**seconds: float) -> StageTimes:
    return StageTimes(stages={n: StageTime(units=9, seconds=s) for n, s in seconds.items()})


def every(seconds: float) -> StageTimes:
    return measured(**{n: seconds for n, spec in STAGES.items() if spec.scope == "row"})


def shards(rows: int, size: int) -> int:
    return math.ceil(rows / size)


TIMES = st.floats(0.001, 600).map(every)


@given(ROWS, SLOTS, TIMES)
@example(100_000, 256, every(600.0))
@example(100_000, 1, every(0.001))
def test_no_campaign_has_more_shards_than_airflow_maps(
    rows: int, slots: int, times: StageTimes
) -> None:
    size = choose_shard_size(rows, slots, times)
    assert 1 <= size <= rows
    assert shards(rows, size) <= MAX_SHARDS


@given(ROWS, SLOTS, TIMES)
def test_no_slot_stays_idle_while_there_are_rows(rows: int, slots: int, times: StageTimes) -> None:
    count = shards(rows, choose_shard_size(rows, slots, times))
    # Rounding may leave the last slots without one: 9 rows in 8 slots are 5 shards of 2.
    assert count >= min(rows, slots, MAX_SHARDS) / 2


@given(ROWS, SLOTS, TIMES)
def test_a_retry_costs_ten_minutes_at_most_unless_airflows_limit_forces_more(
    rows: int, slots: int, times: StageTimes
) -> None:
    size = choose_shard_size(rows, slots, times)
    forced = math.ceil(rows / MAX_SHARDS)
    assert size <= forced or size == 1 or size * max(times.row_seconds().values()) <= LONG_S + 1e-6


@pytest.mark.parametrize("slots", [1, 2, 8, 64])
def test_one_recipient_is_one_shard(slots: int) -> None:
    assert choose_shard_size(1, slots) == 1


@pytest.mark.parametrize(("rows", "slots", "count"), [(3, 2, 2), (8, 4, 4), (16, 16, 16)])
def test_few_recipients_are_spread_over_the_slots(rows: int, slots: int, count: int) -> None:
    assert shards(rows, choose_shard_size(rows, slots)) == count


@pytest.mark.parametrize("slots", [2, 8, 64])
def test_a_long_campaign_gives_every_slot_several_shards_of_some_minutes(slots: int) -> None:
    size = choose_shard_size(10_000, slots)
    slowest = max(StageTimes().row_seconds().values())
    assert shards(10_000, size) >= 3 * slots
    assert SHORT_S <= size * slowest <= LONG_S


def test_a_few_shards_a_slot_are_the_same_number_for_each() -> None:
    for rows in range(20, 120):
        count = shards(rows, choose_shard_size(rows, 2))
        assert count == 1 or count > 6 or count % 2 == 0, rows


def test_quick_stages_get_larger_shards_than_slow_ones() -> None:
    quick, slow = choose_shard_size(2000, 2, every(0.5)), choose_shard_size(2000, 2, every(30.0))
    assert quick > 4 * slow


def test_no_stage_may_come_near_its_time_limit() -> None:
    ingest = STAGES["ingest_recipients"]
    times = measured(ingest_recipients=20.0, compose=20.0)
    size = choose_shard_size(5000, 2, times)
    assert size * 20.0 <= ingest.timeout.total_seconds() / 3


@pytest.fixture
def store(tmp_path) -> ObjectStore:
    return open_store(str(tmp_path))


def template(scale: int = 2) -> UnitPlan:
    material = KeyMaterial(stage="upscale_plate", stage_version=1, params={"scale": scale})
    return UnitPlan(id=TEMPLATE_UNIT, materials={"upscale_plate": material})


def test_what_a_run_measured_is_there_for_the_next_plan(store: ObjectStore) -> None:
    assert load_times(store, "acme", template()) == StageTimes()
    record_times(store, "acme", template(), {"compose": Work(4, 20.0), "upscale": Work(0, 0.0)})
    times = load_times(store, "acme", template())
    assert times.row_seconds()["compose"] == 5.0
    assert times.row_seconds()["upscale"] == StageTimes().row_seconds()["upscale"]


def test_later_runs_weigh_in_by_what_they_made(store: ObjectStore) -> None:
    record_times(store, "acme", template(), {"compose": Work(10, 100.0)})
    record_times(store, "acme", template(), {"compose": Work(30, 60.0)})
    assert load_times(store, "acme", template()).row_seconds()["compose"] == pytest.approx(4.0)


def test_times_of_another_scale_or_tenant_are_its_own(store: ObjectStore) -> None:
    record_times(store, "acme", template(), {"compose": Work(1, 99.0)})
    assert load_times(store, "acme", template(scale=4)) == StageTimes()
    assert load_times(store, "other", template()) == StageTimes()


def test_times_that_cannot_be_read_are_begun_anew(store: ObjectStore) -> None:
    record_times(store, "acme", template(), {"compose": Work(1, 99.0)})
    (info,) = store.list("acme/timings/")
    store.put(info.key, b"{")
    assert load_times(store, "acme", template()) == StageTimes()
    record_times(store, "acme", template(), {"compose": Work(2, 8.0)})
    assert load_times(store, "acme", template()).row_seconds()["compose"] == 4.0


def test_a_prediction_grows_with_rows_and_shrinks_with_slots() -> None:
    times = every(1.0)
    one = predict_seconds(100, 10, 1, times, template=True)
    assert one > 100 * len(times.stages)
    assert predict_seconds(100, 10, 4, times, template=True) == pytest.approx(one / 4)
    assert predict_seconds(0, 0, 1, times, template=False) == 0.0
    assert predict_seconds(100, 10, 1, times, template=False) > one
