"""Templates as people send them: what is refused says why, what is odd is put right."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import pytest

from include.contracts.plan import ShardPlan
from include.local_run import Run, run_campaign
from include.planning import plan_campaign
from include.report import write_report
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.support.tiny import (
    FACE,
    Tiny,
    astronaut,
    hopper,
    make_tiny,
    template_frames,
    tiny_environment,
    write_photo,
    write_video,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    root = tmp_path_factory.mktemp("templates")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        yield make_tiny(root)


def ffmpeg(*arguments: str) -> None:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *arguments]
    subprocess.run(command, check=True)


def ingest(
    tiny: Tiny, name: str, until: str = "ingest_template", **template: object
) -> tuple[Run, dict[str, object], dict[str, object]]:
    """Run a template's stages on a file; returns the run, its totals and the facts, if any."""
    brief = {**tiny.brief, "template": {**tiny.brief["template"], "video": name, **template}}
    plan = plan_campaign(
        str(Tiny(tiny.root, tiny.settings, brief, tiny.rows).write()), tiny.settings
    )
    run = run_campaign(plan, tiny.settings, run_id=f"t-{name}", until=until)
    totals = write_report(plan, f"t-{name}", run.refs, tiny.settings)
    store = open_store(plan.store)
    unit = ShardPlan.model_validate_json(store.get(plan.template.plan)).template
    found = ArtifactCache(store, plan.tenant).lookup(until, unit.key(until))
    return run, totals, dict(found.facts) if found else {}


def truncated(path: Path) -> None:
    whole = write_video(path.with_name("whole.mp4"), template_frames()).read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def playlist(path: Path) -> None:
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n")


def concat(path: Path) -> None:
    path.write_text("ffconcat version 1.0\nfile /etc/passwd\n")


def one_frame(path: Path) -> None:
    write_video(path, list(template_frames())[-1:])


def text(path: Path) -> None:
    path.write_text("not a video\n" * 100)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (truncated, "media."),
        (playlist, "media.playlist"),
        (concat, "media.playlist"),
        (one_frame, "video.too_short"),
        (text, "media.magic"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_an_unusable_template_is_refused_by_name_and_every_row_says_so(
    tiny: Tiny, make: Callable[[Path], None], code: str
) -> None:
    name = f"{make.__name__}.mp4"
    make(tiny.root / name)
    run, totals, facts = ingest(tiny, name)
    found = run.unit("ingest_template", "template")
    assert list(run.exit_codes.values()) == [65]
    assert (found.code or "").startswith(code)
    assert name in (found.message or "")
    assert str(tiny.settings.store) not in (found.message or "")
    assert totals["missing"][0]["code"] == found.code  # type: ignore[index]
    assert not facts


def test_a_bed_that_cannot_be_used_is_told_before_anything_is_upscaled_or_rendered(
    tiny: Tiny,
) -> None:
    (tiny.root / "song.wav").write_text("not a sound\n" * 100)
    video = str(tiny.brief["template"]["video"])
    run, totals, facts = ingest(tiny, video, until="upscale_plate", bed="song.wav")
    found = run.unit("measure_template", "template")
    assert (found.status, found.code) == ("failed", "media.magic")
    assert (found.message or "").startswith("template.bed: song.wav: ")
    assert totals["missing"][0]["code"] == "media.magic"  # type: ignore[index]
    assert "upscale_plate" not in run.processes
    assert not facts


def varying(path: Path) -> None:
    """Every third frame lasts twice as long."""
    source = write_video(path.with_name("even.mp4"), template_frames())
    ffmpeg(
        "-i", str(source), "-vf", "select='not(eq(mod(n,3),2))'", "-fps_mode", "vfr",
        "-c:v", "libx264", str(path),
    )  # fmt: skip


def rotated(path: Path) -> None:
    source = write_video(path.with_name("upright.mp4"), template_frames())
    ffmpeg("-display_rotation", "90", "-i", str(source), "-c", "copy", str(path))


def odd(path: Path) -> None:
    frames = [cv2.resize(frame, (321, 241)) for frame in template_frames()]
    source = path.with_name("even.mkv")
    height, width = frames[0].shape[:2]
    raw = np.stack(frames).tobytes()
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", "-f", "rawvideo"]
    command += ["-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "10", "-i", "-"]
    command += ["-c:v", "libx264", "-pix_fmt", "yuv444p", str(source)]
    subprocess.run(command, input=raw, check=True)
    os.replace(source, path)


@pytest.mark.parametrize(
    ("make", "suffix", "size"),
    [(varying, "mp4", (320, 240)), (rotated, "mp4", (240, 320)), (odd, "mkv", (320, 240))],
    ids=["variable frame rate", "rotation flag", "odd size"],
)
def test_an_odd_template_is_put_right_and_the_facts_say_what_was_changed(
    tiny: Tiny, make: Callable[[Path], None], suffix: str, size: tuple[int, int]
) -> None:
    name = f"{make.__name__}.{suffix}"
    make(tiny.root / name)
    run, _, facts = ingest(tiny, name)
    assert run.unit("ingest_template", "template").status == "made", run.said
    assert (facts["width"], facts["height"]) == size
    assert facts["changes"]


def test_a_template_without_sound_is_fine(tiny: Tiny) -> None:
    _, _, facts = ingest(tiny, "ad.mp4")
    assert facts["has_audio"] is False


def test_the_presenter_is_who_a_photo_shows_and_a_stranger_is_refused(tiny: Tiny) -> None:
    write_photo(tiny.root / "her.jpg", cv2.flip(astronaut()[0:340, 40:400], 1))
    _, _, facts = ingest(tiny, "ad.mp4", "track_face", face={"like": "her.jpg"})
    assert facts["frames_with_face"] == FACE
    write_photo(tiny.root / "him.jpg", hopper())
    run, totals, _ = ingest(tiny, "ad.mp4", "track_face", face={"like": "him.jpg"})
    found = run.unit("track_face", "template")
    assert found.code == "template.not_seen"
    assert "him.jpg" in (found.message or "")
    assert "face: {at: [x, y], time: 1.2s}" in (found.message or "")
    assert totals["missing"][0]["code"] == found.code  # type: ignore[index]
