"""Shifts in whole files: each moves the features that are meant to see it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from include.features.assets import Values, audio_features, photo_features, template_features
from include.features.catalogue import feature_names
from include.media.audio import read_own_wav, read_recording, write_wav
from include.media.ffmpeg_process import GLOBAL_ARGUMENTS, ffmpeg_binary, run_ffmpeg
from include.media.images import load_photo
from include.media.normalise import normalise_template
from include.samples import shifts
from models.face.landmarks import FaceMesh
from tests.models.portraits import hopper
from tests.support.clips import speaking_clip, voice

pytestmark = pytest.mark.slow

FPS = 25


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a face that moves, with somebody speaking."""
    return speaking_clip(tmp_path_factory.mktemp("clip"), FPS, (480, 360))


def measured(video: Path, folder: Path) -> Values:
    folder.mkdir(exist_ok=True)
    made = normalise_template(video, folder)
    sound = read_own_wav(made.audio) if made.audio else None
    points = np.full((made.clip.frames, 478, 3), np.nan, np.float32)
    return template_features(video, made.video, sound, points)


@pytest.fixture(scope="module")
def plain(clip: Path) -> Values:
    return measured(clip, clip.parent / "plain")


def test_a_template_without_a_track_has_all_features_and_no_face(plain: Values) -> None:
    assert set(plain) == set(feature_names("template"))
    assert plain["face_count"] == plain["face_share"] == 0
    assert plain["face_size"] is None
    assert plain["speech_present"] is True


MOVED = {
    "hue": [("tint", 2)],
    "white_balance": [("colour_temperature", -800), ("warmth", 5)],
    "exposure": [("luma", -15)],
    "saturation": [("saturation", 0.1)],
    "aspect_ratio": [("aspect_ratio", -0.3), ("width", -100)],
    "letterbox": [("letterbox", 0.15)],
    "blur": [("blur", 0.15)],
    "noise": [("noise", 4)],
    "fps": [("fps", -12)],
    "compression": [("bits_per_pixel", -0.02), ("blockiness", 0.05)],
    "loudness": [("loudness", -13), ("true_peak", -10)],
    "clipping": [("loudness", 5), ("clipping", 0.005)],
    "sample_rate": [("sample_rate", -20_000)],
}
NAMED = {
    "codec": {"codec": "vp9", "container": "matroska"},
    "pixel_format": {"pixel_format": "yuv444p"},
    "colour_range": {"colour_range": "pc"},
    "silent": {"audio_codec": "none", "loudness": None, "speech_present": None},
}


def test_every_shift_of_a_video_is_tried() -> None:
    needs_a_track = {"face_size"}  # see tests/include/drift/test_injected_shifts.py
    assert set(shifts.VIDEO_SHIFTS) - needs_a_track == set(MOVED) | set(NAMED)


@pytest.mark.parametrize("name", [*MOVED, *NAMED])
def test_a_shift_of_a_video_moves_its_features(
    name: str, clip: Path, plain: Values, tmp_path: Path
) -> None:
    suffix = "mkv" if name == "codec" else "mp4"
    found = measured(shifts.shift_video(clip, tmp_path / f"x.{suffix}", name), tmp_path / "out")
    for feature, least in MOVED.get(name, ()):
        moved = float(found[feature]) - float(plain[feature])
        if name == "hue":  # the direction depends on the picture
            moved = float(np.hypot(moved, float(found["warmth"]) - float(plain["warmth"])))
        assert moved * np.sign(least) >= abs(least), (feature, plain[feature], found[feature])
    for feature, value in NAMED.get(name, {}).items():
        assert found[feature] == value
        assert plain[feature] != value


def photo(path: Path) -> Values:
    rgb = load_photo(path)
    with FaceMesh(max_faces=1) as mesh:
        return photo_features(path, rgb, mesh.detect(rgb)[0].points)


def test_compression_and_face_size_of_a_photo_are_seen(tmp_path: Path) -> None:
    plain = photo(shifts.write_jpeg(tmp_path / "a.jpg", hopper(), 95))
    crushed = photo(shifts.write_jpeg(tmp_path / "b.jpg", hopper(), 12))
    away = photo(shifts.write_jpeg(tmp_path / "c.jpg", shifts.farther(hopper(), 2), 95))
    wide = photo(shifts.write_jpeg(tmp_path / "d.jpg", shifts.wider(hopper(), 1.4), 95))
    assert set(plain) == set(feature_names("photo"))
    assert crushed["bits_per_pixel"] < 0.2 * plain["bits_per_pixel"]
    assert crushed["blockiness"] > plain["blockiness"] + 0.5
    assert away["face_size"] == pytest.approx(plain["face_size"] / 2, rel=0.1)
    assert away["eye_distance"] == pytest.approx(plain["eye_distance"] / 2, rel=0.1)
    assert wide["aspect_ratio"] == pytest.approx(1.4 * plain["aspect_ratio"], rel=0.01)


def test_a_voice_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "voice.wav"
    write_wav(path, voice())
    recording = audio_features(*read_recording(path))
    assert set(recording) == set(feature_names("audio"))
    assert (recording["origin"], recording["container"]) == ("recording", "wav")
    assert (recording["codec"], recording["sample_rate"]) == ("pcm_s16le", 22050)
    assert audio_features(voice(), None)["origin"] == "synthesis"
    none = audio_features(None, None)
    assert none["origin"] == "none"
    assert none["duration"] is none["sample_rate"] is none["loudness"] is None


def test_another_codec_of_a_recording_is_seen(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", voice())
    out = tmp_path / "a.mp3"
    command = [ffmpeg_binary(), *GLOBAL_ARGUMENTS, "-i", str(tmp_path / "a.wav"), str(out)]
    run_ffmpeg(command, "encoding", out)
    found = audio_features(*read_recording(out))
    assert found["container"] == "mp3"
    assert "mp3" in str(found["codec"])
