"""Measures a video as many studios would have delivered it: other light, zoom, rate and level."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from include.contracts.features import FeatureValue
from include.features.assets import template_features
from include.media.audio import read_own_wav
from include.media.decode import VideoReader
from include.media.normalise import normalise_template
from include.samples.shifts import export_video
from models.face.landmarks import FaceMesh

Values = dict[str, FeatureValue]


def measure_templates(
    source: Path, count: int, seed: int, shift: Sequence[str] = (), suffix: str = ".mp4"
) -> list[Values]:
    """Measure takes of a video as ``ingest_template``, ``track_face`` and ``measure_template`` do.

    Args:
        source: a video of ours, short: every frame of it is tracked.
        count: takes.
        seed: of how they were shot and exported.
        shift: ffmpeg's output options of another export over each of them: what drift is made of.
        suffix: of the container of that export.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        with tempfile.TemporaryDirectory(prefix="understudy-takes-") as folder:
            take = export_video(source, Path(folder) / "take.mp4", _honest(rng))
            if shift:
                take = export_video(take, Path(folder) / f"shifted{suffix}", shift)
            rows.append(_measured(take, Path(folder)))
    return rows


def _honest(rng: np.random.Generator) -> list[str]:
    """Options of an ordinary export of an ordinary take."""
    zoom = rng.uniform(1.0, 1.08)
    picture = (
        f"crop=iw/{zoom:.4f}:ih/{zoom:.4f},scale=2*trunc(iw*{zoom / 2:.4f}):-2,"
        f"eq=brightness={rng.normal(0, 0.012):.4f}:saturation={rng.normal(1, 0.04):.4f},"
        f"colortemperature=temperature={rng.normal(6500, 150):.0f},"
        f"noise=alls={rng.integers(1, 5)}:allf=t:all_seed={rng.integers(1 << 20)}"
    )
    sound = f"volume={rng.normal(-1.5, 0.7):.2f}dB"
    return ["-vf", picture, "-filter:a", sound, "-crf", str(rng.integers(15, 21))]


def _measured(video: Path, folder: Path) -> Values:
    out = folder / "out"
    out.mkdir()
    made = normalise_template(video, out)
    sound = read_own_wav(made.audio) if made.audio else None
    return template_features(video, made.video, sound, _track(made.video))


def _track(video: Path) -> NDArray[np.float32]:
    """The largest face's landmarks in every frame, float32 [frames, 478, 3], NaN without."""
    nobody = np.full((478, 3), np.nan, np.float32)
    with VideoReader(video) as reader, FaceMesh(video=True) as mesh:
        found = [mesh.detect(frame) for frame in reader.frames()]
    return np.stack([faces[0].points if faces else nobody for faces in found])
