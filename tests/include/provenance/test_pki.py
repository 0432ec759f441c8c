"""The development PKI: right profile, made once, renewed in time."""

from __future__ import annotations

import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from include.errors import ProvenanceError, Transient, Usage
from include.provenance.identity import CommandIdentity, raw_signature
from include.provenance.pki import (
    C2PA_CLAIM_SIGNING,
    LEAF_DAYS,
    development_identity,
    signing_identity,
)


def _chain(pem: str) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(pem.encode())


def test_the_leaf_follows_the_c2pa_profile(tmp_path: Path) -> None:
    identity = development_identity(state=tmp_path)
    leaf, issuing = _chain(identity.chain_pem)
    (root,) = _chain(identity.anchors_pem)
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not usage.value.key_cert_sign
    extended = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {item.dotted_string for item in extended} == {
        C2PA_CLAIM_SIGNING,
        ExtendedKeyUsageOID.EMAIL_PROTECTION.dotted_string,
    }
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    limits = issuing.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (limits.ca, limits.path_length) == (True, 0)
    for certificate in (leaf, issuing):
        certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    leaf.verify_directly_issued_by(issuing)
    issuing.verify_directly_issued_by(root)


def test_a_second_start_finds_the_same_identity(tmp_path: Path) -> None:
    first, second = (development_identity(state=tmp_path) for _ in range(2))
    assert first.chain_pem == second.chain_pem


def test_keys_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    development_identity(state=tmp_path)
    private = [p for p in (tmp_path / "pki").iterdir() if b"PRIVATE" in p.read_bytes()]
    assert len(private) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}


def test_an_old_leaf_is_renewed_under_the_same_root(tmp_path: Path) -> None:
    first = development_identity(state=tmp_path)
    later = datetime.now(UTC) + timedelta(days=LEAF_DAYS)
    second = development_identity(state=tmp_path, now=later)
    assert first.anchors_pem == second.anchors_pem
    assert _chain(first.chain_pem)[1] == _chain(second.chain_pem)[1]
    assert _chain(second.chain_pem)[0].not_valid_after_utc > later + timedelta(days=300)


def test_processes_that_start_at_once_agree(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path;"
        "from include.provenance.pki import development_identity as make;"
        "print(make(state=Path(sys.argv[1])).chain_pem)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    chains = {process.communicate(timeout=60)[0].strip() for process in started}
    assert chains == {development_identity(state=tmp_path).chain_pem.strip()}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A production-like identity in files."""
    identity = development_identity(state=tmp_path / "made")
    paths = {name: tmp_path / f"{name}.pem" for name in ("chain", "anchors", "key")}
    paths["chain"].write_text(identity.chain_pem)
    paths["anchors"].write_text(identity.anchors_pem)
    paths["key"].write_bytes(
        identity.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def _configure(monkeypatch: pytest.MonkeyPatch, **values: Path | str) -> None:
    names = {
        "chain": "UNDERSTUDY_SIGNER_CHAIN",
        "anchors": "UNDERSTUDY_TRUST_ANCHORS",
        "key": "UNDERSTUDY_SIGNER_KEY",
        "command": "UNDERSTUDY_SIGNER_COMMAND",
    }
    for name, value in values.items():
        monkeypatch.setenv(names[name], str(value))


def test_the_configured_identity_wins(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _configure(monkeypatch, **files)
    identity = signing_identity(state=tmp_path / "unused")
    assert identity.chain_pem == files["chain"].read_text()
    assert not (tmp_path / "unused").exists()


def test_a_configured_key_of_another_leaf_is_refused(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    files["key"].write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    _configure(monkeypatch, **files)
    with pytest.raises(ProvenanceError, match="does not belong") as caught:
        signing_identity()
    assert caught.value.code == "provenance.wrong_key"


def test_a_chain_without_a_key_is_a_usage_error(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _configure(monkeypatch, chain=files["chain"], anchors=files["anchors"])
    with pytest.raises(Usage, match="UNDERSTUDY_SIGNER_KEY is not set"):
        signing_identity()


def test_a_signing_command_signs_without_the_key_in_this_process(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "kms.py"
    program.write_text(
        "import sys\n"
        "from cryptography.hazmat.primitives import hashes, serialization\n"
        "from cryptography.hazmat.primitives.asymmetric import ec\n"
        f"pem = open({str(files['key'])!r}, 'rb').read()\n"
        "key = serialization.load_pem_private_key(pem, None)\n"
        "tbs = sys.stdin.buffer.read()\n"
        "sys.stdout.buffer.write(key.sign(tbs, ec.ECDSA(hashes.SHA256())))\n"
    )
    command = f"{sys.executable} {program}"
    _configure(monkeypatch, chain=files["chain"], anchors=files["anchors"], command=command)
    identity = signing_identity()
    assert isinstance(identity, CommandIdentity)
    assert len(identity.sign(b"to be signed")) == 64


def test_a_signing_service_that_is_down_is_worth_a_retry(files: dict[str, Path]) -> None:
    identity = CommandIdentity(
        files["chain"].read_text(), files["anchors"].read_text(), (sys.executable, "-c", "exit(1)")
    )
    with pytest.raises(Transient, match="UNDERSTUDY_SIGNER_COMMAND"):
        identity.sign(b"to be signed")


def test_what_is_no_signature_is_refused() -> None:
    with pytest.raises(ProvenanceError, match="no ES256 signature"):
        raw_signature(b"hello")
