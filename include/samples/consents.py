"""Consent records of synthetic people, signed with a tenant's development key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from include.consent import dump_consent, issue_consent
from include.provenance.state import write_atomic
from include.settings import Settings


def write_consent(
    path: Path,
    tenant: str,
    scope: Iterable[str],
    face: Path | None,
    voice: Path | None,
    settings: Settings,
    subject: str = "a synthetic person",
) -> None:
    """Issue a record and write it, whole or not at all.

    Args:
        path: the file; its folder is made.
        tenant: whose key signs it.
        scope: what may be done, such as ``face_swap``.
        face: the photo, or the presenter's video.
        voice: the recording, if there is one.
        settings: says where the key is.
        subject: the person's name.
    """
    record = issue_consent(
        tenant=tenant,
        subject=subject,
        scope=set(scope),
        face_sha256=digest(face) if face else None,
        audio_sha256=digest(voice) if voice else None,
        evidence="a synthetic person of the sample campaign",
        keys=settings.consent_keys,
    )
    write_atomic(path, dump_consent(record), mode=0o644)


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
