"""What the signed manifest claims: built from typed facts, never from free-form JSON.

Shape after C2PA 2.4 (claim v2, ``c2pa.actions.v2``), CAWG training and data mining, and the IPTC
digital source types. Nothing here names a person: recipients appear by id, consent by the record's
id and digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

GENERATOR = "understudy"
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
COMPOSITE_AI = SOURCE_TYPES + "compositeWithTrainedAlgorithmicMedia"
ENHANCED = SOURCE_TYPES + "algorithmicallyEnhanced"
ALGORITHMIC = SOURCE_TYPES + "algorithmicMedia"

SAFETY_LABEL = "com.understudy.safety"
CONSENT_LABEL = "com.understudy.consent"
CAPTIONS_LABEL = "com.understudy.captions"
CONTAINER_LABEL = "com.understudy.container"
RELEASABLE = ("pass", "reviewed-approved")
"""Verdicts with which a video may leave."""

NO_TRAINING = ("cawg.ai_inference", "cawg.ai_generative_training", "cawg.ai_training")
NO_MINING = "cawg.data_mining"


@dataclass(frozen=True)
class Agent:
    """The code and weights that did one stage's work."""

    name: str
    version: str
    weights_sha256: str | None = None

    def claim(self) -> dict[str, str]:
        """As a ``softwareAgent``."""
        agent = {"name": self.name, "version": self.version}
        if self.weights_sha256:
            agent["com.understudy.weightsSha256"] = self.weights_sha256
        return agent


@dataclass(frozen=True)
class SafetyCheck:
    """One check's outcome, as summarised in the claim."""

    name: str
    verdict: str
    score: float
    threshold: float


@dataclass(frozen=True)
class SafetySummary:
    """The verdict under which the video was released."""

    policy: str
    """Name and version of the thresholds: ``understudy-safety/1``."""
    verdict: Literal["pass", "reviewed-approved"]
    checks: tuple[SafetyCheck, ...]


@dataclass(frozen=True)
class ConsentClaim:
    """A consent record by id and digest; no name, no photo."""

    record_id: str
    record_sha256: str
    role: Literal["recipient", "presenter"]
    expires: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Captions:
    """The caption file that was published beside the video."""

    language: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Everything that the manifest of one render says."""

    title: str
    """The video's own title: campaign and recipient id."""
    run_id: str
    version: str
    """Understudy's version."""
    safety: SafetySummary
    consents: tuple[ConsentClaim, ...]
    face_swap: Agent | None = None
    lip_sync: Agent | None = None
    voice_synthesis: Agent | None = None
    upscale: Agent | None = None
    captions: Captions | None = None
    overlays: tuple[str, ...] = ()
    """Texts burnt into the picture: the disclosure label, the preview mark."""

    @property
    def lip_synced(self) -> bool:
        """Whether the mouth was made anew."""
        return self.lip_sync is not None

    @property
    def voice_synthesised(self) -> bool:
        """Whether the voice is a synthesiser's."""
        return self.voice_synthesis is not None

    @property
    def upscaled(self) -> bool:
        """Whether the picture was enlarged by a network or filter."""
        return self.upscale is not None


@dataclass(frozen=True)
class Ingredient:
    """A file that went into the video; the title is an id, never a person's name."""

    title: str
    relationship: Literal["parentOf", "componentOf"]
    label: Literal["template", "face", "voice", "bed"]
    mime: str
    path: Path


