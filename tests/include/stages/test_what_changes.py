"""The README's table of what a change renders again, row by row, by counting stage processes."""

from __future__ import annotations

import copy
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from include.contracts.plan import ShardPlan
from include.contracts.stage import UnitResult
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.provenance.identity import ANCHORS_ENV
from include.provenance.pki import development_identity
from include.settings import PROJECT
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import (
    Tiny,
    hopper,
    make_tiny,
    template_frames,
    tiny_environment,
    write_video,
)

pytestmark = pytest.mark.slow

HEADING = "### What a change renders again"


def table() -> dict[str, list[str]]:
    """What is changed -> names of stages, in the order of the flow."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8").split(HEADING)[1]
    rows = re.findall(r"^\| (?!you change|---)([^|]+) \| ([^|]+) \|$", text.split("\n## ")[0], re.M)
    return {change: _stages(stages) for change, stages in rows}


def _stages(cell: str) -> list[str]:
    named = re.findall(r"`(\w+)`", cell)
    return [name for name in STAGES if name not in named] if "all but" in cell else named


def nothing(tiny: Tiny) -> None:
    pass


def consent(tiny: Tiny) -> None:
    tiny.consent("eve.json", tiny.root / "eve.jpg", {"face_swap", "lip_sync"})


def recipient(tiny: Tiny) -> None:
    tiny.add("adam", np.ascontiguousarray(hopper()[:, ::-1]))


def script(tiny: Tiny) -> None:
    tiny.rows[0]["script"] = "Hey {name}."


def photo(tiny: Tiny) -> None:
    row = tiny.rows.pop()
    tiny.add("eve", np.uint8(hopper() * 0.9), row["script"])


def voice(tiny: Tiny) -> None:
    tiny.brief["voice"] = {"at": "0.4s"}


def music(tiny: Tiny) -> None:
    import wave

    with wave.open(str(tiny.root / "bed.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48000)
        tone = np.sin(np.arange(48000 * 2) / 48000 * 2 * np.pi * 220) * 3000
        file.writeframes(tone.astype(np.int16).tobytes())
    tiny.brief["template"]["bed"] = "bed.wav"


def upscaler(tiny: Tiny) -> None:
    tiny.brief["output"] = {"upscaler": "lanczos"}


def quality(tiny: Tiny) -> None:
    tiny.brief["output"] = {"crf": 23}


def policy(tiny: Tiny) -> None:
    tiny.brief["policy"] = {**tiny.brief["policy"], "required": ["consent", "nudity"]}


def name(tiny: Tiny) -> None:
    tiny.brief["campaign"] = "another"


def anchors(tiny: Tiny) -> None:
    root = tiny.settings.state / "pki/root.crt"
    other = development_identity(state=tiny.root.parent / "others").anchors_pem
    path = tiny.root / "anchors.pem"
    path.write_text(root.read_text() + other)
    os.environ[ANCHORS_ENV] = str(path)


def video(tiny: Tiny) -> None:
    write_video(tiny.root / "ad.mp4", list(template_frames())[1:])


CHANGES: dict[str, Callable[[Tiny], None]] = {
    "nothing": nothing,
    "a renewed consent record": consent,
    "one more recipient": recipient,
    "a recipient's script": script,
    "a recipient's photo": photo,
    "when the voice begins": voice,
    "the music under the voice": music,
    "the upscaler or the scale": upscaler,
    "the encoding quality": quality,
    "the policy": policy,
    "the campaign's name": name,
    "the trust anchors": anchors,
    "the template video": video,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    root = tmp_path_factory.mktemp("changes")
    with pytest.MonkeyPatch.context() as patch:
        for key, value in tiny_environment(root).items():
            patch.setenv(key, value)
        tiny = make_tiny(root)
        run = run_campaign(plan_campaign(str(tiny.write()), tiny.settings), tiny.settings)
        assert run.unit("publish", "eve").status == "made", run.said
        yield tiny


def test_the_table_has_a_row_for_each_change_that_is_tried() -> None:
    assert list(table()) == list(CHANGES)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_starts_the_stages_that_the_table_says_and_no_others(
    finished: Tiny, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ANCHORS_ENV, "")
    tiny = Tiny(
        finished.root,
        finished.settings,
        copy.deepcopy(finished.brief),
        [dict(row) for row in finished.rows],
    )
    saved = {path: path.read_bytes() for path in Path(tiny.root).iterdir() if path.is_file()}
    try:
        CHANGES[change](tiny)
        plan = plan_campaign(str(tiny.write()), tiny.settings)
        run = run_campaign(plan, tiny.settings, run_id=re.sub(r"\W", "-", change))
        expected = table()[change]
        assert sorted(run.processes) == sorted(expected), run.said
        assert {run.unit("publish", row["id"]).status for row in tiny.rows} <= {"made", "hit"}
    finally:
        for path, content in saved.items():
            path.write_bytes(content)


def test_going_back_to_what_was_published_before_publishes_it_again_and_renders_nothing(
    finished: Tiny,
) -> None:
    brief = finished.root / "brief.yaml"
    before = brief.read_bytes()
    tiny = Tiny(finished.root, finished.settings, copy.deepcopy(finished.brief), finished.rows)
    tiny.brief["policy"] = {**tiny.brief["policy"], "required": ["consent", "script"]}
    try:
        changed = plan_campaign(str(tiny.write()), tiny.settings)
        run_campaign(changed, tiny.settings, run_id="changed")
    finally:
        brief.write_bytes(before)
    plan = plan_campaign(str(brief), tiny.settings)
    back = run_campaign(plan, tiny.settings, run_id="back")
    assert back.processes == ["publish"]
    store = open_store(plan.store)
    row = ShardPlan.model_validate_json(store.get(plan.shards[0].plan)).unit("eve")
    signed = ArtifactCache(store, plan.tenant).lookup("sign", row.key("sign"))
    assert signed is not None
    out = store.get("acme/published/tiny/eve/video.mp4")
    assert hashlib.sha256(out).hexdigest() == signed.outputs["video"].sha256
    assert run_campaign(plan, tiny.settings, run_id="again").processes == []


def test_a_signature_that_holds_no_more_is_made_again_by_the_next_run_and_not_for_ever(
    finished: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    brief, settings = finished.root / "brief.yaml", finished.settings
    plan = plan_campaign(str(brief), settings)
    store = open_store(plan.store)
    cache = ArtifactCache(store, plan.tenant)
    row = ShardPlan.model_validate_json(store.get(plan.shards[0].plan)).unit("eve")
    signed = row.key("sign")

    def again(run_id: str) -> UnitResult:
        cache.quarantine("publish", row.key("publish"))
        return run_campaign(plan, settings, run_id=run_id).unit("publish", "eve")

    assert again("whole").status == "made"
    shutil.rmtree(settings.state / "pki")  # another root from now on
    development_identity(state=settings.state)
    found = again("other-root")
    assert (found.status, found.code, found.retry) == ("failed", "provenance.outdated", False)
    assert cache.lookup("sign", signed) is None
    assert again("next").status == "made"

    anchors = development_identity(state=finished.root.parent / "strangers").anchors_pem
    path = finished.root.parent / "strangers.pem"
    path.write_text(anchors)
    cache.quarantine("sign", signed)
    monkeypatch.setenv(ANCHORS_ENV, str(path))  # publishing trusts others than who signs
    found = again("at-odds")
    assert (found.status, found.code, found.retry) == ("failed", "provenance.invalid", False)
    assert cache.lookup("sign", signed) is not None, "signing it again would not help"
