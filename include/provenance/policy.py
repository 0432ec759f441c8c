"""The release policy on a signed manifest, beyond what the C2PA library checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography import x509

from include.provenance.jumbf import Malformed, active_signature, structure_problems
from include.provenance.lint import lint_manifest
from include.provenance.manifest import CONSENT_LABEL, CONTAINER_LABEL, RELEASABLE, SAFETY_LABEL

HASH_LABEL = "c2pa.hash.bmff.v3"
HASH_EXCLUSIONS = frozenset({"/uuid", "/ftyp", "/mfra", "/free", "/skip"})
UNPROTECTED = frozenset({"pad", "pad2", "sigTst", "sigTst2", "rVals", "x5chain", "33"})


def signature_problems(store: bytes | None) -> list[str]:
    """Check the claim signature's certificate and headers.

    Args:
        store: the file's manifest store (JUMBF); None when it could not be found.

    Returns:
        One sentence for each problem.
    """
    if store is None:
        return ["the manifest store is not where C2PA puts it"]
    try:
        problems = structure_problems(store)
        signature = active_signature(store)
        leaf = x509.load_der_x509_certificate(signature.certificates[0])
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except (Malformed, ValueError, IndexError, x509.ExtensionNotFound) as error:
        return [f"the claim signature cannot be inspected: {error}"]
    if not usage.digital_signature or usage.key_cert_sign:
        problems.append("the signer's certificate is not for digital signatures")
    if any(any(padding) for padding in signature.padding):
        problems.append("the signature's padding was changed")
    strange = sorted(signature.unprotected - UNPROTECTED)
    if strange:
        problems.append(f"unexpected unprotected signature header {strange[0]!r}")
    return problems


def manifest_problems(manifest: Mapping[str, Any], file_type: str) -> list[str]:
    """Check vocabulary, hash coverage, safety verdict and consent of a manifest as read.

    Args:
        manifest: the active manifest.
        file_type: content of the file's ``ftyp`` box in hexadecimal; the hash leaves that box out.

    Returns:
        One sentence for each problem.
    """
    problems = lint_manifest(manifest)
    assertions = {str(i.get("label")): i.get("data") or {} for i in manifest.get("assertions", [])}
    exclusions = {str(e.get("xpath")) for e in assertions.get(HASH_LABEL, {}).get("exclusions", [])}
    if not exclusions <= HASH_EXCLUSIONS:
        problems.append(f"the hash leaves out {', '.join(sorted(exclusions - HASH_EXCLUSIONS))}")
    if assertions.get(CONTAINER_LABEL, {}).get("ftyp") != file_type:
        problems.append("the file type box is not the one that was signed")
    verdict = assertions.get(SAFETY_LABEL, {}).get("verdict")
    if verdict not in RELEASABLE:
        problems.append(f"the signed safety verdict is {verdict or 'missing'}: it may not be used")
    if not assertions.get(CONSENT_LABEL, {}).get("records"):
        problems.append("the manifest names no consent record")
    return problems
