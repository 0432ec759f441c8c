"""What a canary's renders look like beside the others of the same campaigns and time.

Who is in which group is decided by the plans; figures are the feature rows that campaigns leave
(``include/drift/rows.py``). Only renders that were made since the canary began count. Needs pandas
and pyarrow, which the Airflow side has: import this module inside tasks only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from include.contracts.base import Sha256
from include.contracts.live import Canary
from include.contracts.plan import ShardPlan, UnitPlan
from include.contracts.stage import StageResult, UnitResult
from include.drift.rows import read_rows
from include.features.catalogue import FEATURES
from include.live import applies, in_canary
from include.rollout.canary import few_rows
from include.rollout.golden import LAST
from include.rollout.machine import watched
from include.rollout.measures import failed_measures, render_measures
from include.rollout.records import Begin, Comparison, Verdict
from include.rollout.statistics import Values, compare_groups
from include.rollout.steps import Rollout
from include.store import ObjectStore
from include.store.bulk import in_parallel

MOST = 2000
"""Renders of a side that are compared, the newest first."""


@dataclass
class Sides:
    """Measures of both sides' renders, those that did not come about included."""

    champion: list[Values] = field(default_factory=list)
    challenger: list[Values] = field(default_factory=list)

    @property
    def rows(self) -> tuple[int, int]:
        """How many there are of each."""
        return len(self.champion), len(self.challenger)


def watch(
    store: ObjectStore, rollout: Rollout, *, by: str, now: datetime | None = None
) -> tuple[Rollout, Verdict, str]:
    """Judge a canary by what was rendered so far; a decision becomes a step.

    Returns:
        The rollout, the verdict (``unclear`` while it goes on), and what was found in words.
    """
    if rollout.ended or rollout.step("canary") is None:
        return rollout, "not_measured", "there is no canary to watch"
    seen = rollout.step("watched")
    if seen is not None:
        return rollout, "as_good" if seen.reason == "canary.as_good" else "worse", seen.said
    sides = collect(store, rollout)
    found = judge(rollout, sides)
    moved, verdict = watched(store, rollout, found, sides.rows, by=by, now=now)
    said = "; ".join(one.said for one in found if one.verdict in ("worse", "unclear"))
    counts = f"{sides.rows[0]} and {sides.rows[1]} renders"
    if min(sides.rows) < rollout.begin.rules.min_rows:
        counts = few_rows(rollout, sides.rows)
    return moved, verdict, f"{counts}. {said}".strip()


def judge(rollout: Rollout, sides: Sides) -> list[Comparison]:
    """Every rule of the canary."""
    rules = rollout.begin.rules
    return [compare_groups(r, sides.champion, sides.challenger, rules) for r in rules.canary]


def collect(store: ObjectStore, rollout: Rollout) -> Sides:
    """The renders of both sides since the canary began."""
    step, begin = rollout.step("canary"), rollout.begin
    sides = Sides()
    if step is None:
        return sides
    canary = Canary(backend=begin.challenger, share=begin.rules.share, rollout=rollout.id)
    finished = _measured(store, rollout.tenant, step.at)
    for plan, unit, result in _rendered(store, rollout.tenant, step.at):
        tries = _side(begin, canary, plan, unit)
        if tries is None or result.key is None:
            continue
        values = finished.get(result.key)
        if values is None and result.status not in ("failed", "skipped"):
            continue  # made before the canary began, or its row is not collected yet
        side = sides.challenger if tries else sides.champion
        if len(side) < MOST:
            side.append(values or failed_measures())
    return sides


def _side(begin: Begin, canary: Canary, plan: ShardPlan, unit: UnitPlan) -> bool | None:
    """Whether a render is the challenger's; None where the rollout had no say in it."""
    if not applies(begin.stage, begin.challenger, plan.brief):
        return None
    used = unit.materials[begin.stage].backend
    tries = in_canary(canary.rollout, unit.id, canary.share)
    expected = begin.challenger if tries else begin.champion_is
    return tries if used == expected else None


def _rendered(
    store: ObjectStore, tenant: str, since: datetime
) -> Iterator[tuple[ShardPlan, UnitPlan, UnitResult]]:
    """What became of every row that got to be measured, newest run first, each key once."""
    found = [
        (info.modified, info.key)
        for info in store.list(f"{tenant}/run/")
        if info.key.endswith(".result.json") and LAST in info.key and info.modified >= since
    ]
    plans: dict[str, ShardPlan] = {}
    done: set[Sha256 | None] = set()
    keys = [key for _, key in sorted(found, reverse=True)]
    bodies = in_parallel(store.get, keys)
    for result in map(StageResult.model_validate_json, bodies):
        if result.stage != LAST:
            continue
        if result.plan not in plans:
            plans[result.plan] = ShardPlan.model_validate_json(store.get(result.plan))
        plan = plans[result.plan]
        for unit in result.units:
            if unit.key not in done:
                done.add(unit.key)
                yield plan, plan.unit(unit.id), unit


def _measured(store: ObjectStore, tenant: str, since: datetime) -> dict[Sha256, Values]:
    """Measures of the renders that were measured since, by the key of their features."""
    frame = read_rows(store, tenant, "render", since.astimezone(UTC))
    names = [feature.name for feature in FEATURES["render"]]
    return {
        str(row["asset"]): render_measures({n: _plain(row[n]) for n in names})
        for row in frame.to_dict("records")
    }


def _plain(value: object) -> float | str | bool | None:
    """A cell as features have it: NaN is None."""
    if isinstance(value, (str, bool)) or value is None:
        return value
    if isinstance(value, (int, float)):
        return None if value != value else float(value)
    return None
