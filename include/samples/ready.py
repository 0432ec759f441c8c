"""The sample campaign, made at first use, with consent that holds today."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.consent import load_consent, verify_consent
from include.errors import ConsentError
from include.provenance.state import exclusive
from include.samples.campaign import make_sample_campaign
from include.samples.consents import digest, write_consent
from include.settings import PROJECT, Settings

SAMPLES = PROJECT / ".understudy" / "samples"
"""Where the sample campaign lies by default."""
TENANT = "acme"


def make_ready(folder: Path, settings: Settings) -> Path:
    """Make the sample campaign unless it is there; returns the brief's path.

    Args:
        folder: where it lies.
        settings: says where the tenant's development key is kept. Consent records that the key
            did not sign, or that run out within a day, are issued again. Two processes take turns.
    """

    def issue(media: Iterable[Path], subject: str, scope: Iterable[str], out: Path) -> None:
        faces = [path for path in media if not _is_audio(path)]
        voices = [path for path in media if _is_audio(path)]
        _issue(faces, voices, subject, set(scope), out, settings)

    with exclusive(folder.parent):
        return make_sample_campaign(folder, issue)


def _issue(
    faces: list[Path],
    voices: list[Path],
    subject: str,
    scope: set[str],
    out: Path,
    settings: Settings,
) -> None:
    face = digest(faces[0]) if faces else None
    audio = digest(voices[0]) if voices else None
    if out.exists() and _holds(out, scope, face, audio, settings):
        return
    paths = (next(iter(faces), None), next(iter(voices), None))
    write_consent(out, TENANT, scope, *paths, settings, subject)


def _holds(
    path: Path, scope: set[str], face: str | None, audio: str | None, settings: Settings
) -> bool:
    try:
        verify_consent(
            load_consent(path.read_bytes()),
            tenant=TENANT,
            campaign="spring-sale",
            now=datetime.now(UTC) + timedelta(days=1),
            scope=scope,
            face_sha256=face,
            audio_sha256=audio,
            keys=settings.consent_keys,
        )
    except ConsentError:
        return False
    return True


def _is_audio(path: Path) -> bool:
    return (mimetypes.guess_type(path.name)[0] or "").startswith("audio/")
