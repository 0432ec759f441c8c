"""Consent: issued (development), loaded, verified. Runs wherever the contracts run.

Keys live under the state directory, or under ``UNDERSTUDY_CONSENT_KEYS`` in production, where
only public keys exist: ``<tenant>/public/<key id>.pem``, or ``<tenant>.<key id>.pem`` where folders
cannot be nested (a ConfigMap). Verification reads nothing else, so a worker never holds a key that
could issue consent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import TypeAdapter, ValidationError

from include.contracts.base import Slug, canonical_json
from include.contracts.consent import EVERY_CAMPAIGN, ConsentRecord, SignedConsent
from include.errors import ConsentError, Usage
from include.provenance.state import exclusive, state_dir, write_atomic

KEYS_ENV = "UNDERSTUDY_CONSENT_KEYS"
MAX_BYTES = 64 * 1024
"""Largest consent file that is read."""


def consent_keys_dir() -> Path:
    """Where the tenants' keys are: ``UNDERSTUDY_CONSENT_KEYS`` or the state directory."""
    configured = os.environ.get(KEYS_ENV)
    return Path(configured) if configured else state_dir() / "consent"


def key_id(public: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the raw public key."""
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:16]


def tenant_key(tenant: str, *, keys: Path | None = None) -> Ed25519PrivateKey:
    """The tenant's development signing key, made on first use (file mode 0600).

    Args:
        tenant: the tenant's name.
        keys: directory of keys; by default ``consent_keys_dir()``.

    Raises:
        Usage: the tenant's name is not usable, or the key file cannot be read.
    """
    folder = (keys or consent_keys_dir()) / _tenant_name(tenant)
    path = folder / "private.pem"
    with exclusive(folder):
        if path.exists():
            return _read_private(path)
        private = Ed25519PrivateKey.generate()
        public = private.public_key()
        # The public half first: a key that signs must never exist without the one that verifies.
        write_atomic(
            folder / "public" / f"{key_id(public)}.pem",
            public.public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            mode=0o644,
        )
        write_atomic(
            path,
            private.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        return private


def issue_consent(
    *,
    tenant: str,
    subject: str,
    scope: Iterable[str],
    face_sha256: str | None = None,
    audio_sha256: str | None = None,
    campaigns: Iterable[str] = (EVERY_CAMPAIGN,),
    not_before: datetime | None = None,
    expires: datetime | None = None,
    evidence: str = "development record, issued by hand",
    issuer: str = "understudy consent",
    record_id: str | None = None,
    now: datetime | None = None,
    keys: Path | None = None,
) -> SignedConsent:
    """Issue a record signed with the tenant's development key.

    In production records come from the consent service, which signs the same bytes.

    Args:
        tenant: who may use it.
        subject: whose consent it is.
        scope: any of ``face_swap``, ``lip_sync``, ``voice``, ``template``.
        face_sha256: digest of the photo, or of the presenter's video.
        audio_sha256: digest of the voice recording.
        campaigns: names, or ``*``.
        not_before: by default a minute ago, so that clocks need not agree to the second.
        expires: by default a year after ``not_before``.
        evidence: where the proof is kept.
        issuer: who vouches for it.
        record_id: by default a random one.
        now: the time of issue; by default the clock's.
        keys: directory of keys; by default ``consent_keys_dir()``.

    Raises:
        Usage: a field is not valid.
    """
    issued = now or datetime.now(UTC)
    start = not_before or issued - timedelta(minutes=1)
    fields: dict[str, Any] = {
        "record_id": record_id or f"c-{uuid.uuid4().hex}",
        "tenant": tenant,
        "subject": subject,
        "face_sha256": face_sha256,
        "audio_sha256": audio_sha256,
        "scope": tuple(scope),
        "campaigns": tuple(campaigns),
        "not_before": start,
        "expires": expires or start + timedelta(days=365),
        "evidence": evidence,
        "issued_at": issued,
        "issuer": issuer,
    }
    try:
        record = ConsentRecord.model_validate(fields)
    except ValidationError as error:
        raise Usage(f"consent for {subject!r} cannot be issued: {_why(error)}") from error
    return sign_consent(record, tenant_key(tenant, keys=keys))


def sign_consent(record: ConsentRecord, private: Ed25519PrivateKey) -> SignedConsent:
    """Sign a record's canonical JSON."""
    signature = private.sign(record.signed_bytes())
    return SignedConsent(
        record=record,
        key_id=key_id(private.public_key()),
        signature=base64.b64encode(signature).decode(),
    )


def dump_consent(signed: SignedConsent) -> bytes:
    """The file form: canonical JSON with a final newline."""
    return canonical_json(signed.model_dump(mode="json")) + b"\n"


def load_consent(data: bytes | None, *, where: str = "consent record") -> SignedConsent:
    """Read a consent file; nothing is believed yet: see ``verify_consent``.

    Args:
        data: the file's bytes; None when there is no file.
        where: the file or row, for messages.

    Raises:
        ConsentError: ``consent.missing`` or ``consent.unreadable``.
    """
    if data is None:
        raise ConsentError(
            f"{where}: there is no consent record; add one to the row's consent column "
            "(./understudy consent makes one for development)",
            code="consent.missing",
            where=where,
        )
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"it is larger than {MAX_BYTES} bytes")
        parsed = json.loads(data.decode("utf-8-sig"), object_pairs_hook=_no_duplicates)
        return SignedConsent.model_validate(parsed)
    except (ValueError, RecursionError) as error:
        reason = _why(error) if isinstance(error, ValidationError) else str(error)
        raise ConsentError(
            f"{where} is not a consent record ({reason}); ask the consent service for it again",
            code="consent.unreadable",
            where=where,
        ) from error


