"""A development PKI, made on first use: root, issuing CA, leaf for ES256 claim signatures.

Certificates follow the C2PA profile (C2PA 2.x, "X.509 certificates"; RFC 5280): the leaf is no CA,
its key usage is digitalSignature alone (critical), its extended key usage names C2PA claim signing
and emailProtection; subject and authority key identifiers are there. The issuing CA has path
length 0. Everything lies under ``<state>/pki``; keys have mode 0600. Two processes that start at
once agree: one makes it, the other waits for the lock and reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from include.errors import Usage
from include.provenance.identity import KeyIdentity, SigningIdentity, configured_identity
from include.provenance.state import exclusive, state_dir, write_atomic

C2PA_CLAIM_SIGNING = "1.3.6.1.4.1.62558.2.1"
ROOT_DAYS, ISSUING_DAYS, LEAF_DAYS = 3650, 1825, 365
RENEW_BEFORE = timedelta(days=14)
"""A leaf this close to its end is replaced; without a time stamp its signatures end with it."""


@dataclass(frozen=True)
class _Pair:
    key: ec.EllipticCurvePrivateKey
    cert: x509.Certificate

    def pem(self) -> bytes:
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return key + self.cert.public_bytes(serialization.Encoding.PEM)


def signing_identity(*, state: Path | None = None) -> SigningIdentity:
    """Who signs here: the configured identity, else the development PKI's.

    Args:
        state: state directory; by default ``state_dir()``.

    Raises:
        Usage: the configuration or the PKI's files cannot be read.
    """
    return configured_identity() or development_identity(state=state)


def development_identity(*, state: Path | None = None, now: datetime | None = None) -> KeyIdentity:
    """The development PKI's leaf; whatever is missing or about to expire is made first.

    Args:
        state: state directory; by default ``state_dir()``.
        now: the time to judge and issue by; by default the clock's.
    """
    folder = (state or state_dir()) / "pki"
    moment = now or datetime.now(UTC)
    with exclusive(folder):
        root = _load_or_make(folder / "root.pem", moment, None)
        write_atomic(folder / "root.crt", _cert_pem(root), mode=0o644)
        issuing = _load_or_make(folder / "issuing.pem", moment, root)
        leaf = _load_or_make(folder / "leaf.pem", moment, issuing)
    return KeyIdentity(
        chain_pem=(_cert_pem(leaf) + _cert_pem(issuing)).decode(),
        anchors_pem=_cert_pem(root).decode(),
        key=leaf.key,
    )


def _load_or_make(path: Path, now: datetime, issuer: _Pair | None) -> _Pair:
    """Read a key and its certificate (one file, so that they cannot come apart), or make them."""
    if path.exists():
        pair = _load(path)
        if _usable(pair, now, issuer):
            return pair
    pair = _make(path.stem, now, issuer)
    write_atomic(path, pair.pem())
    return pair


def _usable(pair: _Pair, now: datetime, issuer: _Pair | None) -> bool:
    signer = pair if issuer is None else issuer
    try:
        pair.cert.verify_directly_issued_by(signer.cert)
    except Exception:
        return False
    begun = pair.cert.not_valid_before_utc <= now
    return begun and now + RENEW_BEFORE < pair.cert.not_valid_after_utc


def _make(role: str, now: datetime, issuer: _Pair | None) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    if role == "root":
        cert = _certificate("Root", key, None, now, ROOT_DAYS, path_length=None)
    elif role == "issuing":
        cert = _certificate("Issuing CA", key, issuer, now, ISSUING_DAYS, path_length=0)
    else:
        cert = _certificate("Signer", key, issuer, now, LEAF_DAYS, ca=False)
    return _Pair(key, cert)


def _certificate(
    role: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: _Pair | None,
    now: datetime,
    days: int,
    *,
    ca: bool = True,
    path_length: int | None = None,
) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Understudy development"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Understudy development {role}"),
        ]
    )
    issuer_key = issuer.key if issuer else key
    end = now + timedelta(days=days)
    if issuer:
        end = min(end, issuer.cert.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.cert.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(_key_usage(ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
    )
    if not ca:
        usages = [ObjectIdentifier(C2PA_CLAIM_SIGNING), ExtendedKeyUsageOID.EMAIL_PROTECTION]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _key_usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load(path: Path) -> _Pair:
    try:
        data = path.read_bytes()
        key = serialization.load_pem_private_key(data, password=None)
        cert = x509.load_pem_x509_certificate(data)
    except (OSError, ValueError) as error:
        raise Usage(
            f"{path} cannot be read ({error}); remove {path.parent} to start anew"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Usage(f"{path} holds no elliptic-curve key; remove its folder to renew")
    return _Pair(key, cert)


def _cert_pem(pair: _Pair) -> bytes:
    return pair.cert.public_bytes(serialization.Encoding.PEM)
