"""Verification: the C2PA library's verdict, and the policy that it leaves to others.

The library trusts files whose container hides a payload, whose leaf certificate may not sign,
whose signature padding was changed, or whose ingredients were tampered with before signing. All of
that fails here, and so does a claim without a verdict under which a video may leave.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import c2pa

from include.errors import ProvenanceError, UnderstudyError
from include.provenance import bmff
from include.provenance.context import c2pa_context
from include.provenance.identity import trust_anchors
from include.provenance.manifest import CONSENT_LABEL, RELEASABLE, SAFETY_LABEL
from include.provenance.policy import manifest_problems, signature_problems

MIME = "video/mp4"
TOLERATED_IN_INGREDIENTS = frozenset({"signingCredential.untrusted"})
"""An ingredient may come signed by somebody whom we do not know; that is no tampering."""


@dataclass(frozen=True)
class IngredientReport:
    """One ingredient as the manifest lists it."""

    title: str
    relationship: str
    signed: bool
    """Whether it came with a manifest of its own."""
    failures: tuple[str, ...] = ()


@dataclass(frozen=True)
class ActionReport:
    """One action as the manifest lists it."""

    action: str
    description: str = ""
    agent: str = ""


@dataclass(frozen=True)
class Verification:
    """What a video's manifest says and whether it holds."""

    path: Path
    sha256: str
    state: str
    """``Trusted``, ``Valid`` (intact, but signed by nobody we trust), ``Invalid``, ``Unsigned``
    or ``Unreadable`` (there is a manifest that cannot be parsed)."""
    failures: tuple[str, ...]
    """Everything that does not hold; empty when the video may be used."""
    title: str = ""
    signer: str = ""
    ingredients: tuple[IngredientReport, ...] = ()
    actions: tuple[ActionReport, ...] = ()
    claims: dict[str, Any] = field(default_factory=dict)
    """Assertions by label, such as ``com.understudy.safety``."""

    @property
    def trusted(self) -> bool:
        """Whether the signature is intact and leads to an anchor."""
        return self.state == "Trusted"

    @property
    def holds(self) -> bool:
        """Whether everything holds: trust, policy and claims."""
        return self.trusted and not self.failures


def verify_video(path: Path, anchors_pem: str | None = None) -> Verification:
    """Verify a signed MP4.

    Args:
        path: the file.
        anchors_pem: roots to trust; by default the configured or development ones.

    Raises:
        BadMedia: there is no such file or it is no MP4.
    """
    boxes, leftover = bmff.top_level_boxes(path)
    sha256 = file_sha256(path)
    container = bmff.container_problems(path, boxes, leftover)
    anchors = trust_anchors() if anchors_pem is None else anchors_pem
    try:
        report, state = _read(path, anchors)
    except c2pa.C2paError as error:
        state, why = _read_failure(error)
        return Verification(path, sha256, state, (why, *container))
    manifest = report.get("manifests", {}).get(report.get("active_manifest"))
    if manifest is None:
        return Verification(path, sha256, "Unreadable", ("there is no active manifest", *container))
    ingredients = _ingredients(report, manifest)
    failures = [
        *_library_failures(report, state),
        *container,
        *signature_problems(bmff.manifest_store(path, boxes)),
        *manifest_problems(manifest, bmff.file_type(path, boxes)),
        *(f"ingredient {i.title}: {code}" for i in ingredients for code in i.failures),
    ]
    claims = {item["label"]: item.get("data") for item in manifest.get("assertions", [])}
    return Verification(
        path=path,
        sha256=sha256,
        state=state,
        failures=tuple(failures),
        title=str(manifest.get("title") or ""),
        signer=str((manifest.get("signature_info") or {}).get("common_name") or ""),
        ingredients=ingredients,
        actions=_actions(claims.get("c2pa.actions.v2")),
        claims=claims,
    )


def require_verified(
    path: Path, anchors_pem: str | None = None, *, name: str | None = None
) -> Verification:
    """Verify and refuse what does not hold.

    Args:
        path: the file.
        anchors_pem: roots to trust; by default the configured or development ones.
        name: what to call it in messages; by default the file's name.

    Raises:
        BadMedia: there is no such file or it is no MP4.
        ProvenanceError: something does not hold; the message lists it.
    """
    found = verify_video(path, anchors_pem)
    if not found.holds:
        raise ProvenanceError(
            f"{name or path.name} does not verify ({found.state}): {'; '.join(found.failures)}; "
            "sign it again from the unsigned render",
            code="provenance.invalid",
            where=name or path.name,
        )
    return found


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(path: Path, anchors: str) -> tuple[dict[str, Any], str]:
    with (
        c2pa_context(anchors) as context,
        path.open("rb") as stream,
        c2pa.Reader(MIME, stream, context=context) as reader,
    ):
        report: dict[str, Any] = json.loads(reader.json())
        return report, str(reader.get_validation_state() or "Invalid")


def _read_failure(error: c2pa.C2paError) -> tuple[str, str]:
    if isinstance(error, c2pa.C2paError.ManifestNotFound):
        return "Unsigned", "there is no C2PA manifest: never signed, or stripped by a conversion"
    return "Unreadable", f"the C2PA manifest cannot be read: {error}"


