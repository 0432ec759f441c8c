"""Who signs: the interface of a signing identity, and the one that production configures.

``UNDERSTUDY_SIGNER_CHAIN`` names a PEM file (leaf first, then the issuing CAs) and
``UNDERSTUDY_TRUST_ANCHORS`` the root it leads to. The private key is a file
(``UNDERSTUDY_SIGNER_KEY``) or stays where it is: ``UNDERSTUDY_SIGNER_COMMAND`` receives the bytes
to sign on stdin and prints the signature (DER, as a KMS returns it). Without any of these the
development PKI is used.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from include.errors import ProvenanceError, Transient, Usage
from include.provenance.state import state_dir

CHAIN_ENV = "UNDERSTUDY_SIGNER_CHAIN"
KEY_ENV = "UNDERSTUDY_SIGNER_KEY"
COMMAND_ENV = "UNDERSTUDY_SIGNER_COMMAND"
ANCHORS_ENV = "UNDERSTUDY_TRUST_ANCHORS"
COMMAND_TIMEOUT_S = 30.0


class SigningIdentity(Protocol):
    """A certificate chain and something that signs for it (ES256 throughout)."""

    @property
    def chain_pem(self) -> str:
        """Leaf first, then every issuing CA; the root is left out."""

    @property
    def anchors_pem(self) -> str:
        """The roots that the chain leads to."""

    def sign(self, tbs: bytes) -> bytes:
        """ECDSA P-256 with SHA-256 over ``tbs``; 64 bytes, r then s, big-endian."""


@dataclass(frozen=True)
class KeyIdentity:
    """An identity whose private key is in this process."""

    chain_pem: str
    anchors_pem: str
    key: ec.EllipticCurvePrivateKey

    def sign(self, tbs: bytes) -> bytes:
        """Sign with the key at hand."""
        return raw_signature(self.key.sign(tbs, ec.ECDSA(hashes.SHA256())))


@dataclass(frozen=True)
class CommandIdentity:
    """An identity whose key never leaves a KMS or HSM; a command asks for signatures."""

    chain_pem: str
    anchors_pem: str
    command: tuple[str, ...]

    def sign(self, tbs: bytes) -> bytes:
        """Have the command sign; the answer is checked against the leaf before it is used.

        Raises:
            Transient: the command failed or took too long.
            ProvenanceError: it answered with a signature of another key.
        """
        try:
            done = subprocess.run(
                self.command, input=tbs, capture_output=True, check=True, timeout=COMMAND_TIMEOUT_S
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Transient(f"the signing command failed ({error}); see {COMMAND_ENV}") from error
        signature = raw_signature(done.stdout)
        check_signature(leaf_of(self.chain_pem), tbs, signature)
        return signature


def raw_signature(signature: bytes) -> bytes:
    """Bring an ECDSA P-256 signature, DER or raw, into the raw form that COSE wants.

    Raises:
        ProvenanceError: it is neither.
    """
    if len(signature) == 64:
        return signature
    try:
        r, s = decode_dss_signature(signature)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    except (ValueError, OverflowError) as error:
        raise ProvenanceError(
            f"the signer returned {len(signature)} bytes that are no ES256 signature; "
            "it must use P-256 with SHA-256",
            code="provenance.signer",
        ) from error


def leaf_of(chain_pem: str) -> x509.Certificate:
    """The first certificate of a chain.

    Raises:
        Usage: the chain is not PEM.
    """
    try:
        return x509.load_pem_x509_certificates(chain_pem.encode())[0]
    except (ValueError, IndexError) as error:
        raise Usage(f"the signer's chain is not PEM: {error}; see {CHAIN_ENV}") from error


def check_signature(leaf: x509.Certificate, tbs: bytes, signature: bytes) -> None:
    """Hold a raw signature against the leaf's public key.

    Raises:
        ProvenanceError: it is another key's, or the leaf's key is not P-256.
    """
    public = leaf.public_key()
    der = encode_dss_signature(
        int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    )
    try:
        if not isinstance(public, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        public.verify(der, tbs, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise ProvenanceError(
            "the signing key does not belong to the leaf certificate; configure the pair together",
            code="provenance.wrong_key",
        ) from error


def configured_identity() -> SigningIdentity | None:
    """The identity that the environment names, None when it names none.

    Raises:
        Usage: the configuration is incomplete or unreadable.
        ProvenanceError: the key is not the leaf's.
    """
    chain_file = os.environ.get(CHAIN_ENV)
    if not chain_file:
        return None
    chain, anchors = _read(chain_file, CHAIN_ENV), _read(os.environ.get(ANCHORS_ENV), ANCHORS_ENV)
    command = os.environ.get(COMMAND_ENV)
    if command:
        return CommandIdentity(chain, anchors, tuple(shlex.split(command)))
    key_file = os.environ.get(KEY_ENV)
    try:
        key = serialization.load_pem_private_key(_read(key_file, KEY_ENV).encode(), password=None)
    except (ValueError, TypeError) as error:
        raise Usage(f"{KEY_ENV}={key_file} is not a private key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Usage(f"{KEY_ENV}={key_file} is not an elliptic-curve key; ES256 needs P-256")
    identity = KeyIdentity(chain, anchors, key)
    check_signature(
        leaf_of(chain), b"is this the leaf's key?", identity.sign(b"is this the leaf's key?")
    )
    return identity


def trust_anchors() -> str:
    """The roots to verify against: configured, else the development root, else none (empty)."""
    configured = os.environ.get(ANCHORS_ENV)
    if configured:
        return _read(configured, ANCHORS_ENV)
    root = state_dir() / "pki" / "root.crt"
    return root.read_text() if root.exists() else ""


def anchors_digest() -> str | None:
    """SHA-256 of the configured roots, by which signed videos are keyed; None without any.

    Raises:
        Usage: they cannot be read.
    """
    configured = os.environ.get(ANCHORS_ENV)
    if not configured:
        return None
    return hashlib.sha256(_read(configured, ANCHORS_ENV).encode()).hexdigest()


def _read(path: str | None, variable: str) -> str:
    if not path:
        raise Usage(f"{variable} is not set; {CHAIN_ENV} needs it")
    try:
        return Path(path).read_text()
    except (OSError, ValueError) as error:
        raise Usage(f"{variable}={path} cannot be read: {error}") from error