def row_scope(*, speaks: bool, recorded: bool) -> set[str]:
    """What a recipient has to allow.

    Args:
        speaks: whether the mouth is moved.
        recorded: whether to a recording of the person; a synthesised voice is nobody's.
    """
    return {"face_swap"} | ({"lip_sync"} if speaks else set()) | ({"voice"} if recorded else set())


def verify_consent(
    signed: SignedConsent,
    *,
    tenant: str,
    campaign: str,
    now: datetime,
    scope: set[str],
    face_sha256: str | None = None,
    audio_sha256: str | None = None,
    revoked: Collection[str] = (),
    keys: Path | None = None,
) -> ConsentRecord:
    """Check a record against what is about to be done; never cached, time being an input.

    Args:
        signed: the record as loaded.
        tenant: who wants to use it.
        campaign: in which campaign.
        now: the time of use, with its zone.
        scope: everything that is about to be done with the person's face and voice.
        face_sha256: digest of the photo (or presenter's video) in use, None when there is none.
        audio_sha256: digest of the recording in use, None when there is none.
        revoked: ids of records that were withdrawn.
        keys: directory of public keys; by default ``consent_keys_dir()``.

    Returns:
        The record, to be believed from here on.

    Raises:
        ConsentError: with code ``consent.unknown_key``, ``.signature``, ``.revoked``, ``.tenant``,
            ``.campaign``, ``.not_yet``, ``.expired``, ``.scope``, ``.face`` or ``.audio``.
        ValueError: ``now`` has no time zone.
    """
    if now.tzinfo is None:
        raise ValueError("now must carry its time zone")
    record = signed.record
    _check_signature(signed, keys or consent_keys_dir())
    if record.record_id in revoked:
        raise _refusal(record, "revoked", "was withdrawn; remove the row")
    if record.tenant != tenant:
        raise _refusal(
            record, "tenant", f"was given to {record.tenant}, not {tenant}; ask for an own record"
        )
    if EVERY_CAMPAIGN not in record.campaigns and campaign not in record.campaigns:
        allowed = ", ".join(record.campaigns)
        raise _refusal(
            record, "campaign", f"covers {allowed}, not {campaign}; ask for this campaign"
        )
    _check_dates(record, now)
    lacking = sorted(scope - set(record.scope))
    if lacking:
        raise _refusal(
            record,
            "scope",
            f"allows {', '.join(record.scope)} but not {', '.join(lacking)}; ask for that",
        )
    _check_media(record, face_sha256, audio_sha256)
    return record


def _check_signature(signed: SignedConsent, keys: Path) -> None:
    record = signed.record
    path = keys / record.tenant / "public" / f"{signed.key_id}.pem"
    flat = keys / f"{record.tenant}.{signed.key_id}.pem"
    path = flat if flat.exists() else path
    try:
        public = _read_public(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _refusal(
            record,
            "unknown_key",
            f"is signed by key {signed.key_id}, which {record.tenant} is not known to have; "
            f"put the tenant's public key at {path}",
        ) from error
    if public is None or public[1] != signed.key_id:
        raise _refusal(
            record, "unknown_key", f"names key {signed.key_id}, but {path} holds another one"
        )
    try:
        public[0].verify(base64.b64decode(signed.signature), record.signed_bytes())
    except InvalidSignature as error:
        raise _refusal(
            record,
            "signature",
            "was changed after it was signed, or was signed by somebody else; "
            "ask the consent service for it again",
        ) from error


def _check_dates(record: ConsentRecord, now: datetime) -> None:
    if now < record.not_before:
        raise _refusal(
            record, "not_yet", f"begins at {record.not_before:%Y-%m-%d %H:%M} UTC; wait or remove"
        )
    if now >= record.expires:
        raise _refusal(
            record, "expired", f"ended at {record.expires:%Y-%m-%d %H:%M} UTC; ask for a new one"
        )


def _check_media(record: ConsentRecord, face: str | None, audio: str | None) -> None:
    if face is not None and face != record.face_sha256:
        names = "no photo" if record.face_sha256 is None else f"photo {record.face_sha256[:12]}"
        raise _refusal(
            record,
            "face",
            f"names {names}, but the row uses {face[:12]}; use the photo that was agreed to",
        )
    if audio is not None and audio != record.audio_sha256:
        names = (
            "no recording"
            if record.audio_sha256 is None
            else f"recording {record.audio_sha256[:12]}"
        )
        raise _refusal(
            record,
            "audio",
            f"names {names}, but the row uses {audio[:12]}; use the recording that was agreed to",
        )


def _refusal(record: ConsentRecord, code: str, what: str) -> ConsentError:
    return ConsentError(
        f"consent {record.record_id} of {record.subject} {what}",
        code=f"consent.{code}",
        where=record.record_id,
    )


def _tenant_name(tenant: str) -> str:
    try:
        return TypeAdapter(Slug).validate_python(tenant)
    except ValidationError as error:
        raise Usage(
            f"{tenant!r} is not a tenant's name: letters, digits, dots, dashes, underscores"
        ) from error


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError) as error:
        raise Usage(f"{path} cannot be read as a private key ({error}); remove it") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise Usage(f"{path} is not an Ed25519 key; remove it and a new one is made")
    return private


@lru_cache(maxsize=64)
def _read_public(pem: bytes) -> tuple[Ed25519PublicKey, str] | None:
    """A public key and its id; None when it is of another kind. ValueError when it is no key."""
    public = serialization.load_pem_public_key(pem)
    return (public, key_id(public)) if isinstance(public, Ed25519PublicKey) else None


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON objects whose keys repeat are read differently by different readers: refused."""
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"the field {key!r} appears twice")
        result[key] = value
    return result


def _why(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
