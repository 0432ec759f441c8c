"""The steps on whole frames make the linear renderer's pixels, in any order that they can have."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.full_frames import STEPS, VIDEO, delivered, main, open_row
from benchmarks.whole_frames import linear_frames
from include.contracts.plan import ShardPlan
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.store import open_store
from tests.support.tiny import CARD, FACE, SIZE, make_tiny, tiny_environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory):
    """The tiny campaign with its template compiled, and two folders of steps run."""
    root = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        tiny = make_tiny(root)
        plan = plan_campaign(str(tiny.write()), tiny.settings)
        run_campaign(plan, tiny.settings, until="ingest_recipients")
        for folder, steps in (("one", list(STEPS)), ("other", _lip_sync_last())):
            for step in steps:
                shard = plan.shards[0].model_dump_json()
                assert main([step, "--shard", shard, "--folder", str(root / folder)]) == 0
        yield plan, tiny.settings, root


def _lip_sync_last() -> list[str]:
    return ["face_swap", "upscale", "lip_sync", "compose"]


def test_frames_are_the_linear_renderers_within_one_code_value(made, tmp_path: Path) -> None:
    plan, settings, root = made
    shard = ShardPlan.model_validate_json(open_store(plan.store).get(plan.shards[0].plan))
    ctx = open_row(shard, plan.store, settings, tmp_path)
    ours = list(delivered(ctx, root / "one"))
    theirs = list(linear_frames(shard, shard.rows[0], settings))
    assert len(ours) == len(theirs) == CARD + FACE
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        for name in "yuv":
            a, b = (getattr(planes, name).astype(np.int16) for planes in (one, other))
            assert np.abs(a - b).max() <= 1, (number, name)


def test_lip_sync_before_or_after_upscaling_is_the_same_video(made) -> None:
    *_, root = made
    one, other = ((root / name / VIDEO).read_bytes() for name in ("one", "other"))
    assert one == other


def test_the_video_is_whole_and_each_step_says_what_it_cost(made) -> None:
    *_, root = made
    with av.open(str(root / "one" / VIDEO)) as container:
        video = container.streams.video[0]
        assert len(container.streams.audio) == 1
        frames = sum(1 for _ in container.decode(video))
        assert (video.width, video.height, frames) == (2 * SIZE[0], 2 * SIZE[1], CARD + FACE)
    for step in STEPS:
        assert json.loads((root / "one" / f"{step}.json").read_text())["wall"] > 0