def _library_failures(report: dict[str, Any], state: str) -> list[str]:
    results = report.get("validation_results", {})
    entries = results.get("activeManifest", {}).get("failure", [])
    failures = [f"{item['code']}: {item.get('explanation', '')}".rstrip(": ") for item in entries]
    if state != "Trusted" and not failures:
        failures.append(f"the C2PA library calls it {state}, not Trusted")
    return failures


def _ingredients(report: dict[str, Any], manifest: dict[str, Any]) -> tuple[IngredientReport, ...]:
    deltas: dict[str, list[str]] = {}
    for delta in report.get("validation_results", {}).get("ingredientDeltas", []):
        label = delta["ingredientAssertionURI"].rpartition("/")[2]
        deltas[label] = [item["code"] for item in delta["validationDeltas"].get("failure", [])]
    found = []
    for item in manifest.get("ingredients", []):
        recorded = (item.get("validation_results") or {}).get("activeManifest") or {}
        codes = [entry["code"] for entry in recorded.get("failure", [])]
        codes += deltas.get(str(item.get("label")), [])
        found.append(
            IngredientReport(
                title=str(item.get("title") or ""),
                relationship=str(item.get("relationship") or ""),
                signed=bool(item.get("active_manifest")),
                failures=tuple(sorted(set(codes) - TOLERATED_IN_INGREDIENTS)),
            )
        )
    return tuple(found)


def _actions(data: Any) -> tuple[ActionReport, ...]:
    reports = []
    for item in (data or {}).get("actions", []):
        agent = item.get("softwareAgent") or {}
        named = f"{agent.get('name', '')} {agent.get('version', '')}" if agent else ""
        reports.append(
            ActionReport(str(item.get("action")), str(item.get("description") or ""), named.strip())
        )
    return tuple(reports)


def table(found: Verification) -> str:
    """A verification as readable text."""
    rows = [
        ("video", str(found.path)),
        ("sha256", found.sha256),
        ("signature", f"{found.state}" + (f", by {found.signer}" if found.signer else "")),
        ("title", found.title or "-"),
    ]
    rows += [
        (
            "ingredient",
            f"{item.title} ({item.relationship}, {'signed' if item.signed else 'unsigned'})"
            + (f": {', '.join(item.failures)}" if item.failures else ""),
        )
        for item in found.ingredients
    ]
    rows += [
        ("action", "  ".join(part for part in (a.action, a.description, a.agent) if part))
        for a in found.actions
    ]
    rows += _claim_rows(found.claims)
    rows += [("FAILS", failure) for failure in found.failures]
    rows.append(("result", "everything holds" if found.holds else "does NOT hold"))
    return "".join(f"{name:<11} {value}\n" for name, value in rows)


def _claim_rows(claims: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    safety = claims.get(SAFETY_LABEL)
    if isinstance(safety, dict):
        rows.append(("safety", f"{safety.get('verdict')} under {safety.get('policy')}"))
        for check in safety.get("checks") or []:
            rows.append(
                (
                    "  check",
                    f"{check.get('name')}: {check.get('verdict')} "
                    f"({check.get('score'):.3g}, limit {check.get('threshold'):.3g})",
                )
            )
    consent = claims.get(CONSENT_LABEL)
    if isinstance(consent, dict):
        for record in consent.get("records") or []:
            rows.append(
                (
                    "consent",
                    f"{record.get('role')} {record.get('recordId')}, until {record.get('expires')}",
                )
            )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """``./understudy verify VIDEO [VIDEO ...]``.

    Returns:
        0 if everything holds for every video, 77 if something does not, 65 for an unreadable file.
    """
    parser = argparse.ArgumentParser(
        prog="understudy verify",
        description="Check a video's signature, trust, ingredients and signed claims.",
    )
    parser.add_argument("video", nargs="+", type=Path)
    parser.add_argument("--anchors", type=Path, help="PEM file with the roots to trust")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(argv)
    worst = 0
    for video in options.video:
        try:
            anchors = options.anchors.read_text() if options.anchors else None
            found = verify_video(video, anchors)
        except UnderstudyError as error:
            sys.stderr.write(f"{error.message}\n")
            worst = max(worst, error.exit_code) if worst != 77 else worst
            continue
        except OSError as error:
            parser.error(f"{options.anchors} cannot be read: {error.strerror}")
        sys.stdout.write(_as_json(found) if options.json else table(found) + "\n")
        worst = worst if found.holds else 77
    return worst


def _as_json(found: Verification) -> str:
    body = {
        "path": str(found.path),
        "sha256": found.sha256,
        "state": found.state,
        "holds": found.holds,
        "failures": list(found.failures),
        "title": found.title,
        "signer": found.signer,
        "ingredients": [vars(item) for item in found.ingredients],
        "actions": [vars(item) for item in found.actions],
        "claims": found.claims,
    }
    return json.dumps(body, ensure_ascii=False) + "\n"


__all__ = [
    "RELEASABLE",
    "ActionReport",
    "IngredientReport",
    "Verification",
    "file_sha256",
    "main",
    "require_verified",
    "table",
    "verify_video",
]


if __name__ == "__main__":
    raise SystemExit(main())
