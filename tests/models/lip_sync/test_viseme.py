from __future__ import annotations

import numpy as np
import pytest

from models.lip_sync import BACKENDS, sync
from models.lip_sync.curves import MouthCurves, mouth_curves
from models.lip_sync.viseme import (
    MouthModel,
    Reference,
    VisemeRenderer,
    analyse_mouth,
    mouth_window,
)
from models.speech.synthesis import Speech, synthesise

LINE = "Buy a pair for Bob. Mum may be happy, papa too."


def build(shot) -> tuple[MouthModel, VisemeRenderer]:
    model = analyse_mouth(shot.points)
    pick = model.reference_index
    return model, VisemeRenderer(model, Reference(shot.frames[pick], shot.points[pick]))


def commands(speech: Speech, count: int) -> MouthCurves:
    return mouth_curves(speech.phonemes, count, 25)


def test_the_rendered_mouth_follows_its_command(closed_shot, track):
    speech = synthesise(LINE, voice="female")
    count = len(closed_shot.frames)
    curves = commands(speech, count)
    _, renderer = build(closed_shot)
    rendered = [
        renderer.render(frame, i, float(curves.open[i]), float(curves.width[i]))[0]
        for i, frame in enumerate(closed_shot.frames)
    ]
    found = sync.score(track(rendered), curves, speech.phonemes)
    assert found.openness > 0.95
    assert found.width > 0.6
    assert abs(found.lag) < 0.02
    assert found.bilabials >= 8
    assert found.closure >= 0.9


@pytest.mark.parametrize("shot_name", ["closed_shot", "smiling_shot"])
def test_outside_the_mask_the_picture_is_the_frame_bit_for_bit(shot_name, request):
    shot = request.getfixturevalue(shot_name)
    _, renderer = build(shot)
    for opening, width in ((0.0, 0.0), (1.0, 0.0), (0.4, -1.0), (0.3, 1.0)):
        picture, mask = renderer.render(shot.frames[5], 5, opening, width)
        assert picture.dtype == np.uint8
        assert picture.shape == shot.frames[5].shape
        assert mask.shape == picture.shape[:2]
        assert (mask > 0).any()
        assert np.array_equal(picture[mask == 0], shot.frames[5][mask == 0])


def test_the_window_holds_every_changed_pixel_and_is_even(closed_shot):
    curves = commands(synthesise(LINE), len(closed_shot.frames))
    model, renderer = build(closed_shot)
    window = mouth_window(model, curves, closed_shot.size)
    assert window is not None
    assert all(value % 2 == 0 for value in (window.x, window.y, window.w, window.h))
    assert window.w * window.h < 0.4 * closed_shot.size[0] * closed_shot.size[1]
    for i in range(0, len(closed_shot.frames), 9):
        _, mask = renderer.render(
            closed_shot.frames[i], i, float(curves.open[i]), float(curves.width[i])
        )
        mask[window.slice()] = 0
        assert not mask.any()


def test_a_window_of_the_frame_gives_the_same_pixels_as_the_frame(closed_shot):
    model, renderer = build(closed_shot)
    curves = MouthCurves(np.full(1, 1.0, np.float32), np.full(1, -1.0, np.float32), 25)
    window = mouth_window(model, curves, closed_shot.size)
    assert window is not None
    window = window.dilate(8, closed_shot.size)
    whole, _ = renderer.render(closed_shot.frames[0], 0, 1.0, -1.0)
    part, _ = renderer.render(
        np.ascontiguousarray(closed_shot.frames[0][window.slice()]),
        0,
        1.0,
        -1.0,
        origin=(window.x, window.y),
    )
    assert np.abs(whole[window.slice()].astype(int) - part.astype(int)).max() <= 1


def test_rendering_keeps_no_history(closed_shot):
    _, renderer = build(closed_shot)
    first, _ = renderer.render(closed_shot.frames[7], 7, 0.8, 0.2)
    for i in (3, 9, 1):
        renderer.render(closed_shot.frames[i], i, 0.1 * i, -0.5)
    again, _ = renderer.render(closed_shot.frames[7], 7, 0.8, 0.2)
    _, other = build(closed_shot)
    fresh, _ = other.render(closed_shot.frames[7], 7, 0.8, 0.2)
    assert np.array_equal(first, again)
    assert np.array_equal(first, fresh)


def test_the_input_frame_is_not_touched(closed_shot):
    _, renderer = build(closed_shot)
    before = closed_shot.frames[2].copy()
    renderer.render(closed_shot.frames[2], 2, 1.0, 0.0)
    assert np.array_equal(before, closed_shot.frames[2])


def test_an_open_mouth_shows_a_dark_inside_with_lighter_teeth_above(closed_shot):
    _, renderer = build(closed_shot)
    picture, mask = renderer.render(closed_shot.frames[0], 0, 1.0, 0.0)
    luma = picture.astype(float) @ np.array([0.299, 0.587, 0.114])
    points = closed_shot.points[0]
    lip, eye = points[13, :2], np.linalg.norm(points[33, :2] - points[263, :2])
    x = round(float(lip[0] + 0.03 * eye))
    column = luma[round(float(lip[1])) : round(float(lip[1] + 0.14 * eye)), x]
    assert column.min() < 0.45 * luma[mask == 0].mean()
    assert column.max() > 1.5 * column.min()


def test_a_smile_lends_its_own_teeth(smiling_shot):
    model, _ = build(smiling_shot)
    assert model.has_bank


def test_a_closed_mouth_has_nothing_to_lend(closed_shot):
    model, _ = build(closed_shot)
    assert not model.has_bank


def test_a_frame_without_a_face_passes_unchanged(closed_shot):
    points = closed_shot.points[:10].copy()
    points[4] = np.nan
    model = analyse_mouth(points)
    renderer = VisemeRenderer(
        model, Reference(closed_shot.frames[model.reference_index], points[model.reference_index])
    )
    picture, mask = renderer.render(closed_shot.frames[4], 4, 1.0, 0.0)
    assert np.array_equal(picture, closed_shot.frames[4])
    assert not mask.any()


def test_a_face_off_the_frame_passes_unchanged(closed_shot):
    _, renderer = build(closed_shot)
    corner = np.ascontiguousarray(closed_shot.frames[0][:40, :40])
    picture, mask = renderer.render(corner, 0, 1.0, 0.0)
    assert np.array_equal(picture, corner)
    assert not mask.any()


def test_a_face_cut_by_the_frame_edge_is_rendered(closed_shot):
    cut = int(closed_shot.points[0, 14, 1]) + 6
    frame = np.ascontiguousarray(closed_shot.frames[0][:cut])
    _, renderer = build(closed_shot)
    picture, mask = renderer.render(frame, 0, 1.0, 0.0)
    assert mask.any()
    assert np.array_equal(picture[mask == 0], frame[mask == 0])


def test_a_shot_without_any_face_is_refused():
    with pytest.raises(ValueError, match="no frame"):
        analyse_mouth(np.full((3, 478, 3), np.nan, np.float32))


def test_a_one_frame_shot_can_be_rendered(closed_shot):
    model = analyse_mouth(closed_shot.points[:1])
    renderer = VisemeRenderer(model, Reference(closed_shot.frames[0], closed_shot.points[0]))
    picture, mask = renderer.render(closed_shot.frames[0], 0, 0.7, 0.0)
    assert mask.any()
    assert not np.array_equal(picture, closed_shot.frames[0])


def test_the_backend_declares_itself():
    backend = BACKENDS["viseme"]
    assert (backend.stage, backend.name) == ("lip_sync", "viseme")
    assert backend.limits
