"""Shifts injected into real media: hard rules refuse the absurd, drift sees the rest.

The photos are the sample people's, taken in many ways; each is changed, compressed and measured as
``measure_inputs`` does. The videos are takes of a face that speaks, exported, ingested, tracked and
measured as a template is. Rows for the statistics are drawn from what was measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from include.drift.compare import alpha_per_test, column_of, feature_of, judge
from include.errors import BadFace, BadInput
from include.expectations.suites import suite_of
from include.features.rules import broken, hard_rules
from include.media.audio import Audio
from include.samples import shifts
from include.samples.campaign import make_recipients
from include.samples.feature_rows import RowModel, measured_rows
from include.samples.measure_rows import measure_photos, measure_voices
from include.samples.measure_templates import measure_templates
from tests.support.clips import speaking_clip

pytestmark = pytest.mark.slow

REFERENCE, CURRENT, RUNS = 600, 200, 60
PHOTOS, VOICES, TAKES = 9, 8, 3


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    make_recipients(folder)
    return folder


def photos(samples: Path, change=lambda rgb: rgb, quality=(78, 95), count=PHOTOS):
    faces = sorted((samples / "faces").glob("*.jpg"))
    return measure_photos(faces, count, seed=11, change=change, quality=quality)


def power(kind, moved, feature_name, honest=None):
    """Share of runs in which the rule for a feature alarms on 200 shifted rows."""
    suite = suite_of(kind)
    rule = next(rule for rule in suite.drift if rule.feature == feature_name)
    feature, alpha = feature_of(suite, feature_name), alpha_per_test(rule, suite)
    before, after = RowModel.fit(kind, honest or measured_rows(kind)), RowModel.fit(kind, moved)
    only = {feature_name}
    ours = before.columns(1, REFERENCE * RUNS, only)[feature_name].reshape(RUNS, -1)
    theirs = after.columns(2, CURRENT * RUNS, only)[feature_name].reshape(RUNS, -1)
    found = [
        judge(rule, feature, alpha, column_of(feature, a), column_of(feature, b)).state
        for a, b in zip(ours, theirs, strict=True)
    ]
    return np.mean([state == "drifted" for state in found])


DRIFTS = {
    "hue": ({"change": lambda rgb: shifts.hue(rgb, 12)}, "skin_hue"),
    "white balance": ({"change": lambda rgb: shifts.white_balance(rgb, 0.15)}, "warmth"),
    "exposure": ({"change": lambda rgb: shifts.exposure(rgb, 0.7)}, "luma"),
    "aspect ratio": ({"change": lambda rgb: shifts.wider(rgb, 1.12)}, "aspect_ratio"),
    "focus": ({"change": lambda rgb: shifts.blurred(rgb, 1.6)}, "blur"),
    "noise": ({"change": lambda rgb: shifts.noisy(rgb, 8, 3)}, "noise"),
    "face size": ({"change": lambda rgb: shifts.farther(rgb, 1.5)}, "face_size"),
    "compression": ({"quality": (25, 40)}, "bits_per_pixel"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_a_shift_of_photos_is_detected_in_200_rows(samples, name):
    how, feature = DRIFTS[name]
    moved = photos(samples, **how)
    assert not any(broken(hard_rules("photo"), row) for row in moved), "drift, not a violation"
    assert power("photo", moved, feature) >= 0.95


@pytest.mark.parametrize(
    ("name", "change", "feature"),
    [
        ("loudness", lambda a: Audio(shifts.louder(a.samples, -9.0), a.rate), "loudness"),
        (
            "sample rate",
            lambda a: Audio(a.samples[::2].copy(), a.rate // 2),
            "sample_rate",
        ),
    ],
)
def test_a_shift_of_recordings_is_detected_in_200_rows(samples, name, change, feature):
    moved = measure_voices(samples / "audio" / "robin.wav", VOICES, seed=12, change=change)
    assert power("audio", moved, feature) >= 0.95


@pytest.mark.parametrize(
    ("kind", "feature", "value"),
    [
        ("template", "codec", "vp9"),
        ("template", "fps", 50.0),
        ("template", "pixel_format", "yuv422p"),
        ("audio", "codec", "mp3"),
        ("photo", "container", "webp"),
    ],
)
def test_a_new_form_of_file_is_detected_in_200_rows(kind, feature, value):
    moved = [dict(row) | {feature: value} for row in measured_rows(kind)]
    assert power(kind, moved, feature) >= 0.95


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speaking_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def honest(clip):
    """Templates as they always came."""
    rows = measure_templates(clip, TAKES, seed=14)
    assert [broken(hard_rules("template"), row) for row in rows] == [[]] * TAKES
    return rows


VIDEO_DRIFTS = {
    "hue": (("-vf", "hue=h=15"), "skin_hue"),
    "white balance": (("-vf", "colortemperature=temperature=5000"), "colour_temperature"),
    "aspect ratio": (("-vf", "scale=2*trunc(iw*0.45):ih,setsar=1"), "aspect_ratio"),
    "fps": (("-r", "12"), "fps"),
    "loudness": (("-filter:a", "volume=-6dB"), "loudness"),
    "codec": (("-c:v", "mpeg4", "-q:v", "3"), "codec"),
    "compression": (("-crf", "34"), "bits_per_pixel"),
    "face size": (shifts.VIDEO_SHIFTS["face_size"], "face_size"),
}


@pytest.mark.parametrize("name", VIDEO_DRIFTS)
def test_a_shift_of_templates_is_detected_in_200_rows(clip, honest, name):
    options, feature = VIDEO_DRIFTS[name]
    moved = measure_templates(clip, TAKES - 1, seed=15, shift=options)
    assert not any(broken(hard_rules("template"), row) for row in moved), "drift, not a violation"
    assert power("template", moved, feature, honest) >= 0.95


VIDEO_VIOLATIONS = {
    "hue": (("-vf", "hue=h=150"), "template-skin-hue"),
    "white balance": (("-vf", "colorchannelmixer=rr=1.8:bb=0.05"), "template-warmth"),
    "exposure": (("-vf", "eq=brightness=-0.7"), "template-light"),
    "aspect ratio": (("-vf", "scale=2*trunc(iw/8):ih,setsar=1"), "template-shape"),
    "fps": (("-r", "5"), "template-fps"),
    "loudness": (("-filter:a", "volume=-46dB"), "template-loudness"),
    "clipping": (("-filter:a", "volume=40dB"), "template-clipping"),
    "compression": (("-crf", "51", "-x264-params", "no-deblock=1"), "template-blocks"),
    "face size": (
        ("-vf", "scale=2*trunc(iw/10):-2,pad=320:240:(ow-iw)/2:(oh-ih)/2:gray"),
        "template-face-size",
    ),
}


@pytest.mark.parametrize("name", VIDEO_VIOLATIONS)
def test_hard_rules_catch_every_template_that_is_past_use(clip, name):
    options, rule = VIDEO_VIOLATIONS[name]
    (row,) = measure_templates(clip, 1, seed=16, shift=options)
    assert rule in [one.rule for one in broken(hard_rules("template"), row)]


def test_a_codec_that_is_past_use_is_refused_before_it_is_decoded(clip):
    with pytest.raises(BadInput, match="export it as"):
        measure_templates(clip, 1, seed=16, shift=("-c:v", "mjpeg", "-q:v", "3"), suffix=".mkv")


VIOLATIONS = {
    "hue": ({"change": lambda rgb: shifts.hue(rgb, 150)}, "photo-skin-hue"),
    "white balance": ({"change": lambda rgb: shifts.white_balance(rgb, 2.5)}, "photo-warmth"),
    "exposure": ({"change": lambda rgb: shifts.exposure(rgb, 0.06)}, "photo-light"),
    "aspect ratio": ({"change": lambda rgb: shifts.wider(rgb, 0.45)}, "photo-shape"),
    "compression": ({"quality": (1, 2)}, "photo-blocks"),
    "face size": ({"change": lambda rgb: shifts.farther(rgb, 5.5)}, "photo-face-size"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_hard_rules_catch_every_photo_that_is_past_use(samples, name):
    how, rule = VIOLATIONS[name]
    rejected = 0
    for row in one_by_one(samples, how):
        found = [one.rule for one in broken(hard_rules("photo"), row)] if row else ["no face"]
        assert found, row
        rejected += rule in found or row is None
    assert rejected == PHOTOS // 3, f"{rejected} by {rule}"


def one_by_one(samples, how):
    """Photos as measured; None where no usable face is left to measure."""
    faces = sorted((samples / "faces").glob("*.jpg"))
    for seed in range(PHOTOS // 3):
        try:
            (row,) = measure_photos(faces[seed % 3 : seed % 3 + 1], 1, seed=seed, **how)
        except BadFace:
            row = None
        yield row


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda a: Audio(shifts.louder(a.samples, -45.0), a.rate), "audio-loudness"),
        (lambda a: Audio(shifts.louder(a.samples, 30.0), a.rate), "audio-clipping"),
        (lambda a: Audio(a.samples[: a.rate // 8], a.rate), "audio-duration"),
    ],
)
def test_hard_rules_catch_every_recording_that_is_past_use(samples, change, rule):
    rows = measure_voices(samples / "audio" / "robin.wav", 2 * VOICES, seed=13, change=change)
    recorded = [row for row in rows if row["origin"] == "recording"]
    found = [{one.rule for one in broken(hard_rules("audio"), row)} for row in recorded]
    assert all(rule in rules for rules in found), found


def test_hard_rules_pass_every_ordinary_photo_and_recording(samples):
    rows = photos(samples)
    assert [broken(hard_rules("photo"), row) for row in rows] == [[]] * len(rows)
    for kind in ("photo", "audio", "template", "render"):
        measured = measured_rows(kind)
        assert [broken(hard_rules(kind), row) for row in measured] == [[]] * len(measured)
