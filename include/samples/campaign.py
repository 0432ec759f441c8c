"""The sample campaign: a brief, a table of recipients and all their media, made once and kept."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import yaml

from include.media.images import save_jpeg
from include.samples import people, template
from models.speech.synthesis import synthesise

CAMPAIGN, TENANT = "spring-sale", "acme"
STAMP = ".stamp"
PACKAGES = ("mediapipe", "opencv-contrib-python-headless", "numpy", "scipy", "scikit-image",
            "matplotlib", "pillow", "imageio-ffmpeg", "espeakng-loader")  # fmt: skip


class IssueConsent(Protocol):
    """Writes a signed consent record; see `include.consent`."""

    def __call__(self, media: list[Path], subject: str, scope: Sequence[str], out: Path) -> object:
        """Issue a record.

        Args:
            media: the files that consent is given for: a photo or video, a recording beside it.
            subject: whose consent it is.
            scope: what is allowed.
            out: where to write it.
        """
        ...


@dataclass(frozen=True)
class Recipient:
    """A row of the table.

    Attributes:
        id: of the row and of the person in `people.PEOPLE`.
        name: spoken, and for the consent record.
        locale: BCP 47.
        voice: of the synthesis.
        script: with ``{name}``.
        recorded: deliver the line as a recording beside its script.
    """

    id: str
    name: str
    locale: str
    voice: str
    script: str
    recorded: bool = False


RECIPIENTS = (
    Recipient("maya", "Maya", "en-US", "female",
              "Hi, it's {name}! Spring is here. Come and see what's new."),
    Recipient("robin", "Robin", "en-GB", "male",
              "Hello, {name} here. We made something new. Come and look.", recorded=True),
    Recipient("lena", "Lena", "de-DE", "female",
              "Hallo, hier ist {name}. Der Frühling ist da. Schau vorbei!"),
)  # fmt: skip


def media_digest() -> str:
    """What the media depend on: this code, the models it uses, the versions below them."""
    h = hashlib.sha256()
    root = Path(__file__).parents[2]
    for folder in ("include/samples", "models/face", "models/lip_sync", "models/speech"):
        for path in sorted((root / folder).glob("*.py")):
            h.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    for name in PACKAGES:
        try:
            h.update(f"{name}=={importlib.metadata.version(name)}\n".encode())
        except importlib.metadata.PackageNotFoundError:
            h.update(f"{name} absent\n".encode())
    return h.hexdigest()


def make_sample_campaign(out_dir: Path, issue_consent: IssueConsent) -> Path:
    """Make the sample campaign, or find it made.

    Everything is written beside ``out_dir`` and renamed in one step, so an interrupted run leaves
    nothing half-made. A second call with the same code and packages only asks ``issue_consent``
    again, because consent runs out and media do not; when they have changed, ``out_dir`` is
    replaced if this function made it.

    Args:
        out_dir: folder of the campaign; its parent is made if need be.
        issue_consent: signs a consent record for media files; it may leave one that still holds.

    Returns:
        The path of ``brief.yaml``.

    Raises:
        FileExistsError: ``out_dir`` holds something that this function did not make.
    """
    if not made_once(out_dir, media_digest(), lambda work: _write(work, issue_consent)):
        _consents(out_dir, issue_consent)
    return out_dir / "brief.yaml"


def made_once(out_dir: Path, digest: str, write: Callable[[Path], None]) -> bool:
    """Make a folder, unless it was made from the same; returns whether it was made now.

    Args:
        out_dir: the folder; its parent is made if need be.
        digest: of what it depends on.
        write: fills a new folder, which then takes its place in one step.

    Raises:
        FileExistsError: ``out_dir`` holds something that this function did not make.
    """
    stamp = out_dir / STAMP
    if stamp.exists() and stamp.read_text() == digest:
        return False
    if out_dir.exists() and not stamp.exists() and any(out_dir.iterdir()):
        msg = f"{out_dir} exists and is no sample campaign: choose another folder or remove it"
        raise FileExistsError(msg)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out_dir.name}-", dir=out_dir.parent))
    try:
        write(work)
        (work / STAMP).write_text(digest)
        work.chmod(0o755)
        _replace(work, out_dir)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return True


def _replace(work: Path, out_dir: Path) -> None:
    old = work.with_name(work.name + "-old")
    if out_dir.exists():
        os.replace(out_dir, old)
    os.replace(work, out_dir)
    shutil.rmtree(old, ignore_errors=True)


def make_recipients(folder: Path) -> list[dict[str, str]]:
    """Make the recipients' photos in ``faces/`` and recordings in ``audio/``.

    Returns:
        Their rows of the table.
    """
    for name in ("faces", "audio"):
        (folder / name).mkdir()
    return [_recipient(folder, r) for r in RECIPIENTS]


def _write(folder: Path, issue_consent: IssueConsent) -> None:
    for name in ("media", "consent"):
        (folder / name).mkdir()
    ad = template.make_template(folder / "media")
    rows = make_recipients(folder)
    _consents(folder, issue_consent)
    with (folder / "recipients.csv").open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    brief = {
        "campaign": CAMPAIGN,
        "tenant": TENANT,
        "template": {
            "video": f"media/{ad.video.name}",
            "face": "largest",
            "bed": f"media/{ad.bed.name}",
            "consent": "consent/presenter.json",
        },
        "voice": {"at": f"{template.VOICE_AT}s", "longer": "fail", "shorter": "hold"},
        "tier": "final",
        "output": {"scale": 2},
        "recipients": "recipients.csv",
        "policy": {
            "review": "borderline",
            "required": ["consent", "nudity", "script", "flash"],
            "min_success_ratio": 0.95,
        },
        "budget": {"currency": "USD", "limit": 50},
    }
    text = yaml.safe_dump(brief, sort_keys=False, allow_unicode=True)
    (folder / "brief.yaml").write_text(text, encoding="utf-8")


def _consents(folder: Path, issue_consent: IssueConsent) -> None:
    """Ask for every record that the brief and its table name."""
    issue_consent(
        [folder / "media/presenter.mp4"],
        subject=people.PRESENTER.capitalize(),
        scope=("template",),
        out=folder / "consent/presenter.json",
    )
    for r in RECIPIENTS:
        media, scope = [folder / f"faces/{r.id}.jpg"], ["face_swap", "lip_sync"]
        if r.recorded:
            media.append(folder / f"audio/{r.id}.wav")
            scope.append("voice")
        out = folder / f"consent/{r.id}.json"
        issue_consent(media, subject=r.name, scope=tuple(scope), out=out)


def _recipient(folder: Path, r: Recipient) -> dict[str, str]:
    face = folder / f"faces/{r.id}.jpg"
    save_jpeg(people.make_person(r.id), face, quality=94)
    audio = ""
    if r.recorded:
        line = synthesise(r.script.format(name=r.name), locale=r.locale, voice=r.voice)
        audio = f"audio/{r.id}.wav"
        mono = np.asarray(line.samples, np.float64)[None] / 32768
        template.write_wav(folder / audio, mono, line.sample_rate)
    return {
        "id": r.id,
        "face": f"faces/{r.id}.jpg",
        "audio": audio,
        "script": r.script,
        "consent": f"consent/{r.id}.json",
        "locale": r.locale,
        "voice": r.voice,
        "name": r.name,
    }
