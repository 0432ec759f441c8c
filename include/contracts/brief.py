"""The brief: what a marketing engineer writes, one YAML file per campaign."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from include.contracts.base import Contract, Slug

CHECKS = ("consent", "nudity", "script", "flash")


def _seconds(value: object) -> object:
    """Accept ``1.2``, ``"1.2s"`` and ``"1200ms"``."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s)?\s*", value)
        if not match:
            raise ValueError(f"{value!r} is not a time; write it like 1.2s or 1200ms")
        return float(match[1]) / (1000.0 if match[2] == "ms" else 1.0)
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(ge=0)]
"""A time in seconds; ``1.2s`` and ``1200ms`` are read too."""


class FaceAt(Contract):
    """Choose the presenter by a point: the face nearest to it at that time."""

    at: tuple[float, float]
    """Pixels of the template as displayed, x to the right and y down."""
    time: Seconds = 0.0


class FaceLike(Contract):
    """Choose the presenter by a photo: in each shot whoever is that person."""

    like: str


FaceChoice = Literal["largest"] | FaceAt | FaceLike


class TemplateSpec(Contract):
    """The template video that all recipients share."""

    video: str
    face: FaceChoice = "largest"
    bed: str | None = None
    """What stays under the voice; without it only the voice is heard."""
    consent: str | None = None
    """The presenter's consent record."""


class VoiceSpec(Contract):
    """Where the recipient's voice line goes, and what to do when it does not fit."""

    at: Seconds = 0.0
    longer: Literal["fail", "slow_video", "trim"] = "fail"
    shorter: Literal["hold", "loop"] = "hold"

    @model_validator(mode="after")
    def _supported(self) -> VoiceSpec:
        if self.longer == "slow_video" or self.shorter == "loop":
            raise ValueError(
                "voice.longer: slow_video and voice.shorter: loop are not available in this "
                "version; use longer: fail or trim, shorter: hold"
            )
        return self


class OutputSpec(Contract):
    """Delivery settings."""

    scale: Literal[1, 2, 4] = 2
    upscaler: Slug = "auto"
    """``auto`` (the network, or Lanczos for a preview), ``compact``, ``lanczos`` or the name of a
    declared backend. A name holds for every tier."""
    crf: int = Field(default=18, ge=10, le=35)


def _known_checks(value: tuple[str, ...]) -> tuple[str, ...]:
    for name in value:
        if name not in CHECKS:
            raise ValueError(f"unknown check {name!r}; known: {', '.join(CHECKS)}")
    return value


class PolicySpec(Contract):
    """Release policy."""

    review: Literal["borderline", "all", "none"] = "borderline"
    """Who sees a person: borderline rows, every row, or nobody (borderline rows are blocked)."""
    required: Annotated[tuple[str, ...], AfterValidator(_known_checks)] = CHECKS
    min_success_ratio: float = Field(default=0.95, ge=0, le=1)


class BudgetSpec(Contract):
    """What the campaign may cost."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    limit: float = Field(gt=0)


class Brief(Contract):
    """A campaign, as written. Paths are relative to the brief's folder."""

    campaign: Slug
    tenant: Slug
    template: TemplateSpec
    voice: VoiceSpec = VoiceSpec()
    tier: Literal["preview", "final"] = "final"
    output: OutputSpec = OutputSpec()
    recipients: str
    policy: PolicySpec = PolicySpec()
    budget: BudgetSpec | None = None
