"""When a canary is decided, by the renders that there are.

Whoever looks at growing figures until they please finds what he wants: at one in ten looks in
twenty, not one in forty. So a canary is judged at planned sizes only, ``min_rows`` of each side and
twice as many each time, by all runs that were through by then. The first look has half of the error
that the rules allow, each further one half of what is left (alpha spending; K. K. G. Lan and D. L.
DeMets, Biometrika 70, 1983): all looks together have no more than one look would have had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from include.rollout.records import Comparison, Rules, Verdict
from include.rollout.statistics import Values, compare_groups, overall, summary
from include.rollout.steps import Rollout

LOOKS = 7
"""The last at 64 times ``min_rows``; what is unclear even then runs out of time."""
MOST = 2000
"""Renders of a side that are compared, the newest."""


@dataclass
class Sides:
    """Measures of both sides' renders, those that did not come about included."""

    champion: list[Values] = field(default_factory=list)
    challenger: list[Values] = field(default_factory=list)

    @property
    def rows(self) -> tuple[int, int]:
        """How many there are of each."""
        return len(self.champion), len(self.challenger)

    @property
    def made(self) -> tuple[int, int]:
        """How many of them came about."""
        first, second = (
            sum(not values.get("failed") for values in side)
            for side in (self.champion, self.challenger)
        )
        return first, second

    def __add__(self, other: Sides) -> Sides:
        """Both together, the newest ``MOST`` of each side."""
        return Sides(
            (self.champion + other.champion)[-MOST:], (self.challenger + other.challenger)[-MOST:]
        )


@dataclass(frozen=True)
class Look:
    """What was found at one size."""

    sides: Sides
    found: list[Comparison]
    planned: bool
    """False for a glance at too few renders: only its words count."""

    @property
    def verdict(self) -> Verdict:
        """``as_good`` and ``worse`` decide; two sides that both failed are no evidence."""
        verdict = overall(self.found)
        if not self.planned or verdict not in ("as_good", "worse"):
            return "unclear"
        return verdict


def look(runs: Sequence[Sides], rules: Rules) -> Look:
    """The first planned look that decides, else the newest.

    Args:
        runs: what each run rendered since the canary began, in the order in which they were
            through.
        rules: of the rollout.
    """
    last = None
    for sides, own in _planned(runs, rules):
        last = Look(sides, _judge(sides, own), planned=True)
        if last.verdict != "unclear" and _shown(last, rules):
            return last
    everything = sum(runs, Sides())
    return last or Look(everything, _judge(everything, rules), planned=False)


def _shown(found: Look, rules: Rules) -> bool:
    return found.verdict == "worse" or min(found.sides.made) >= rules.min_rows


def _planned(runs: Sequence[Sides], rules: Rules) -> Iterator[tuple[Sides, Rules]]:
    """The renders at each planned size, and the rules with that look's confidence."""
    sides, left, number = Sides(), 1 - rules.confidence, 0
    counts = (0, 0)
    for run in runs:
        sides = sides + run
        counts = (counts[0] + run.rows[0], counts[1] + run.rows[1])
        reached = False
        while number < LOOKS and min(counts) >= rules.min_rows << number:
            reached, number, left = True, number + 1, left / 2
        if reached:
            yield sides, rules.model_copy(update={"confidence": 1 - left})


def _judge(sides: Sides, rules: Rules) -> list[Comparison]:
    return [compare_groups(r, sides.champion, sides.challenger, rules) for r in rules.canary]


def judge_canary(rollout: Rollout, found: Look, now: datetime) -> tuple[Verdict, str, str]:
    """What the canary's renders say by now.

    Args:
        rollout: in its canary.
        found: what ``look`` returned.
        now: the time.

    Returns:
        ``unclear`` while it goes on; else the verdict, a reason's code, and words.
    """
    rules, began = rollout.begin.rules, rollout.step("canary")
    rows = found.sides.rows
    words = f"{rows[0]} and {rows[1]} renders: {summary(found.found)}"
    if min(found.sides.made) < rules.min_rows:
        words = f"{few_rows(rollout, found.sides.made)}; {words}"
    if found.verdict != "unclear" and _shown(found, rules):
        return found.verdict, f"canary.{found.verdict}", words
    if began and now - began.at > timedelta(hours=rules.max_hours):
        return "worse", "canary.expired", f"not shown in {rules.max_hours:g} hours; {words}"
    return "unclear", "canary.unclear", words


def few_rows(rollout: Rollout, made: tuple[int, int]) -> str:
    """What a canary lacks before it can be decided, and what to do about it."""
    rules = rollout.begin.rules
    return (
        f"{made[1]} renders of {rollout.begin.challenger.name} and {made[0]} of "
        f"{rollout.begin.champion_is.name} came about; at least {rules.min_rows} of each are "
        "needed, and more where they vary. A tenant with few recipients starts it with a larger "
        f"--share (now {rules.share:.0%}), or rules with a longer max_hours (now "
        f"{rules.max_hours:g})"
    )
