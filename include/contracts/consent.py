"""Consent records: who allowed what, for which campaigns, until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from include.contracts.base import Contract, Sha256, Slug, canonical_json

Scope = Literal["face_swap", "lip_sync", "voice", "template"]
"""What is allowed: put the face into a template, move its mouth to a voice, use a recording of
the voice, appear in a template as the presenter whose face and mouth are replaced."""

EVERY_CAMPAIGN = "*"

SIGNATURE_CONTEXT = b"understudy consent v1\n"
"""Precedes the signed bytes, so that the signature can never be taken for one of something else."""


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _sorted_unique(value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(value)))


UtcTime = Annotated[AwareDatetime, AfterValidator(_utc)]
"""A time with its zone, kept in UTC: one instant has one canonical form."""

CampaignName = Slug | Literal["*"]

Line = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class ConsentRecord(Contract):
    """What one person allowed one tenant to do."""

    schema_version: Literal[1] = 1
    record_id: Slug
    tenant: Slug
    subject: Line
    """Whose consent it is, as the tenant knows the person. Never leaves the pipeline."""
    face_sha256: Sha256 | None = None
    """The file that shows the subject's face: a photo, or the template video of a presenter."""
    audio_sha256: Sha256 | None = None
    """The recording of the subject's voice."""
    scope: Annotated[tuple[Scope, ...], AfterValidator(_sorted_unique), Field(min_length=1)]
    campaigns: Annotated[
        tuple[CampaignName, ...], AfterValidator(_sorted_unique), Field(min_length=1)
    ]
    """Names of campaigns, or ``*`` for every campaign of the tenant."""
    not_before: UtcTime
    expires: UtcTime
    evidence: Annotated[str, StringConstraints(max_length=2000)]
    """Where the proof is kept: a URI, or words."""
    issued_at: UtcTime
    issuer: Line

    @model_validator(mode="after")
    def _dates_in_order(self) -> ConsentRecord:
        if self.expires <= self.not_before:
            raise ValueError("expires must be later than not_before")
        return self

    def signed_bytes(self) -> bytes:
        """The bytes that the tenant's key signs."""
        return SIGNATURE_CONTEXT + canonical_json(self.model_dump(mode="json"))


class SignedConsent(Contract):
    """A consent record and the tenant's signature over its canonical JSON."""

    record: ConsentRecord
    key_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
    """First 16 hexadecimal digits of the SHA-256 of the raw public key."""
    algorithm: Literal["Ed25519"] = "Ed25519"
    signature: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]{86}==$")]
    """Ed25519 (RFC 8032), 64 bytes in base64."""
