"""``python -m include.samples.measure_rows``: measures the sample media, shot in many ways.

Photos: the three sample people under other light, white balance, distance, sharpness, noise, size
and compression. Voices: the recording and synthetic speech, at other levels and lengths. Templates:
seconds of the sample presenter, in takes. Renders: campaigns of such photos in short templates, all
stages. The result, ``feature_rows.json``, is what ``feature_rows`` is fitted to. Needs the worker's
environment.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from include.contracts.features import FeatureValue
from include.features.catalogue import FEATURES, Feature
from include.features.faces import count_faces, measure_face
from include.features.picture import measure_picture
from include.features.sound import measure_sound
from include.media.audio import Audio, read_recording
from include.samples import shifts
from include.samples.feature_rows import MEASURED
from include.samples.measure_renders import measure_renders
from include.samples.measure_templates import measure_templates
from include.samples.ready import SAMPLES
from include.samples.shifts import export_video
from models.face.geometry import interocular
from models.face.landmarks import FaceMesh
from models.face.quality import assess_photo
from models.speech.synthesis import synthesise

Image = NDArray[np.uint8]
Values = dict[str, FeatureValue]


def photo_values(rgb: Image, size: int, container: str, mesh: FaceMesh | None = None) -> Values:
    """The features of a photo as ``measure_inputs`` computes them.

    Args:
        rgb: uint8 [h, w, 3].
        size: of its file, bytes.
        container: of its file.
        mesh: a detector to reuse.
    """
    points = assess_photo(rgb, mesh).points
    height, width = rgb.shape[:2]
    return {
        "container": container,
        "width": float(width),
        "height": float(height),
        "aspect_ratio": width / height,
        "bits_per_pixel": 8 * size / (width * height),
        "face_count": count_faces(rgb, at_least=1),
        "eye_distance": interocular(points),
        **measure_picture(rgb),
        **measure_face(rgb, points),
    }


def measure_photos(
    faces: Iterable[Path],
    count: int,
    seed: int,
    change: Callable[[Image], Image] = lambda rgb: rgb,
    quality: tuple[int, int] = (78, 95),
) -> list[Values]:
    """Measure photos of the sample people.

    Args:
        faces: their photos.
        count: photos in all.
        seed: of how they are taken.
        change: done to every photo before it is compressed: what drift is made of.
        quality: lowest and highest JPEG quality.
    """
    rng = np.random.default_rng(seed)
    pictures = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in faces]
    rows = []
    with FaceMesh(max_faces=8) as mesh:
        for number in range(count):
            rgb = change(
                shifts.honest_photo(np.asarray(pictures[number % len(pictures)], np.uint8), rng)
            )
            level = int(rng.integers(quality[0], quality[1] + 1))
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, level])
            again = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
            rows.append(photo_values(np.asarray(again, np.uint8), len(data), "jpeg", mesh))
    return rows


def measure_voices(
    recording: Path, count: int, seed: int, change: Callable[[Audio], Audio] = lambda audio: audio
) -> list[Values]:
    """Measure voices: the recording in many takes, and speech of many voices.

    Args:
        recording: a sound file with speech.
        count: voices in all; every second one is synthesised.
        seed: of levels, lengths, rates and pitches.
        change: done to every recording: what drift is made of.
    """
    rng = np.random.default_rng(seed)
    audio, facts = read_recording(recording)
    rows: list[Values] = []
    for number in range(count):
        if number % 2:
            speech = synthesise(
                SAID[int(rng.integers(len(SAID)))],
                rate_wpm=int(rng.integers(140, 180)),
                pitch=int(rng.integers(35, 70)),
            )
            samples = speech.samples.astype(np.float32)[:, None] / 32768.0
            take = Audio(samples, speech.sample_rate)
            row: Values = {"origin": "synthesis", "container": "none", "codec": "none"}
        else:
            take = change(_take(audio, rng))
            row = {"origin": "recording", "container": facts.container, "codec": facts.codec}
        row |= {
            "sample_rate": float(take.rate),
            "channels": float(take.samples.shape[1]),
            "duration": take.duration_s,
        }
        rows.append(row | dict(measure_sound(take)))
    return rows


SAID = (
    "Hello there, this is for you.",
    "Hi, it is good to see you again. Come and see what is new this spring.",
    "We kept a seat for you. Will you come on Saturday?",
    "Thank you for being with us all these years.",
)


def _take(audio: Audio, rng: np.random.Generator) -> Audio:
    """Another take of a recording: its level, the pause around it, the noise of the room."""
    samples = shifts.louder(audio.samples, float(rng.normal(-2.0, 1.5)))
    before, after = (int(audio.rate * rng.uniform(0.0, 0.5)) for _ in range(2))
    room = np.pad(samples, ((before, after), (0, 0)))
    hiss = rng.normal(0, 10 ** (rng.uniform(-75, -60) / 20), room.shape).astype(np.float32)
    return Audio(np.clip(room + hiss, -1, 1).astype(np.float32), audio.rate)


def presenter_takes(video: Path, count: int) -> list[Values]:
    """Measure takes of a second of the sample template, in which its presenter is seen."""
    with tempfile.TemporaryDirectory(prefix="understudy-presenter-") as folder:
        part = ("-ss", "3", "-t", "1.2", "-vf", "scale=480:-2")
        return measure_templates(export_video(video, Path(folder) / "part.mp4", part), count, 3)


def main(argv: list[str] | None = None) -> int:
    """Measure; write ``feature_rows.json``, in which kinds that were not measured stay."""
    parser = argparse.ArgumentParser(prog="python -m include.samples.measure_rows")
    parser.add_argument("--samples", type=Path, default=SAMPLES, help="the sample campaign")
    parser.add_argument("--photos", type=int, default=120)
    parser.add_argument("--voices", type=int, default=60)
    parser.add_argument("--templates", type=int, default=12)
    parser.add_argument("--renders", type=int, default=15, help="of each shape of template")
    parser.add_argument("--kinds", nargs="+", choices=FEATURES, default=list(FEATURES))
    args = parser.parse_args(argv)
    old = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.exists() else {}
    how: dict[str, Callable[[], list[Values]]] = {
        "photo": lambda: measure_photos(
            sorted((args.samples / "faces").glob("*.jpg")), args.photos, seed=1
        ),
        "audio": lambda: measure_voices(args.samples / "audio/robin.wav", args.voices, seed=2),
        "template": lambda: presenter_takes(args.samples / "media/presenter.mp4", args.templates),
        "render": lambda: measure_renders(args.renders, seed=4),
    }
    found = {
        kind: (measure() if kind in args.kinds else []) or old.get(kind, [])
        for kind, measure in how.items()
    }
    lines = [f' "{kind}": [\n' + _lines(kind, rows) + "\n ]" for kind, rows in found.items()]
    MEASURED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


def _lines(kind: str, rows: list[Values]) -> str:
    features: tuple[Feature, ...] = FEATURES[kind]  # type: ignore[index]
    shaped = ({f.name: _rounded(row.get(f.name)) for f in features} for row in rows)
    return ",\n".join("  " + json.dumps(row) for row in shaped)


def _rounded(value: FeatureValue) -> FeatureValue:
    return float(f"{value:.5g}") if isinstance(value, float) else value


if __name__ == "__main__":
    raise SystemExit(main())
