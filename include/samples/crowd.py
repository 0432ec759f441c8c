"""Campaigns of the sample's people, any number of them, in templates of chosen shape.

Nothing is shared between recipients: each has a photo with other bytes and a line of their own, so
that no artifact of one is another's. Unless photos are taken again, pixels and lengths stay those
of the sample's three people.
"""

from __future__ import annotations

import csv
import shutil
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from include.consent import row_scope
from include.media.decode import VideoReader
from include.media.encode import DeliveryWriter
from include.media.pixels import rgb_to_yuv420
from include.samples import cards
from include.samples import template as sample
from include.samples.consents import write_consent
from include.samples.ready import SAMPLES, TENANT, make_ready
from include.settings import Settings
from include.table import read_table
from models.face.landmarks import FaceMesh

Image = NDArray[np.uint8]

NAMES = ("Maya", "Robin", "Lena", "Ines", "Oskar", "Clara", "Jonas", "Nadia", "Felix", "Elena")


@dataclass(frozen=True)
class Shape:
    """What a template looks like."""

    face_share: float
    """The face's share of the frame, as ``track_face`` measures it."""
    on_screen: float
    """Share of the frames that show the presenter."""
    size: tuple[int, int]
    """(width, height), both even."""
    seconds: float


def make_campaign(
    folder: Path,
    settings: Settings,
    recipients: int,
    *,
    shape: Shape | None = None,
    upscaler: str = "auto",
    photo: Callable[[bytes], bytes] = lambda jpeg: jpeg,
) -> Path:
    """Write a campaign with its media and consents.

    Args:
        folder: a new folder below one of the configured roots.
        settings: says where the development consent key is.
        recipients: how many rows.
        shape: of a template made from the sample's presenter; None takes the sample as it is.
        upscaler: as in ``output.upscaler`` of a brief.
        photo: makes a row's photo out of a sample person's: JPEG in, JPEG out.

    Returns:
        The brief's path.

    Raises:
        ValueError: more recipients than there are different lines to say.
    """
    if recipients > 3 * len(NAMES) * (len(NAMES) + 1):
        raise ValueError(f"{recipients} recipients would not all have a line of their own")
    brief = yaml.safe_load(make_ready(SAMPLES, settings).read_text(encoding="utf-8"))
    shutil.copytree(SAMPLES / "media", folder / "media")
    if shape is not None:
        make_template(SAMPLES / "media/presenter.mp4", folder / "media/presenter.mp4", shape)
        brief["voice"] = {"at": 0, "longer": "trim"}
    brief["output"] = {"scale": 2, "upscaler": upscaler}
    brief["policy"]["min_success_ratio"] = 1.0
    presenter = folder / "media/presenter.mp4"
    write_consent(
        folder / brief["template"]["consent"], TENANT, {"template"}, presenter, None, settings
    )
    people = [_person(folder, settings, number, photo) for number in range(recipients)]
    with (folder / brief["recipients"]).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(people[0]))
        writer.writeheader()
        writer.writerows(people)
    path = folder / "brief.yaml"
    path.write_text(yaml.safe_dump(brief, allow_unicode=True), encoding="utf-8")
    return path


def _person(
    folder: Path, settings: Settings, number: int, photo: Callable[[bytes], bytes]
) -> dict[str, str]:
    """Write one recipient's media and consent; returns the cells of the row by column."""
    known = read_table((SAMPLES / "recipients.csv").read_bytes(), "recipients.csv").rows
    like = known[number % len(known)]
    ident, name = f"r{number:04}", NAMES[number % len(NAMES)]
    again = number // (len(NAMES) * len(known))  # by then every name has spoken every line
    if again:
        name = f"{name} {NAMES[again - 1]}"
    face = folder / f"faces/{ident}.jpg"
    face.parent.mkdir(exist_ok=True)
    face.write_bytes(with_comment(photo((SAMPLES / like.face).read_bytes()), ident))
    audio = ""
    if like.audio:
        audio = f"audio/{ident}.wav"
        (folder / "audio").mkdir(exist_ok=True)
        _longer_by(SAMPLES / like.audio, folder / audio, number)
    consent = f"consent/{ident}.json"
    voice = folder / audio if audio else None
    scope = row_scope(speaks=True, recorded=bool(audio))
    write_consent(folder / consent, TENANT, scope, face, voice, settings)
    script = like.script or ""
    if not audio:  # what a recording says stays what it says
        script = script.replace(_name_of(like.id), name)
    return {
        "id": ident,
        "face": f"faces/{ident}.jpg",
        "audio": audio,
        "script": script,
        "consent": consent,
        "locale": like.locale,
        "voice": like.voice or "",
    }


