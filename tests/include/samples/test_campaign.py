"""The sample campaign: a real ad's shape, complete, made once."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml

from include.contracts.brief import Brief
from include.media.decode import VideoReader
from include.media.probe import probe_video
from include.samples import campaign, template
from include.table import read_table
from models.face.landmarks import FaceMesh
from models.speech.synthesis import synthesise

pytestmark = [pytest.mark.worker, pytest.mark.slow]


def note_consent(media: list[Path], subject: str, scope: Sequence[str], out: Path) -> None:
    assert all(path.exists() for path in media)
    if out.exists():
        return
    names = [path.name for path in media]
    out.write_text(json.dumps({"subject": subject, "scope": list(scope), "media": names}))


@pytest.fixture(scope="session")
def brief_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples") / "campaign"
    return campaign.make_sample_campaign(folder, note_consent)


@pytest.fixture(scope="session")
def brief(brief_path: Path) -> Brief:
    return Brief.model_validate(yaml.safe_load(brief_path.read_text()))


def test_every_path_of_the_brief_exists(brief_path: Path, brief: Brief) -> None:
    spec = brief.template
    for name in (spec.video, spec.bed, spec.consent, brief.recipients):
        assert name is not None
        assert (brief_path.parent / name).is_file()


def test_the_table_is_accepted_row_by_row_and_its_files_exist(
    brief_path: Path, brief: Brief
) -> None:
    table = read_table((brief_path.parent / brief.recipients).read_bytes(), brief.recipients)
    assert not table.rejects
    assert len(table.rows) >= 3
    for row in table.rows:
        assert row.script
        assert "{" not in row.script
        for name in (row.face, row.consent, row.audio):
            assert name is None or (brief_path.parent / name).is_file()
    assert len({row.locale for row in table.rows}) >= 3
    assert any(row.audio for row in table.rows)


def test_every_line_fits_the_time_that_the_presenter_is_seen(brief_path: Path) -> None:
    with (brief_path.parent / "recipients.csv").open(encoding="utf-8", newline="") as source:
        for row in csv.DictReader(source):
            script = row["script"].format(name=row["name"])
            line = synthesise(script, locale=row["locale"], voice=row["voice"])
            assert line.duration <= template.WINDOW


def test_the_template_has_the_shape_of_an_ad(brief_path: Path) -> None:
    facts = probe_video(brief_path.parent / "media/presenter.mp4")
    assert (facts.width, facts.height) == template.SIZE
    assert Fraction(facts.fps) == template.FPS
    assert facts.duration_s == pytest.approx(8.0, abs=0.1)
    assert facts.has_audio


def test_one_face_is_seen_while_the_presenter_speaks_and_it_is_small(brief_path: Path) -> None:
    width, height = template.SIZE
    start, stop = template.OPENING, template.OPENING + template.TALK
    with (
        VideoReader(brief_path.parent / "media/presenter.mp4") as reader,
        FaceMesh(max_faces=3) as mesh,
    ):
        for i, frame in enumerate(reader.frames(start, stop)):
            if i % 20:
                continue
            faces = mesh.detect(frame)
            assert len(faces) == 1
            x0, y0, x1, y1 = faces[0].box
            assert 0.02 < (x1 - x0) * (y1 - y0) / (width * height) < 0.15


def test_the_cards_show_nobody(brief_path: Path) -> None:
    with (
        VideoReader(brief_path.parent / "media/presenter.mp4") as reader,
        FaceMesh(max_faces=3) as mesh,
    ):
        for index in (12, template.OPENING + template.TALK + 14, template.FRAMES - 3):
            assert not mesh.detect(next(iter(reader.frames(index, index + 1))))


def test_the_music_leaves_room_for_a_voice(brief_path: Path) -> None:
    import wave

    with wave.open(str(brief_path.parent / "media/music.wav")) as source:
        assert (source.getnchannels(), source.getframerate()) == (2, 48000)
        pcm = np.frombuffer(source.readframes(source.getnframes()), "<i2").reshape(-1, 2) / 32768
    under, free = pcm[2 * 48000 : 5 * 48000], pcm[round(6.3 * 48000) : round(7.0 * 48000)]
    assert np.sqrt((under**2).mean()) < 0.7 * np.sqrt((free**2).mean())
    assert np.abs(pcm).max() < 0.99
    assert np.abs(pcm[:64]).max() < 0.01
    assert np.abs(pcm[-64:]).max() < 0.01


def test_a_second_call_makes_nothing_anew(brief_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in sorted(brief_path.parent.rglob("*"))}
    assert campaign.make_sample_campaign(brief_path.parent, note_consent) == brief_path
    assert {p: p.stat().st_mtime_ns for p in sorted(brief_path.parent.rglob("*"))} == before


def test_a_second_call_asks_for_consent_that_is_gone(brief_path: Path) -> None:
    record = brief_path.parent / "consent/maya.json"
    before = record.read_text()
    record.unlink()
    campaign.make_sample_campaign(brief_path.parent, note_consent)
    assert record.read_text() == before


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(FileExistsError, match="choose another folder"):
        campaign.make_sample_campaign(tmp_path, note_consent)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> template.Template:
        (folder / "half").write_text("half")
        raise OSError("no space")

    monkeypatch.setattr(template, "make_template", fail)
    with pytest.raises(OSError, match="no space"):
        campaign.make_sample_campaign(tmp_path / "campaign", note_consent)
    assert not list(tmp_path.iterdir())
