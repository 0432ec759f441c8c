"""One set of C2PA library settings for signing and verification."""

from __future__ import annotations

from typing import Any

import c2pa

from include.provenance.pki import C2PA_CLAIM_SIGNING

MEMORY_THRESHOLD_MIB = 64


def settings(anchors_pem: str) -> dict[str, Any]:
    """Library settings: verified after signing, no network, no thumbnails (faces leak there)."""
    values: dict[str, Any] = {
        "verify": {
            "verify_after_sign": True,
            "verify_after_sign_hash": True,
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
        },
        "builder": {"thumbnail": {"enabled": False}},
        "core": {
            "allowed_network_hosts": [],
            "backing_store_memory_threshold_in_mb": MEMORY_THRESHOLD_MIB,
        },
    }
    if anchors_pem:
        values["trust"] = {"trust_anchors": anchors_pem, "trust_config": C2PA_CLAIM_SIGNING}
    return values


def c2pa_context(anchors_pem: str) -> c2pa.Context:
    """A context to read and sign with; close it, or use it in a ``with`` statement."""
    return c2pa.Context.from_dict(settings(anchors_pem))
