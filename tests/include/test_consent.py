"""Consent: every reason to refuse has its code, and nothing else gets through."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from include.consent import (
    dump_consent,
    issue_consent,
    key_id,
    load_consent,
    sign_consent,
    tenant_key,
    verify_consent,
)
from include.contracts.consent import SignedConsent
from include.errors import ConsentError, Usage

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
FACE, OTHER, AUDIO = "a" * 64, "b" * 64, "c" * 64


@dataclass(frozen=True)
class Office:
    """A tenant's keys and a way to issue and verify with them."""

    keys: Path

    def issue(self, **changes: Any) -> SignedConsent:
        fields: dict[str, Any] = {
            "tenant": "acme",
            "subject": "Anna Öst",
            "scope": ("face_swap", "lip_sync", "voice"),
            "face_sha256": FACE,
            "audio_sha256": AUDIO,
            "campaigns": ("spring-sale",),
            "now": NOW,
            "keys": self.keys,
        }
        return issue_consent(**{**fields, **changes})

    def verify(self, signed: SignedConsent, **changes: Any) -> Any:
        use: dict[str, Any] = {
            "tenant": "acme",
            "campaign": "spring-sale",
            "now": NOW,
            "scope": {"face_swap", "lip_sync"},
            "face_sha256": FACE,
            "audio_sha256": AUDIO,
            "keys": self.keys,
        }
        return verify_consent(signed, **{**use, **changes})


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "keys")


def test_a_record_survives_its_file_and_is_believed(office: Office) -> None:
    signed = load_consent(dump_consent(office.issue()))
    record = office.verify(signed)
    assert record.subject == "Anna Öst"
    assert record.scope == ("face_swap", "lip_sync", "voice")


def test_a_star_covers_every_campaign(office: Office) -> None:
    office.verify(office.issue(campaigns=("*",)), campaign="whatever")


def test_a_row_without_a_recording_may_use_a_record_that_names_one(office: Office) -> None:
    office.verify(office.issue(), audio_sha256=None)


def test_the_same_instant_in_another_zone_verifies(office: Office) -> None:
    signed = office.issue()
    raw = json.loads(dump_consent(signed))
    moment = signed.record.expires.astimezone().isoformat()
    raw["record"]["expires"] = moment
    office.verify(load_consent(json.dumps(raw).encode()))


@pytest.mark.parametrize(
    ("code", "issued", "used"),
    [
        ("consent.tenant", {}, {"tenant": "umbrella"}),
        ("consent.campaign", {}, {"campaign": "autumn"}),
        ("consent.face", {}, {"face_sha256": OTHER}),
        ("consent.face", {"face_sha256": None}, {}),
        ("consent.audio", {}, {"audio_sha256": OTHER}),
        ("consent.audio", {"audio_sha256": None}, {}),
        ("consent.scope", {"scope": ("voice",)}, {}),
        ("consent.scope", {}, {"scope": {"template"}}),
        ("consent.not_yet", {"not_before": NOW + timedelta(seconds=1)}, {}),
        ("consent.expired", {"not_before": NOW - timedelta(days=2), "expires": NOW}, {}),
        ("consent.expired", {}, {"now": NOW + timedelta(days=366)}),
    ],
)
def test_a_mismatch_is_refused_with_its_code(
    office: Office, code: str, issued: dict[str, Any], used: dict[str, Any]
) -> None:
    signed = office.issue(record_id="c-17", **issued)
    with pytest.raises(ConsentError) as caught:
        office.verify(signed, **used)
    assert caught.value.code == code
    assert "c-17" in caught.value.message
    assert "Anna Öst" in caught.value.message
    assert not caught.value.retry
    assert caught.value.exit_code == 77


def test_a_revoked_record_is_refused(office: Office) -> None:
    signed = office.issue(record_id="c-17")
    with pytest.raises(ConsentError, match="withdrawn") as caught:
        office.verify(signed, revoked={"c-17"})
    assert caught.value.code == "consent.revoked"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", "acme2"),
        ("subject", "Bob"),
        ("face_sha256", OTHER),
        ("scope", ["template", "voice"]),
        ("campaigns", ["*"]),
        ("expires", "2036-01-01T00:00:00Z"),
        ("evidence", "none"),
    ],
)
def test_an_edited_record_is_refused(office: Office, field: str, value: object) -> None:
    tenant_key("acme2", keys=office.keys)
    raw = json.loads(dump_consent(office.issue()))
    raw["record"][field] = value
    with pytest.raises(ConsentError) as caught:
        office.verify(load_consent(json.dumps(raw).encode()))
    # Another tenant's name leads to another tenant's keys, among which this one is not.
    expected = "consent.unknown_key" if field == "tenant" else "consent.signature"
    assert caught.value.code == expected


