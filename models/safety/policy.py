"""Thresholds as data: a named, versioned policy, whose digest belongs into the stage's key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from models.safety.finding import CheckVerdict


@dataclass(frozen=True)
class Limits:
    """From ``review`` upwards a person looks; from ``block`` upwards nobody needs to."""

    review: float
    block: float

    def verdict(self, score: float) -> CheckVerdict:
        """Judge a score."""
        if score >= self.block:
            return "block"
        return "review" if score >= self.review else "pass"

    def crossed(self, score: float) -> float:
        """The limit that a score crossed, or would have to cross first."""
        return self.block if score >= self.block else self.review


NEVER = 2.0
"""Above every probability: such a class is never blocked without a person."""

_NUDITY: Mapping[str, Limits] = {
    "FEMALE_GENITALIA_EXPOSED": Limits(0.30, 0.60),
    "MALE_GENITALIA_EXPOSED": Limits(0.30, 0.60),
    "ANUS_EXPOSED": Limits(0.30, 0.60),
    "FEMALE_BREAST_EXPOSED": Limits(0.35, 0.65),
    "BUTTOCKS_EXPOSED": Limits(0.40, 0.70),
    "MALE_BREAST_EXPOSED": Limits(0.60, NEVER),
    "FEMALE_GENITALIA_COVERED": Limits(0.60, NEVER),
    "ANUS_COVERED": Limits(0.60, NEVER),
    "BUTTOCKS_COVERED": Limits(0.75, NEVER),
}


@dataclass(frozen=True)
class Policy:
    """All thresholds of the safety checks."""

    name: str = "understudy-safety"
    version: int = 1
    nudity: Mapping[str, Limits] = field(default_factory=lambda: dict(_NUDITY))
    """Per class of the detector, a probability; classes that are not listed are harmless."""
    flash_badness: Limits = Limits(review=12.0, block=28.0)
    """ffmpeg's ``photosensitivity`` badness. Measured at 25 fps: a black and white strobe over the
    whole picture has about 4.2 a hertz, over 30% of it at 10 Hz 12.2; ordinary clips stay below 3.
    """
    flash_per_second: Limits = Limits(review=4.0, block=7.0)
    """General or red flashes within one second; ITU-R BT.1702 and WCAG 2.3.1 allow three."""

    @property
    def id(self) -> str:
        """Name and version, as a manifest states it."""
        return f"{self.name}/{self.version}"

    @property
    def sha256(self) -> str:
        """Digest of all thresholds: changes even when somebody forgets the version."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


DEFAULT_POLICY = Policy()
