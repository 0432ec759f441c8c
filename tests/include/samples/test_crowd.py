"""Campaigns to measure: shapes are what was asked for, and nobody shares an artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.linear import planned_rows
from include.media.decode import VideoReader
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign, with_comment
from include.samples.golden import make_golden
from include.settings import Settings
from models.face.landmarks import FaceMesh
from models.face.quality import assess_photo
from tests.support.tiny import hopper


def test_a_comment_changes_a_photos_bytes_and_none_of_its_pixels() -> None:
    jpeg = cv2.imencode(".jpg", hopper())[1].tobytes()
    other = with_comment(jpeg, "r0007")
    assert other != jpeg
    one, two = (cv2.imdecode(np.frombuffer(data, np.uint8), 1) for data in (jpeg, other))
    assert np.array_equal(one, two)
    with pytest.raises(ValueError, match="JPEG"):
        with_comment(b"GIF89a", "x")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Settings, Shape]:
    root = tmp_path_factory.mktemp("campaign")
    settings = Settings.from_env().with_store(str(root / "store"))
    settings = replace(settings, roots=(*settings.roots, root), shard_size=7)
    shape = Shape(0.15, 0.6, (480, 270), 0.8)
    return make_campaign(root / "made", settings, 7, shape=shape), settings, shape


@pytest.mark.slow
def test_every_recipient_is_accepted_and_shares_no_key_with_another(campaign) -> None:
    brief, settings, _ = campaign
    plan = plan_campaign(str(brief), settings)
    assert not plan.rejects
    rows = [row for _, row in planned_rows(plan)]
    assert len(rows) == 7
    for artifact in rows[0].materials:
        assert len({row.key(artifact) for row in rows}) == 7, artifact


@pytest.mark.slow
def test_a_template_has_the_face_size_and_the_time_on_screen_that_were_asked_for(campaign) -> None:
    brief, _, shape = campaign
    areas = []
    with (
        VideoReader(brief.parent / "media/presenter.mp4") as reader,
        FaceMesh(video=False) as mesh,
    ):
        assert reader.facts.size == shape.size
        for frame in reader.frames():
            faces = mesh.detect(frame)
            boxes = [face.box for face in faces]
            areas.append(max(((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes), default=0))
    shown = [area / (shape.size[0] * shape.size[1]) for area in areas if area]
    assert len(areas) == 20
    assert len(shown) == 12
    assert np.median(shown) == pytest.approx(shape.face_share, rel=0.15)


@pytest.mark.slow
def test_the_golden_campaign_is_made_once_and_nobody_in_it_is_refused(tmp_path: Path) -> None:
    settings = Settings.from_env().with_store(str(tmp_path / "store"))
    settings = replace(settings, roots=(*settings.roots, tmp_path))
    brief = make_golden(tmp_path / "golden/campaign", settings)
    faces = sorted((brief.parent / "faces").iterdir())
    assert len({face.read_bytes() for face in faces}) == 12
    before = brief.stat().st_mtime_ns
    assert make_golden(tmp_path / "golden/campaign", settings) == brief
    assert brief.stat().st_mtime_ns == before
    assert not plan_campaign(str(brief), settings).rejects
    with FaceMesh(video=False) as mesh:
        for face in faces:
            assess_photo(cv2.cvtColor(cv2.imread(str(face)), cv2.COLOR_BGR2RGB), mesh)
