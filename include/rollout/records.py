"""What a rollout is made of: rules, comparisons, and the steps that it has gone through."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from include.contracts.base import Contract, Slug
from include.contracts.live import LiveStage
from include.contracts.manifest import BackendRef

Part = Literal["pictures", "renders", "canary"]
Verdict = Literal["as_good", "worse", "unclear", "not_measured"]
State = Literal["started", "measured", "canary", "watched", "promoted", "rolled_back"]
ENDED: tuple[State, ...] = ("promoted", "rolled_back")


class Rule(Contract):
    """When a challenger is not worse than the champion in one measure."""

    measure: str
    better: Literal["higher", "lower", "same"]
    margin: float = Field(ge=0)
    """How much worse is still as good."""
    relative: bool = False
    """The margin is a share of the champion's value; only for measures above 0."""
    enough: float | None = None
    """On the good side of this a challenger is good enough, whatever the champion does."""


class Rules(Contract):
    """How challengers are judged; see ``rules.yaml``."""

    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    resamples: int = Field(default=4000, ge=200)
    share: float = Field(default=0.1, gt=0, lt=1)
    """Of recipients; somebody has to be left to compare with."""
    min_pairs: int = Field(default=3, ge=2)
    """Golden recipients that the champion has to render: an interval of one value is none."""
    min_rows: int = Field(default=40, ge=1)
    """Renders of each side before a canary is decided; looked at again at twice as many each."""
    min_values: int = Field(default=10, ge=2)
    """Of a measure, on a canary's side, before a mean is taken of it."""
    missing: float = Field(default=0.12, ge=0)
    """How much larger the share of a canary's renders that cannot be measured may be."""
    max_hours: float = Field(default=72, gt=0)
    pictures: tuple[Rule, ...] = ()
    renders: tuple[Rule, ...] = ()
    canary: tuple[Rule, ...] = ()


class Comparison(Contract):
    """One rule, judged."""

    part: Part
    rule: Rule
    verdict: Verdict
    champions: int
    """Values of the champion's side; with as many pairs for pictures and golden renders."""
    challengers: int
    champion: float | None = None
    """Mean."""
    challenger: float | None = None
    """Mean."""
    difference: float | None = None
    """Challenger minus champion; as a share of the champion's value where the rule is relative."""
    low: float | None = None
    """Confidence interval of the difference; None for an end that it does not have."""
    high: float | None = None
    said: str
    """The comparison in words."""


class Begin(Contract):
    """What a rollout was started with."""

    stage: LiveStage
    champion: BackendRef | None
    """As the pointer had it; None for the built-in default."""
    champion_is: BackendRef
    """The backend that this means."""
    challenger: BackendRef
    golden: str
    """The golden campaign's brief; empty for one of the sample's people."""
    rules: Rules


class Step(Contract):
    """One step of a rollout; never changed. The newest says where it stands."""

    schema_version: Literal[1] = 1
    tenant: Slug
    rollout: Slug
    number: int = Field(ge=1)
    state: State
    at: datetime
    by: str
    reason: str = ""
    """Stable code: ``golden.worse``, ``canary.as_good``, ``person`` and the like."""
    said: str
    """What happened, in words."""
    comparisons: tuple[Comparison, ...] = ()
    live: int | None = None
    """Number of the pointer's state that this step wrote."""
    begin: Begin | None = None
    """In the first step: what is rolled out, and how it is judged."""
