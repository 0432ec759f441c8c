"""Calls of one task are under way at the same time, and each row's outcome is its own."""

from __future__ import annotations

import io
import threading

import pytest

from include.contracts.stage import StageRequest
from include.errors import RemoteUnavailable
from include.stages.context import Events, Output
from include.stages.runner import Elsewhere, run_stage
from tests.include.remote.conftest import World

pytestmark = pytest.mark.slow  # for the campaign that it starts from


def test_rows_are_called_for_side_by_side_and_fail_alone(world: World) -> None:
    (row,) = world.shard.rows
    rows = []
    for name in ("one", "two", "three"):
        own = row.materials["upscale"].model_copy(update={"params": {"scale": 2, "row": name}})
        rows.append(
            row.model_copy(update={"id": name, "materials": {**row.materials, "upscale": own}})
        )
    plan = world.shard.model_copy(update={"rows": tuple(rows)})
    world.cache.store.put("acme/plan/many.json", plan.model_dump_json().encode())
    together = threading.Barrier(3, timeout=60)

    def whole(ctx, artifact):
        together.wait()  # breaks unless all three are here
        if ctx.unit.id == "two":
            raise RemoteUnavailable("down", code="remote.timeout")
        return Output({}, {"row": ctx.unit.id})

    request = StageRequest(
        stage="upscale",
        store=world.store,
        tenant="acme",
        plan="acme/plan/many.json",
        units=("one", "two", "three"),
        run_id="test",
        result="acme/run/many.json",
    )
    events = Events("upscale", io.StringIO())
    result = run_stage(request, events, Elsewhere(whole, lambda *_: Output({}), at_once=3))
    assert [(u.id, u.status) for u in result.units] == [
        ("one", "made"),
        ("two", "failed"),
        ("three", "made"),
    ]
    made = world.cache.lookup("upscale", rows[2].key("upscale"))
    assert made.facts == {"row": "three"}
    assert result.remote
