"""When a canary is decided, by the renders that there are."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from include.rollout.records import Comparison, Verdict
from include.rollout.statistics import overall, summary
from include.rollout.steps import Rollout


def judge_canary(
    rollout: Rollout, found: Sequence[Comparison], rows: tuple[int, int], now: datetime
) -> tuple[Verdict, str, str]:
    """What the canary's renders say by now.

    Args:
        rollout: in its canary.
        found: the rules, judged.
        rows: finished and failed renders of champion and challenger.
        now: the time.

    Returns:
        ``unclear`` while it goes on; else the verdict, a reason's code, and words.
    """
    rules, began = rollout.begin.rules, rollout.step("canary")
    enough = min(rows) >= rules.min_rows
    verdict = overall(found)
    words = f"{rows[0]} and {rows[1]} renders: {summary(found)}"
    if not enough:
        words = f"{few_rows(rollout, rows)}; {words}"
    if enough and verdict in ("worse", "as_good"):
        return verdict, f"canary.{verdict}", words
    if began and now - began.at > timedelta(hours=rules.max_hours):
        return "worse", "canary.expired", f"not shown in {rules.max_hours:g} hours; {words}"
    return "unclear", "canary.unclear", words


def few_rows(rollout: Rollout, rows: tuple[int, int]) -> str:
    """What a canary lacks before it can be decided, and what to do about it."""
    rules = rollout.begin.rules
    return (
        f"{rows[1]} renders of {rollout.begin.challenger.name} and {rows[0]} of "
        f"{rollout.begin.champion_is.name}; at least {rules.min_rows} of each are needed, and more "
        "where they vary. A tenant with few recipients starts it with a larger --share (now "
        f"{rules.share:.0%}), or rules with a longer max_hours (now {rules.max_hours:g})"
    )