def build_manifest(
    provenance: Provenance, ingredients: Sequence[Ingredient], file_type: str
) -> dict[str, Any]:
    """The manifest definition to hand to the C2PA builder.

    Args:
        provenance: what happened.
        ingredients: exactly one ``parentOf`` (the template) and any components.
        file_type: content of the video's ``ftyp`` box in hexadecimal.

    Raises:
        ValueError: there is not exactly one parent, or labels repeat.
    """
    labels = [item.label for item in ingredients]
    parents = [item.label for item in ingredients if item.relationship == "parentOf"]
    if len(parents) != 1 or len(set(labels)) != len(labels):
        raise ValueError(f"one parentOf ingredient and distinct labels are needed, not {labels}")
    return {
        "claim_version": 2,
        "title": provenance.title,
        "format": "video/mp4",
        "claim_generator_info": [
            {
                "name": GENERATOR,
                "version": provenance.version,
                "com.understudy.pipelineRun": provenance.run_id,
            }
        ],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "created": True,
                "data": {
                    "actions": _actions(provenance, parents[0], labels),
                    "allActionsIncluded": True,
                },
            },
            {
                "label": "cawg.training-mining",
                "data": {"entries": {k: {"use": "notAllowed"} for k in (*NO_TRAINING, NO_MINING)}},
            },
            *_own_assertions(provenance),
            {"label": CONTAINER_LABEL, "data": {"ftyp": file_type}},
        ],
    }


def _actions(provenance: Provenance, parent: str, labels: Sequence[str]) -> list[dict[str, Any]]:
    actions: list[dict[str, Any]] = [_action("c2pa.opened", [parent])]
    components = [label for label in labels if label != parent]
    if components:
        actions.append(_action("c2pa.placed", components))
    if provenance.face_swap:
        actions.append(
            _action(
                "c2pa.edited",
                [label for label in components if label == "face"],
                description="face swap",
                source=COMPOSITE_AI,
                agent=provenance.face_swap,
            )
        )
    voice = [label for label in components if label == "voice"]
    if provenance.voice_synthesis:
        actions.append(
            _action(
                "c2pa.edited",
                voice,
                description="synthetic voice",
                source=ALGORITHMIC,
                agent=provenance.voice_synthesis,
            )
        )
    if provenance.lip_sync:
        dubbed = _action(
            "c2pa.dubbed",
            voice,
            description="lip sync",
            source=COMPOSITE_AI,
            agent=provenance.lip_sync,
        )
        lips = {"type": "identified", "item": {"identifier": "lips", "value": "lips"}}
        actions.append({**dubbed, "changes": [{"region": [lips]}]})
    if provenance.upscale:
        actions.append(
            _action(
                "c2pa.enhanced", description="upscaling", source=ENHANCED, agent=provenance.upscale
            )
        )
    actions.extend(_action("c2pa.addedText", description=text) for text in provenance.overlays)
    return [*actions, _action("c2pa.transcoded", [parent]), _action("c2pa.published")]


def _action(
    name: str,
    ingredients: Sequence[str] = (),
    *,
    description: str | None = None,
    source: str | None = None,
    agent: Agent | None = None,
) -> dict[str, Any]:
    action: dict[str, Any] = {"action": name}
    if description:
        action["description"] = description
    if source:
        action["digitalSourceType"] = source
    if agent:
        action["softwareAgent"] = agent.claim()
    if ingredients:
        action["parameters"] = {"ingredientIds": list(ingredients)}
    return action


def _own_assertions(provenance: Provenance) -> list[dict[str, Any]]:
    safety = provenance.safety
    checks = [
        {
            "name": check.name,
            "verdict": check.verdict,
            "score": float(check.score),
            "threshold": float(check.threshold),
        }
        for check in safety.checks
    ]
    consents = [
        {
            "recordId": consent.record_id,
            "recordSha256": consent.record_sha256,
            "role": consent.role,
            "expires": consent.expires,
        }
        for consent in provenance.consents
    ]
    assertions: list[dict[str, Any]] = [
        {
            "label": SAFETY_LABEL,
            "data": {"policy": safety.policy, "verdict": safety.verdict, "checks": checks},
        },
        {"label": CONSENT_LABEL, "data": {"records": consents}},
    ]
    if provenance.captions:
        captions = provenance.captions
        data = {"language": captions.language, "sha256": captions.sha256}
        assertions.append({"label": CAPTIONS_LABEL, "data": data})
    return assertions
