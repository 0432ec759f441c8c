"""The release decision on one row: the safety verdict, and a person's answer where one is due."""

from __future__ import annotations

from datetime import UTC, datetime

from include.contracts.base import Sha256
from include.contracts.manifest import KeyMaterial, Manifest
from include.contracts.plan import UnitPlan
from include.contracts.stage import Decision
from include.errors import Refused, SafetyBlock
from include.store.cache import ArtifactCache

DECISION = "decision"
"""Artifact name of a person's answer."""
VERDICTS = ("classify", "classify_template")
"""Artifacts of the safety checks."""
_UNDONE = "nudity.unavailable"
_NO_FRAME = "there was no frame to look at"
"""Why a detector that is there has nothing to say (see ``models.safety.nudity``)."""


def decision_material(unit: UnitPlan) -> KeyMaterial:
    """What a decision is keyed by: the video and the policy it was judged under."""
    classify = unit.materials["classify"]
    return KeyMaterial(
        stage=DECISION,
        stage_version=1,
        backend=classify.backend,
        params={"policy": classify.params},
        upstream={"compose": unit.key("compose")},
    )


def decision_of(cache: ArtifactCache, unit: UnitPlan) -> Decision | None:
    """The stored answer for a row's video, or None."""
    found = cache.lookup(DECISION, decision_material(unit).key())
    return None if found is None else Decision.model_validate(found.facts)


def record_decision(
    cache: ArtifactCache, unit: UnitPlan, *, approved: bool, by: str, note: str = ""
) -> Decision:
    """Store a person's answer; the first answer stands.

    Args:
        cache: the tenant's artifacts.
        unit: the row.
        approved: whether the video may be released.
        by: who answered.
        note: what they wrote.
    """
    material = decision_material(unit)
    backend = material.backend
    decision = Decision(
        unit=unit.id,
        video_key=unit.key("compose"),
        policy_version=f"{backend.name}/{backend.version}" if backend else "none",
        approved=approved,
        by=by,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        note=note,
    )
    kept = cache.publish(material, {}, decision.model_dump(mode="json"))
    return Decision.model_validate(kept.facts)


def classified(cache: ArtifactCache, unit: UnitPlan) -> Manifest | None:
    """The row's safety verdict, if it was reached."""
    return cache.lookup("classify", unit.key("classify"))


def lacks_detector(manifest: Manifest) -> bool:
    """Whether safety checks ran where the nudity detector was not installed.

    What they say holds until they can run with it: then the artifact is made anew.
    """
    if manifest.material.stage not in VERDICTS:
        return False
    undone = (f["detail"] for f in manifest.facts.get("findings", ()) if f["rule"] == _UNDONE)
    return not all(detail.endswith(_NO_FRAME) for detail in undone)


def release(cache: ArtifactCache, unit: UnitPlan) -> tuple[str, Sha256] | None:
    """Whether a row may be released; the one gate that signing and publishing both pass.

    Returns:
        (``pass`` or ``reviewed-approved``, key of the verdict), or None when it waits for a
        person.

    Raises:
        SafetyBlock: the verdict is block, or there is none.
        Refused: a person rejected it (``review.rejected``).
    """
    manifest = classified(cache, unit)
    if manifest is None:
        raise SafetyBlock(f"{unit.id}: there is no safety verdict", code="safety.missing")
    verdict = manifest.facts["verdict"]
    if verdict == "pass":
        return "pass", manifest.key
    reasons = "; ".join(manifest.facts["reasons"]) or "no reason given"
    if verdict != "review":
        raise SafetyBlock(f"{unit.id}: blocked by the safety check: {reasons}")
    decision = decision_of(cache, unit)
    if decision is None:
        return None
    if not decision.approved:
        note = f" ({decision.note})" if decision.note else ""
        raise Refused(
            f"{unit.id}: rejected in review by {decision.by}{note}: {reasons}",
            code="review.rejected",
        )
    return "reviewed-approved", manifest.key
