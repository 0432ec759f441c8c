"""The stages one after the other, as real processes on real media."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from include.contracts.plan import CampaignPlan, ShardPlan
from include.contracts.stage import StageRequest
from include.local_run import Run, run_campaign, stage_env
from include.media.decode import VideoReader
from include.planning import plan_campaign
from include.provenance.verify import verify_video
from include.report import export, write_report
from include.settings import Settings
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import (
    CARD,
    FACE,
    FPS,
    SIZE,
    Tiny,
    astronaut,
    hopper,
    make_tiny,
    tiny_environment,
    write_video,
)

pytestmark = pytest.mark.slow

GOLDEN = Path(__file__).with_name("golden.json")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Tiny, Path]]:
    root = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        yield make_tiny(root), root


@pytest.fixture(scope="module")
def rendered(world: tuple[Tiny, Path]) -> tuple[Tiny, CampaignPlan, Run]:
    tiny, _ = world
    rng = np.random.default_rng(5)
    two = np.hstack([hopper()[:480], hopper()[:480]])
    tiny.add("two", two)
    tiny.add("small", cv2.resize(hopper(), (8, 8)))
    tiny.add("soft", cv2.GaussianBlur(hopper(), (0, 0), 8))
    tiny.add("nobody", np.uint8(rng.integers(0, 255, (400, 400, 3))))
    tiny.add("text", b"this is no photo")
    tiny.add("cut", (tiny.root / "eve.jpg").read_bytes()[:3000])
    tiny.add("klingon", hopper(), locale="tlh")
    tiny.add("long", hopper(), script="word " * 60)
    tiny.add("rude", hopper(), script="A gun, {name}.")
    hello = {"script": "Hello there {name}.", "name": "Лев"}
    tiny.add("лев-файл", hopper(), id="lev", **hello)
    plan = plan_campaign(str(tiny.write()), tiny.settings)
    assert not plan.rejects
    return tiny, plan, run_campaign(plan, tiny.settings)


def shards(plan: CampaignPlan) -> list[ShardPlan]:
    store = open_store(plan.store)
    return [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]


def artifact(plan: CampaignPlan, unit: str, name: str):
    for shard in shards(plan):
        if unit in {row.id for row in shard.rows}:
            cache = ArtifactCache(open_store(plan.store), plan.tenant)
            owner = shard.unit(unit)
            material = owner.materials.get(name) or shard.template.materials[name]
            return cache.lookup(name, material.key())
    raise KeyError(unit)


@pytest.fixture(scope="module")
def delivered(rendered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny, plan, run = rendered
    write_report(plan, "test", run.refs, tiny.settings)
    out = tmp_path_factory.mktemp("out")
    export(plan, "test", out, tiny.settings)
    return out


def test_a_good_row_is_delivered_signed_and_trusted(delivered: Path) -> None:
    found = verify_video(delivered / "eve" / "video.mp4")
    assert found.holds, found.failures
    assert {action.action for action in found.actions} >= {"c2pa.opened", "c2pa.dubbed"}
    names = {path.name for path in (delivered / "eve").iterdir()}
    assert names == {"video.mp4", "thumbnail.jpg", "captions.vtt", "report.json"}


def test_the_video_has_the_templates_length_twice_its_size_and_sound(delivered: Path) -> None:
    with av.open(str(delivered / "eve" / "video.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        frames = sum(1 for _ in container.decode(video))
        assert (video.width, video.height) == (2 * SIZE[0], 2 * SIZE[1])
        assert frames == CARD + FACE
        assert float(audio.duration * audio.time_base) == pytest.approx(frames / FPS, abs=0.05)


def test_only_face_frames_differ_from_the_plate(rendered, delivered: Path) -> None:
    _, plan, _ = rendered
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    encoded = artifact(plan, "eve", "encode_plate").outputs["plate-0000"]
    lossless = artifact(plan, "eve", "upscale_plate").outputs["plate-00001"]
    card, face = (cache.fetch(blob, delivered / "p") for blob in (encoded, lossless))

    def luma(path: Path):
        with av.open(str(path)) as container:
            return [f.to_ndarray(format="gray").astype(int) for f in container.decode(video=0)]

    ours, base = luma(delivered / "eve" / "video.mp4"), luma(card) + luma(face)
    # 8x8 means: encoding a card leaves them where they are, another face does not.
    small = [
        cv2.resize(
            np.abs(a - b).astype(np.float32), None, fx=1 / 8, fy=1 / 8, interpolation=cv2.INTER_AREA
        )
        for a, b in zip(ours, base, strict=True)
    ]
    changed = [float(picture.max()) for picture in small]
    assert max(changed[:CARD]) == 0, "title cards are the plate's, as they were encoded"
    assert min(changed[CARD:]) > 15, "every face frame shows somebody else"


@pytest.mark.parametrize(
    ("unit", "stage", "code"),
    [
        ("two", "ingest_recipients", "face.several"),
        ("small", "ingest_recipients", "face."),
        ("soft", "ingest_recipients", "face.too_soft"),
        ("nobody", "ingest_recipients", "face.none"),
        ("text", "ingest_recipients", "media.magic"),
        ("cut", "ingest_recipients", "media."),
        ("klingon", "ingest_recipients", "voice.unknown_locale"),
        ("long", "lip_sync", "voice.too_long"),
        ("rude", "sign", ""),
    ],
)
def test_a_bad_row_fails_alone_with_its_reason(
    rendered, delivered: Path, unit: str, stage: str, code: str
) -> None:
    _, _, run = rendered
    found = run.unit(stage, unit)
    assert found.status in ("failed", "held")
    assert (found.code or "").startswith(code)
    assert unit in (found.message or "")
    assert not (delivered / unit).exists()
    line = next(
        line
        for line in (delivered / "results.csv").read_text(encoding="utf-8-sig").splitlines()
        if f",{unit}," in line
    )
    assert "delivered" not in line
    assert f",{stage}," in line


def test_bad_rows_do_not_stop_the_others_nor_the_processes(rendered, delivered: Path) -> None:
    _, _, run = rendered
    assert set(run.exit_codes.values()) == {0}
    assert {path.name for path in delivered.iterdir() if path.is_dir()} >= {"eve", "lev"}


def test_a_word_on_the_list_holds_the_row_for_a_person(rendered) -> None:
    _, plan, _run = rendered
    facts = artifact(plan, "rude", "classify").facts
    assert facts["verdict"] in ("review", "block")
    assert any(reason.startswith("script.") for reason in facts["reasons"])


def test_the_report_page_fetches_nothing_and_names_everybody(delivered: Path) -> None:
    page = (delivered / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("https://www.w3.org", "")
    for unit in ("eve", "two", "text", "rude"):
        assert unit in page


def test_running_it_again_starts_no_process(rendered) -> None:
    tiny, _, _ = rendered
    tiny.rows = [row for row in tiny.rows if row["id"] in ("eve", "lev")]
    plan = plan_campaign(str(tiny.write()), tiny.settings)
    again = run_campaign(plan, tiny.settings, run_id="again")
    assert again.processes == []


def test_another_script_renders_the_voice_onward_and_nothing_else(rendered) -> None:
    tiny, _, _ = rendered
    tiny.rows = [{**row, "script": "Hey {name}."} for row in tiny.rows if row["id"] == "eve"]
    plan = plan_campaign(str(tiny.write()), tiny.settings)
    again = run_campaign(plan, tiny.settings, run_id="other-script")
    expected = ["ingest_recipients", "measure_inputs", "lip_sync", "compose", "classify"]
    assert again.processes == [*expected, "measure_render", "sign", "publish"]


def digests(plan: CampaignPlan, unit: str, names: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in names:
        for output, blob in artifact(plan, unit, name).outputs.items():
            found[f"{name}.{output}"] = blob.sha256
    return found


MADE = (
    "ingest_template", "track_face", "upscale_plate", "encode_plate", "analyse_face",
    "ingest_recipients/face", "ingest_recipients/voice", "face_swap", "lip_sync", "upscale",
    "compose", "measure_template", "measure_inputs/photo", "measure_inputs/audio", "measure_render",
)  # fmt: skip


@pytest.fixture(scope="module")
def one_row(world: tuple[Tiny, Path], rendered) -> tuple[Tiny, CampaignPlan]:
    tiny, _ = world
    tiny.rows = [{**row, "script": "Hi {name}."} for row in tiny.rows if row["id"] == "eve"]
    return tiny, plan_campaign(str(tiny.write()), tiny.settings)


def test_threads_and_what_memory_held_before_change_no_byte_before_signing(
    one_row: tuple[Tiny, CampaignPlan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_PERTURB_", "85")  # glibc fills what it hands out
    tiny, plan = one_row
    before = digests(plan, "eve", MADE)
    fresh = tiny.settings.with_store(str(tmp_path / "store"))
    again = plan_campaign(str(tiny.path), fresh)
    made = run_campaign(again, fresh, threads=2, until="measure_render")
    assert made.unit("measure_render", "eve").status == "made", made.said
    assert digests(again, "eve", MADE) == before


def signature(plan: CampaignPlan, tmp_path: Path) -> dict[str, list[float]]:
    """Coarse look of each stage's pictures: mean of a 6x4 grid on three frames, per channel."""
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    looks: dict[str, list[float]] = {}
    for name in MADE:
        manifest = artifact(plan, "eve", name)
        for output, blob in manifest.outputs.items():
            if not blob.media_type.startswith("video/"):
                continue
            path = cache.fetch(blob, tmp_path / name.replace("/", "-"))
            with VideoReader(path) as reader:  # clips of ours carry no colour tags
                frames = list(reader.frames())
            picks = [frames[0], frames[len(frames) // 2], frames[-1]]
            small = [cv2.resize(f, (6, 4), interpolation=cv2.INTER_AREA) for f in picks]
            looks[f"{name}.{output}"] = np.stack(small).ravel().tolist()
    return looks


def test_a_stage_whose_pictures_change_says_so_in_its_version(
    one_row: tuple[Tiny, CampaignPlan], tmp_path: Path
) -> None:
    """Golden pictures, kept per key: a new version has a new key and new pictures.

    To accept new pictures after raising a version: delete golden.json, run this test twice.
    """
    _, plan = one_row
    looks = signature(plan, tmp_path)
    versions = {name: artifact(plan, "eve", name).key for name in MADE}
    body = {"keys": versions, "looks": looks}
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(body) + "\n")
        pytest.fail(f"{GOLDEN.name} was missing and has been written: look at it and commit it")
    golden = json.loads(GOLDEN.read_text())
    assert looks.keys() == golden["looks"].keys()
    for name, look in looks.items():
        worst = np.abs(np.subtract(look, golden["looks"][name])).max()
        same_key = versions[name.split(".")[0]] == golden["keys"][name.split(".")[0]]
        if worst > 3:
            assert not same_key, f"{name} looks different ({worst:.0f}) under the same key"
            pytest.fail(f"{name} has a new version and a new look: renew {GOLDEN.name}")


STAGES_TO_KILL = (
    "ingest_template", "track_face", "encode_plate", "face_swap", "lip_sync", "compose", "sign",
)  # fmt: skip


def test_killing_a_stage_at_any_moment_leaves_nothing_or_a_complete_artifact(
    one_row: tuple[Tiny, CampaignPlan], tmp_path: Path
) -> None:
    tiny, _ = one_row
    settings = tiny.settings.with_store(str(tmp_path / "store"))
    plan = plan_campaign(str(tiny.path), settings)
    rng = random.Random(20261121)
    for spec in STAGES.values():
        if spec.name in STAGES_TO_KILL:
            for _ in range(2):
                _start_and_kill(spec.name, plan, settings, rng)
                _whole_or_nothing(plan, settings)
        _run_one(spec.name, plan, settings)
    done = run_campaign(plan, settings, run_id="after")
    assert done.processes == []
    assert done.unit("publish", "eve").status == "hit"


def _request(stage: str, plan: CampaignPlan, settings: Settings) -> list[str]:
    spec = STAGES[stage]
    ref = plan.template if spec.scope == "template" else plan.shards[0]
    units = ("template",) if spec.scope == "template" else ("eve",)
    request = StageRequest(
        stage=stage, store=settings.store, tenant=plan.tenant, plan=ref.plan, units=units,
        run_id="kill", result=f"{plan.tenant}/result/kill/{stage}.json",
    )  # fmt: skip
    key = f"{plan.tenant}/result/kill/{stage}.request"
    open_store(settings.store).put(key, request.model_dump_json().encode())
    python = str(settings.worker_python)
    return [python, "-m", "include.stages", stage, "--request", f"{settings.store}#{key}"]


def _start_and_kill(stage: str, plan: CampaignPlan, settings: Settings, rng: random.Random) -> None:
    process = subprocess.Popen(
        _request(stage, plan, settings),
        env=stage_env(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(rng.uniform(0.3, 5.0))
    process.send_signal(signal.SIGKILL)
    process.wait()


def _run_one(stage: str, plan: CampaignPlan, settings: Settings) -> None:
    """Run to the end; the killed process's lease is taken over once it is stale."""
    for _ in range(60):
        done = subprocess.run(
            [*_request(stage, plan, settings)], env=stage_env(), capture_output=True, text=True
        )
        result = json.loads(
            open_store(settings.store).get(f"{plan.tenant}/result/kill/{stage}.json")
        )
        codes = [unit["code"] for unit in result["units"]]
        if "lease.held" not in codes and done.returncode == 0:
            assert all(unit["status"] in ("made", "hit") for unit in result["units"]), result
            return
        time.sleep(2)
    raise AssertionError(f"{stage} never got its lease: {done.stdout}")


def _whole_or_nothing(plan: CampaignPlan, settings: Settings) -> None:
    cache = ArtifactCache(open_store(settings.store), plan.tenant)
    for shard in shards(plan):
        for unit in (shard.template, *shard.rows):
            for name in unit.materials:
                found = cache.lookup(name, unit.key(name))
                if found is None:
                    continue
                for blob in found.outputs.values():
                    assert len(cache.read_bytes(blob)) == blob.size


def test_a_template_without_a_face_is_refused_with_exit_code_65(
    world: tuple[Tiny, Path], rendered, tmp_path: Path
) -> None:
    tiny, _ = world
    rng = np.random.default_rng(3)
    noise = [np.uint8(rng.integers(80, 120, (240, 320, 3))) for _ in range(12)]
    write_video(tiny.root / "noise.mp4", noise)
    brief = {**tiny.brief, "template": {**tiny.brief["template"], "video": "noise.mp4"}}
    other = Tiny(tiny.root, tiny.settings, brief, [r for r in tiny.rows if r["id"] == "eve"])
    plan = plan_campaign(str(other.write()), tiny.settings)
    run = run_campaign(plan, tiny.settings, run_id="noface", until="face_swap")
    assert 65 in run.exit_codes.values()
    found = run.unit("track_face", "template")
    assert found.code == "template.no_face"
    assert "noise.mp4" in (found.message or "")
    totals = write_report(plan, "noface", run.refs, tiny.settings)
    assert totals["missing"][0]["code"] == "template.no_face"


def test_astronaut_is_not_delivered_as_the_recipient(rendered, delivered: Path) -> None:
    """The face in the video is the recipient's, by an independent recogniser."""
    from models.identity import distance, embed

    with av.open(str(delivered / "eve" / "video.mp4")) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    shown = embed(frames[CARD + FACE // 2])
    recipient, presenter = embed(hopper()), embed(astronaut())
    assert shown is not None
    assert distance(shown, recipient) < distance(shown, presenter)
