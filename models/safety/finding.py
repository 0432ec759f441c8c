"""What a check says, and how findings add up to a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

CheckVerdict = Literal["pass", "review", "block", "unavailable"]
Verdict = Literal["pass", "review", "block"]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Finding:
    """One statement of one check.

    A check that ran says at least one thing: a ``pass`` with its highest score when nothing was
    found. The rule is ``<check>.<rule>``: ``nudity.female_breast_exposed``, ``script.weapons``.
    """

    rule: str
    verdict: CheckVerdict
    score: float
    """In the check's own unit; higher is worse."""
    threshold: float
    """The limit that the score was held against."""
    time_s: float | None = None
    """Where in the video, in seconds; None when it concerns no moment."""
    detail: str = ""
    box: Box | None = None
    """x, y, width, height in pixels of the frame; None when it concerns no region."""

    @property
    def check(self) -> str:
        """The check's name: the rule's first part."""
        return self.rule.partition(".")[0]


def combine(findings: Iterable[Finding], required: Collection[str]) -> Verdict:
    """Add findings up: the worst one decides.

    A required check that is unavailable, or that said nothing at all, makes the verdict at least
    ``review``; a check that nobody requires and that is unavailable changes nothing.

    Args:
        findings: of all checks.
        required: names of the checks (``nudity``, ``script``, ...) that must have run.
    """
    seen = list(findings)
    if any(finding.verdict == "block" for finding in seen):
        return "block"
    if any(finding.verdict == "review" for finding in seen):
        return "review"
    ran = {finding.check for finding in seen if finding.verdict == "pass"}
    unavailable = {finding.check for finding in seen if finding.verdict == "unavailable"}
    return "pass" if set(required) <= ran - unavailable else "review"


def unavailable(check: str, why: str) -> Finding:
    """The finding of a check that could not run."""
    return Finding(f"{check}.unavailable", "unavailable", 0.0, 0.0, detail=why)