def test_a_key_that_the_tenant_does_not_have_is_refused(office: Office) -> None:
    signed = office.issue()
    forged = sign_consent(signed.record, Ed25519PrivateKey.generate())
    with pytest.raises(ConsentError) as caught:
        office.verify(forged)
    assert caught.value.code == "consent.unknown_key"


def test_keys_may_lie_flat_where_folders_cannot_be_nested(office: Office, tmp_path: Path) -> None:
    signed = office.issue()
    [key] = office.keys.glob("*/public/*.pem")
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / f"{key.parent.parent.name}.{key.name}").write_bytes(key.read_bytes())
    assert replace(office, keys=flat).verify(signed) == office.verify(signed)


def test_a_signature_under_a_known_key_id_by_another_key_is_refused(office: Office) -> None:
    signed = office.issue()
    forged = sign_consent(signed.record, Ed25519PrivateKey.generate())
    disguised = forged.model_copy(update={"key_id": signed.key_id})
    with pytest.raises(ConsentError) as caught:
        office.verify(disguised)
    assert caught.value.code == "consent.signature"


def test_no_file_is_missing_consent() -> None:
    with pytest.raises(ConsentError, match="row 4") as caught:
        load_consent(None, where="row 4")
    assert caught.value.code == "consent.missing"


def _without(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda raw: raw["record"].pop(field)


@pytest.mark.parametrize(
    "damage",
    [
        _without("expires"),
        _without("scope"),
        lambda raw: raw.update(extra=1),
        lambda raw: raw.update(key_id="../../root"),
        lambda raw: raw["record"].update(tenant="../acme"),
        lambda raw: raw["record"].update(expires="2027-01-01T00:00:00"),
        lambda raw: raw["record"].update(scope=["everything"]),
        lambda raw: raw["record"].update(scope=[]),
        lambda raw: raw["record"].update(schema_version=2),
        lambda raw: raw["record"].update(expires="2020-01-01T00:00:00Z"),
    ],
)
def test_a_damaged_record_is_unreadable(
    office: Office, damage: Callable[[dict[str, Any]], Any]
) -> None:
    raw = json.loads(dump_consent(office.issue()))
    damage(raw)
    with pytest.raises(ConsentError) as caught:
        load_consent(json.dumps(raw).encode())
    assert caught.value.code == "consent.unreadable"


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"[]", b"null", b"{", b"[" * 60_000, b'{"a":1,"a":2}', b" " * 70_000],
    ids=["empty", "binary", "list", "null", "cut", "deep", "twice", "large"],
)
def test_what_is_no_record_is_unreadable(data: bytes) -> None:
    with pytest.raises(ConsentError) as caught:
        load_consent(data)
    assert caught.value.code == "consent.unreadable"


def test_a_field_that_appears_twice_is_refused(office: Office) -> None:
    text = dump_consent(office.issue()).decode()
    twice = text.replace('"subject":', '"subject":"Bob","subject":', 1)
    with pytest.raises(ConsentError, match="twice"):
        load_consent(twice.encode())


def test_verification_needs_no_private_key(office: Office) -> None:
    signed = office.issue()
    (office.keys / "acme" / "private.pem").unlink()
    office.verify(signed)


def test_the_private_key_is_readable_by_its_owner_only(office: Office) -> None:
    tenant_key("acme", keys=office.keys)
    mode = (office.keys / "acme" / "private.pem").stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize("tenant", ["", "..", "a/b", "../acme", "a" * 65])
def test_a_tenant_that_is_no_name_gets_no_key(office: Office, tenant: str) -> None:
    with pytest.raises(Usage, match="tenant's name"):
        tenant_key(tenant, keys=office.keys)


def test_what_cannot_be_signed_is_a_usage_error(office: Office) -> None:
    with pytest.raises(Usage, match="expires must be later"):
        office.issue(expires=NOW - timedelta(days=1))


def test_two_processes_that_start_at_once_agree_on_the_key(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from include.consent import *;"
        "print(key_id(tenant_key('acme', keys=Path(sys.argv[1])).public_key()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    ids = {process.communicate(timeout=60)[0].strip() for process in started}
    assert ids == {key_id(tenant_key("acme", keys=tmp_path).public_key())}


def test_a_time_without_a_zone_is_a_programming_error(office: Office) -> None:
    with pytest.raises(ValueError, match="zone"):
        office.verify(office.issue(), now=datetime(2026, 1, 1))
