"""Stages at the reference server, over a real socket, from processes that get killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.include.remote.conftest import World, copied
from tests.services.model_api import ModelApi

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
    assert there and here
    assert there.outputs == here.outputs
    assert there.facts == here.facts
    assert there.outputs, "something was upscaled"
    assert there.remote and there.remote.endpoint == "near"
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
    assert there and here and there.outputs == here.outputs and there.facts == here.facts
