"""What a canary's renders look like beside the others of the same campaigns and time.

Who is in which group is decided by the plans; figures are the feature rows that campaigns leave
(``include/drift/rows.py``). Only renders that were made since the canary began count. Needs pandas
and pyarrow, which the Airflow side has: import this module inside tasks only.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from include.contracts.base import Sha256
from include.contracts.live import Canary
from include.contracts.plan import ShardPlan, UnitPlan
from include.contracts.stage import StageResult, UnitResult
from include.drift.rows import read_rows
from include.features.catalogue import FEATURES
from include.live import applies, in_canary
from include.report import report_prefix
from include.rollout.canary import Sides, judge_canary, look
from include.rollout.golden import LAST
from include.rollout.machine import watched
from include.rollout.measures import failed_measures, render_measures
from include.rollout.records import Begin, Verdict
from include.rollout.statistics import Values
from include.rollout.steps import Rollout
from include.stages.specs import STAGES
from include.store import ObjectStore
from include.store.bulk import in_parallel
from include.store.cache import ArtifactCache


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
    found = look(collect(store, rollout), rollout.begin.rules)
    moved, verdict = watched(store, rollout, found, by=by, now=now)
    _, _, said = judge_canary(rollout, found, now or datetime.now(UTC))
    return moved, verdict, said


def collect(store: ObjectStore, rollout: Rollout) -> list[Sides]:
    """What each run rendered for both sides since the canary began, in the order they ended.

    A run counts when it is through, all of its rows at once: failures show at once, what was made
    only after everybody's reviews, and who looked in between would see nothing but failures.
    """
    step, begin = rollout.step("canary"), rollout.begin
    if step is None:
        return []
    canary = Canary(backend=begin.challenger, share=begin.rules.share, rollout=rollout.id)
    finished = _measured(store, rollout.tenant, step.at)
    cache = ArtifactCache(store, rollout.tenant)
    runs: dict[tuple[datetime, str], Sides] = {}
    for ended, plan, unit, result in _rendered(store, rollout.tenant, step.at):
        tries = _side(begin, canary, plan, unit)
        if tries is None or result.key is None:
            continue
        values = finished.get(result.key)
        if values is None and (
            result.status in ("made", "hit") or not _got_to(cache, begin, plan, unit)
        ):
            continue  # made before the canary began, or never reached what is tried
        sides = runs.setdefault(ended, Sides())
        side = sides.challenger if tries else sides.champion
        side.append({**(values or failed_measures()), "voiced": float(unit.lip_sync)})
    return [runs[ended] for ended in sorted(runs)]


def _got_to(cache: ArtifactCache, begin: Begin, plan: ShardPlan, unit: UnitPlan) -> bool:
    """Whether a row that failed had all that the stage needs: a bad photo is no backend's fault."""
    for name in STAGES[begin.stage].upstream:
        owner = unit if name in unit.materials else plan.template
        if name in owner.materials and cache.lookup(name, owner.key(name)) is None:
            return False
    return True


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
) -> Iterator[tuple[tuple[datetime, str], ShardPlan, UnitPlan, UnitResult]]:
    """What became of every row that got to be measured, newest run first, each key once.

    With when its run was through, which is when its report was written, and the run's name.
    """
    reports = {
        info.key.rsplit("/", 1)[0]: info.modified
        for info in store.list(f"{tenant}/report/")
        if info.key.endswith("/results.csv") and info.modified >= since
    }
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
        report = report_prefix(tenant, plan.brief.campaign, result.run_id)
        if report not in reports:
            continue
        for unit in result.units:
            if unit.key not in done:
                done.add(unit.key)
                yield (reports[report], report), plan, plan.unit(unit.id), unit


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
