"""Stages at the reference server, over a real socket, from processes that get killed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.remote.budget import Ledger
from tests.include.remote.conftest import World, copied, kill
from tests.services.model_api import ModelApi, model_api

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def local(swapped: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Upscaled here: what a remote one has to equal."""
    world = copied(swapped, tmp_path_factory.mktemp("local"))
    process = world.start("upscale", "include.stages")
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return world


def test_a_remote_upscale_is_the_local_one_to_the_byte(
    world: World, local: World, api: ModelApi
) -> None:
    world.offer(api)
    code, unit, _ = world.call()
    assert (code, unit.status) == (0, "made"), unit
    here, there = local.made("upscale"), world.made("upscale")
    assert there
    assert here
    assert there.outputs == here.outputs
    assert there.facts == here.facts
    assert there.outputs, "something was upscaled"
    assert there.remote
    assert there.remote.endpoint == "near"
    assert here.remote is None
    assert there.cpu_seconds > 0.1, "the time that the server took"


def test_a_remote_face_swap_is_the_local_one_to_the_byte(
    ready: World, swapped: World, api: ModelApi, tmp_path: Path
) -> None:
    world = copied(ready, tmp_path)
    world.offer(api, "face_swap")
    code, unit, _ = world.call("face_swap")
    assert (code, unit.status) == (0, "made"), unit
    here, there = swapped.made("face_swap"), world.made("face_swap")
    assert there
    assert here
    assert there.outputs == here.outputs
    assert there.facts == here.facts


def wait_for(condition, process) -> None:
    """Wait for a condition while a process goes on."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def slow_python(tmp_path: Path, gate: Path) -> Path:
    """A worker's interpreter that waits for a file before it does anything."""
    script = tmp_path / "slow-python"
    script.write_text(
        f'#!/bin/sh\nwhile [ ! -e {gate} ]; do sleep 0.2; done\nexec {sys.executable} "$@"\n'
    )
    script.chmod(0o755)
    return script


@pytest.fixture
def gated(tmp_path: Path) -> Iterator[tuple[ModelApi, Path]]:
    """A server whose stage processes wait for a file."""
    gate = tmp_path / "gate"
    with model_api(tmp_path / "gated-api", "--python", str(slow_python(tmp_path, gate))) as api:
        yield api, gate


def jobs_of(api: ModelApi) -> list[Path]:
    return list((api.root / "jobs").glob("*/job.json"))


def test_a_caller_that_was_killed_finds_its_job_again(
    world: World, local: World, gated: tuple[ModelApi, Path]
) -> None:
    api, gate = gated
    world.offer(api, per_call=0.25)
    process = world.start()
    wait_for(lambda: api.counts().get("running"), process)
    kill(process)
    assert world.made("upscale") is None
    (job,) = jobs_of(api)
    before = json.loads(job.read_text())["accepted"]
    gate.touch()
    code, unit, _ = world.call()
    assert (code, unit.status) == (0, "made"), unit
    assert jobs_of(api) == [job]
    assert json.loads(job.read_text())["accepted"] == before, "submitted once"
    assert world.made("upscale").outputs == local.made("upscale").outputs
    names = [info.key for info in world.cache.store.list("acme/spend/")]
    assert sum("r-" in name.rpartition("/")[2] for name in names) == 1, "reserved once"


def test_a_job_survives_the_death_of_its_server(
    world: World, local: World, gated: tuple[ModelApi, Path]
) -> None:
    api, gate = gated
    world.offer(api)
    process = world.start()
    wait_for(lambda: api.counts().get("running"), process)
    api.stop(kill=True)
    gate.touch()
    api.start()
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert world.made("upscale").outputs == local.made("upscale").outputs
    assert len(jobs_of(api)) == 1


