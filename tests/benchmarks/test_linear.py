"""The linear renderer delivers what the stages deliver."""

from __future__ import annotations

import json
from pathlib import Path

import av
import pytest

from benchmarks.linear import main, planned_rows, render
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.provenance.verify import verify_video
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import CARD, FACE, SIZE, make_tiny, tiny_environment

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("linear")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        tiny = make_tiny(root)
        yield plan_campaign(str(tiny.write()), tiny.settings), tiny.settings


def packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def test_a_linear_video_is_signed_and_sounds_and_measures_like_the_stages_one(
    planned, tmp_path: Path
) -> None:
    plan, settings = planned
    ((shard, row),) = planned_rows(plan)
    made = render(shard, row, settings, tmp_path)
    assert made.verdict == "pass"
    assert verify_video(made.video).holds
    run = run_campaign(plan, settings)
    assert run.unit("publish", "eve").status == "made"
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    signed = cache.lookup("sign", row.key("sign"))
    assert signed is not None
    delta = cache.fetch(signed.outputs["video"], tmp_path / "delta")
    assert packets(made.video) == packets(delta)
    with av.open(str(made.video)) as container:
        video = container.streams.video[0]
        frames = sum(1 for _ in container.decode(video))
        assert (video.width, video.height, frames) == (2 * SIZE[0], 2 * SIZE[1], CARD + FACE)


def test_the_command_says_what_each_step_costs(
    planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, _ = planned
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    monkeypatch.setattr("benchmarks.linear.restart_with_threads", lambda *_: None)
    answer = tmp_path / "linear.json"
    arguments = ["--plan", tmp_path / "plan.json", "--out", tmp_path / "out", "--json", answer]
    assert main([str(argument) for argument in arguments]) == 0
    (row,) = json.loads(answer.read_text())["rows"]
    assert row["frames"] == CARD + FACE
    assert {"decode", "swap", "mouth", "upscale", "encode", "safety", "sign"} <= set(row["steps"])
    assert sum(step["wall"] for step in row["steps"].values()) <= row["wall"]
    assert "upscale" in capsys.readouterr().out
