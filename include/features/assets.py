"""The features of what comes in: a template, a photo, a voice; from files that were checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from include.contracts.features import FeatureValue
from include.features.faces import FACE_FIGURES, count_faces, measure_face, no_face
from include.features.frames import spread
from include.features.picture import letterbox, measure_picture, median_of
from include.features.sound import measure_sound
from include.media.audio import Audio
from include.media.decode import VideoReader
from include.media.pixels import U8
from include.media.probe import AudioFacts, VideoFacts, check_image, probe_video
from models.face.geometry import Points, interocular

Values = dict[str, FeatureValue]

PICTURES, FACES = 12, 6
"""Sampled frames of a template: of all of it, and of those with the presenter's face."""


def template_features(source: Path, mezzanine: Path, sound: Audio | None, points: Points) -> Values:
    """Measure a template: container facts as it came, all else of what it was normalised to.

    Args:
        source: the file that came; opened in a limited process only.
        mezzanine: what ``normalise_template`` made of its pictures.
        sound: what it made of its sound, if it has any.
        points: float32 [frames, 478, 3], the presenter's track, NaN where there is no face.

    Raises:
        BadMedia: as ``probe_video``.
    """
    facts = probe_video(source)
    values = _container(facts, source.stat().st_size)
    with VideoReader(mezzanine) as reader:
        frames = [_frame(reader, index) for index in spread(len(points), PICTURES)]
        values |= median_of(map(measure_picture, frames))
        values["letterbox"] = letterbox(frames)
        values |= _presenter(reader, points)
    rate = None if facts.audio_rate is None else float(facts.audio_rate)
    values |= {"audio_codec": facts.audio_codec or "none", "sample_rate": rate}
    return values | measure_sound(sound)


def _container(facts: VideoFacts, size: int) -> Values:
    stretch = float(facts.sample_aspect_ratio)
    if facts.rotation in (90, 270):  # the ratio is that of a pixel as stored
        stretch = 1 / stretch
    return {
        "container": facts.container,
        "codec": facts.codec,
        "width": float(facts.width),
        "height": float(facts.height),
        "aspect_ratio": facts.width * stretch / facts.height,
        "fps": float(facts.fps),
        "variable_frame_rate": facts.vfr,
        "duration": facts.duration_s,
        "bits_per_pixel": 8 * size / (facts.width * facts.height * facts.frames),
        "pixel_format": facts.pix_fmt,
        "colour_primaries": facts.primaries or "undeclared",
        "colour_range": facts.color_range or "undeclared",
    }


def _presenter(reader: VideoReader, points: Points) -> Values:
    seen = np.flatnonzero(~np.isnan(points[:, 0, 0]))
    measured, counts = [], [0.0]
    for index in seen[spread(len(seen), FACES)] if len(seen) else ():
        frame = _frame(reader, int(index))
        measured.append(measure_face(frame, points[index]))
        counts.append(count_faces(frame, at_least=1))
    figures = median_of(measured) if measured else no_face()
    face: Values = {name: figures[name] for name in FACE_FIGURES}
    return face | {"face_count": max(counts), "face_share": len(seen) / len(points)}


def _frame(reader: VideoReader, index: int) -> U8:
    return next(reader.frames(index, index + 1))


def photo_features(source: Path, photo: U8, points: Points) -> Values:
    """Measure a photo.

    Args:
        source: the file that came; only its first bytes and its size are looked at.
        photo: uint8 RGB [h, w, 3] as ``load_photo`` decoded it.
        points: float32 [478, 3], the face's landmarks in pixels of it.
    """
    height, width = photo.shape[:2]
    return {
        "container": check_image(source),
        "width": float(width),
        "height": float(height),
        "aspect_ratio": width / height,
        "bits_per_pixel": 8 * source.stat().st_size / (width * height),
        "face_count": count_faces(photo, at_least=1),
        "eye_distance": interocular(points),
        **measure_picture(photo),
        **measure_face(photo, points),
    }


def audio_features(audio: Audio | None, recording: AudioFacts | None) -> Values:
    """Measure a voice.

    Args:
        audio: what is to be heard; None when the row does not speak.
        recording: facts of the file that it was read from; None for synthetic speech.
    """
    channels = None if audio is None else audio.samples.shape[1]
    if recording is not None:
        channels = recording.channels  # more than two were mixed down
    origin = "none" if audio is None else "synthesis" if recording is None else "recording"
    values: Values = {
        "origin": origin,
        "container": recording.container if recording else "none",
        "codec": recording.codec if recording else "none",
        "sample_rate": None if audio is None else float(audio.rate),
        "channels": None if channels is None else float(channels),
        "duration": None if audio is None else audio.duration_s,
    }
    return values | measure_sound(audio)
