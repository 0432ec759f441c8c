"""A campaign small enough for tests and real all the same: real faces, real speech, real codecs.

The template is scikit-image's astronaut, moved a little from frame to frame behind a title card;
the recipient is matplotlib's Grace Hopper. Both portraits are in the public domain.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import imageio_ffmpeg
import numpy as np
import yaml

from include.consent import dump_consent, issue_consent, row_scope
from include.settings import PROJECT, Settings

FPS = 10
CARD, FACE = 3, 15
SIZE = (320, 240)
COLUMNS = ("id", "face", "audio", "script", "consent", "locale", "voice", "name")


def astronaut():
    from skimage import data

    return np.ascontiguousarray(data.astronaut())


def hopper():
    folder = Path(importlib.util.find_spec("matplotlib").origin).parent
    bgr = cv2.imread(str(folder / "mpl-data/sample_data/grace_hopper.jpg"))
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def write_photo(path: Path, rgb) -> Path:
    cv2.imwrite(str(path), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return path


def template_frames():
    """Title card, then the face, drifting by fractions of a pixel."""
    card = np.full((SIZE[1], SIZE[0], 3), (28, 40, 66), np.uint8)
    cv2.putText(card, "SALE", (90, 140), cv2.FONT_HERSHEY_DUPLEX, 2, (240, 240, 240), 3)
    yield from [card] * CARD
    still = astronaut()[0:330, 30:470]
    for number in range(FACE):
        move = np.float32([[0.72, 0, 1.5 * np.sin(number / 3)], [0, 0.72, np.cos(number / 4)]])
        yield cv2.warpAffine(still, move, SIZE, flags=cv2.INTER_AREA)


def write_video(path: Path, frames, fps: int = FPS, *more: str) -> Path:
    height, width = (frames := list(frames))[0].shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, codec="libx264", pix_fmt_out="yuv420p",
        macro_block_size=1, output_params=["-crf", "14", "-threads", "1", *more],
    )  # fmt: skip
    writer.send(None)
    for frame in frames:
        writer.send(np.ascontiguousarray(frame))
    writer.close()
    return path


@dataclass
class Tiny:
    """A campaign's folder; change it, write it, plan it."""

    root: Path
    settings: Settings
    brief: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return self.root / "brief.yaml"

    def add(
        self, ident: str, photo, script: str = "Hi {name}.", name: str = "Eve", **more: str
    ) -> None:
        """Add a row; the photo is an RGB array, or bytes for a file that is none."""
        path = self.root / f"{ident}.jpg"
        if isinstance(photo, bytes):
            path.write_bytes(photo)
        else:
            write_photo(path, photo)
        row = dict.fromkeys(COLUMNS, "")
        row |= {"id": ident, "face": path.name, "script": script, "name": name, "locale": "en-US"}
        row |= {"consent": f"{ident}.json", **more}
        audio = self.root / row["audio"] if row["audio"] else None
        scope = row_scope(speaks=True, recorded=audio is not None)
        self.consent(row["consent"], path, scope, audio)
        self.rows.append(row)

    def consent(self, name: str, face: Path, scope: set[str], audio: Path | None = None) -> None:
        record = issue_consent(
            tenant="acme",
            subject=name,
            scope=scope,
            face_sha256=digest(face),
            audio_sha256=digest(audio) if audio and audio.exists() else None,
            keys=self.settings.state / "consent",
        )
        (self.root / name).write_bytes(dump_consent(record))

    def write(self) -> Path:
        video = self.root / self.brief["template"]["video"]
        if video.exists():
            self.consent("presenter.json", video, {"template"})
        self.path.write_text(yaml.safe_dump(self.brief))
        with (self.root / "recipients.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        return self.path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tiny_settings(root: Path) -> Settings:
    return Settings(
        store=str(root / "store"),
        state=root / "state",
        roots=(root,),
        worker_python=PROJECT / ".venv/worker/bin/python",
        nudity_python=PROJECT / ".venv/nudity/bin/python",
    )


def tiny_environment(root: Path) -> dict[str, str]:
    """The same settings as environment variables, for the stage processes."""
    settings = tiny_settings(root)
    return {
        "UNDERSTUDY_STORE": settings.store,
        "UNDERSTUDY_STATE": str(settings.state),
        "UNDERSTUDY_ROOTS": str(root),
        "UNDERSTUDY_NUDITY_PYTHON": str(settings.nudity_python),
    }


def make_tiny(root: Path) -> Tiny:
    """The campaign with its template and one good row, ``eve``, not written yet."""
    folder = root / "campaign"
    folder.mkdir(parents=True)
    tiny = Tiny(folder, tiny_settings(root))
    write_video(folder / "ad.mp4", template_frames())
    tiny.brief = {
        "campaign": "tiny",
        "tenant": "acme",
        "template": {"video": "ad.mp4", "consent": "presenter.json"},
        "voice": {"at": "0.3s"},
        "recipients": "recipients.csv",
        "policy": {"min_success_ratio": 0.1},
    }
    tiny.add("eve", hopper())
    return tiny