def _name_of(ident: str) -> str:
    return ident.capitalize()


def with_comment(jpeg: bytes, text: str) -> bytes:
    """The same picture in other bytes: a JPEG with a comment segment after its first marker.

    Raises:
        ValueError: it is no JPEG.
    """
    if jpeg[:2] != b"\xff\xd8":
        raise ValueError("not a JPEG")
    body = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def _longer_by(source: Path, target: Path, samples: int) -> None:
    """Copy a recording with some samples of silence at its end."""
    with wave.open(str(source), "rb") as sound, wave.open(str(target), "wb") as out:
        out.setparams(sound.getparams())
        out.writeframes(sound.readframes(sound.getnframes()))
        out.writeframes(bytes(sound.getnchannels() * sound.getsampwidth() * samples))


def make_template(presenter: Path, target: Path, shape: Shape) -> Path:
    """Make a template of a chosen shape out of the sample's presenter.

    The presenter is cropped or zoomed to the wanted size of the face and speaks first; then comes
    the sample's product shot, which moves in every frame, so that no frame repeats another.

    Args:
        presenter: the sample's template.
        target: the MP4 to write.
        shape: of the template.
    """
    total = round(shape.seconds * sample.FPS)
    speaking = max(1, round(total * shape.on_screen))
    target.unlink(missing_ok=True)
    cuts = (0, speaking) if speaking < total else (0,)
    with DeliveryWriter(
        target, shape.size, sample.FPS, crf=sample.CRF, preset="medium", keyframes=cuts
    ) as writer:
        for frame in _zoomed(presenter, shape, speaking):
            writer.write(rgb_to_yuv420(frame))
        height, width = shape.size[1], shape.size[0]
        for number in range(total - speaking):
            picture = cards.product_shot(number, total - speaking, (height, width))
            writer.write(rgb_to_yuv420(picture))
    return target


def _zoomed(presenter: Path, shape: Shape, count: int) -> Iterator[Image]:
    """The presenter at the wanted face size, from its beginning again when the wish is longer."""
    start, stop = sample.OPENING, sample.OPENING + sample.TALK
    with VideoReader(presenter) as reader:
        (x, y), area = _face(next(reader.frames((start + stop) // 2, stop)))
        width, height = shape.size
        zoom = (shape.face_share * width * height / area) ** 0.5
        move = np.array(
            [[zoom, 0, width / 2 - zoom * x], [0, zoom, height / 2 - zoom * y]], np.float32
        )
        kernel = cv2.INTER_LINEAR if zoom < 1 else cv2.INTER_CUBIC
        made = 0
        while made < count:
            last = min(stop, start + count - made)
            for frame in reader.frames(start, last):
                yield np.asarray(
                    cv2.warpAffine(
                        frame, move, shape.size, flags=kernel, borderMode=cv2.BORDER_REPLICATE
                    ),
                    np.uint8,
                )
            made += last - start


def _face(frame: Image) -> tuple[tuple[float, float], float]:
    """Centre and area of the largest face's landmarks, pixels."""
    with FaceMesh() as mesh:
        faces = mesh.detect(frame)
    if not faces:
        raise ValueError("the sample's presenter was not found in a frame that shows her")
    x0, y0, x1, y1 = max(faces, key=lambda face: float(np.prod(np.ptp(face.points[:, :2], 0)))).box
    return ((x0 + x1) / 2, (y0 + y1) / 2), (x1 - x0) * (y1 - y0)