def test_a_task_that_is_ended_cancels_its_job(world: World, gated: tuple[ModelApi, Path]) -> None:
    api, _ = gated
    world.offer(api, per_call=0.25)
    process = world.start()
    wait_for(lambda: api.counts().get("running"), process)
    process.terminate()
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 80, said
    assert api.counts() == {"cancelled": 1}
    assert Ledger(world.cache.store, "acme", "tiny").spent() == 0, "the server asks nothing for it"


def test_a_job_that_takes_too_long_is_cancelled_and_named(
    world: World, gated: tuple[ModelApi, Path]
) -> None:
    api, _ = gated
    world.offer(api, total_s=1.5)
    code, unit, _ = world.call()
    assert (code, unit.code) == (0, "remote.timeout")
    assert unit.retry
    assert api.counts() == {"cancelled": 1}
    code, unit, _ = world.call(last_attempt=False)
    assert code == 75, "worth a retry while there are any"


def test_a_call_back_wakes_the_caller(world: World, gated: tuple[ModelApi, Path]) -> None:
    api, gate = gated
    api.stop()
    api.start(*api.options, "--callback-host", "127.0.0.1")
    world.offer(api)
    world.env |= {"UNDERSTUDY_REMOTE_CALLBACK": "127.0.0.1"}
    process = world.start()
    wait_for(lambda: api.counts().get("running"), process)
    record = json.loads(jobs_of(api)[0].read_text())
    assert record["request"]["callback"].startswith("http://127.0.0.1:")
    gate.touch()
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said


def test_rows_that_cannot_be_paid_are_refused_with_the_sum(world: World, api: ModelApi) -> None:
    world.offer(api, per_frame=0.06)  # 18 frames; the brief allows 1 USD
    code, unit, _ = world.call(last_attempt=False)
    assert (code, unit.code, unit.retry) == (0, "budget.exceeded", False)
    assert "1.0800 USD" in unit.message
    assert "budget.limit to at least 1.0800" in unit.message
    assert api.counts() == {}, "nothing was submitted"


def test_a_price_is_settled_as_the_server_says(world: World, api: ModelApi) -> None:
    api.stop()
    api.start("--price-per-call", "0.125")
    world.offer(api, per_call=0.5)
    world.call()
    assert world.made("upscale").remote.price == 0.125
    assert Ledger(world.cache.store, "acme", "tiny").spent() == 0.125


def test_of_two_endpoints_the_second_is_used_when_the_first_is_down(
    world: World, api: ModelApi
) -> None:
    model = {"stage": "upscale", "backend": "compact", "connect_s": 1}
    down = {"name": "down", "url": "http://127.0.0.1:9", "models": [model]}
    world.declare(endpoints=[down, {"name": "up", "url": api.url, "models": [model]}])
    code, unit, said = world.call()
    assert (code, unit.status) == (0, "made"), unit
    assert world.made("upscale").remote.endpoint == "up"
    assert any("down: POST" in event.get("message", "") for event in said)


def test_a_row_that_the_stage_refuses_is_refused_with_its_own_reason(
    world: World, api: ModelApi, monkeypatch
) -> None:
    world.offer(api, "face_swap")
    api.stop()
    broken = world.remotes.with_name("broken-python")
    code = (
        "import sys; sys.path.insert(0, '.'); from include.errors import BadFace;"
        "import include.stages.face_swap as f\n"
        "def run_chunk(ctx, artifact): raise BadFace('no face here', code='face.none')\n"
        "f.run_chunk = run_chunk\n"
        "from include.stages.__main__ import main; sys.exit(main(sys.argv[3:]))"
    )
    broken.write_text(f"#!{sys.executable}\n{code}\n")
    broken.chmod(0o755)
    api.start("--python", str(broken))
    world.cache.store.delete(
        world.cache.manifest_key("face_swap", world.shard.rows[0].key("face_swap"))
    )
    code, unit, _ = world.call("face_swap", last_attempt=False)
    assert (code, unit.code, unit.retry) == (0, "face.none", False)
    assert unit.message == "eve: no face here"
