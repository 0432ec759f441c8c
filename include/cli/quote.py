"""``./understudy quote``: what a brief would render; renders nothing."""

from __future__ import annotations

import argparse
import os
import sys

from include.cli.follow import absolute
from include.contracts.plan import CampaignPlan, ShardPlan
from include.demand import FINAL, demand
from include.errors import UnderstudyError
from include.planning import plan_campaign
from include.remote.fallback import rows_of
from include.settings import PROJECT, Settings
from include.sharding import load_times, predict_seconds
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache


def main(argv: list[str] | None = None) -> int:
    """Plan a brief and say what is missing; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./understudy quote", description=__doc__)
    parser.add_argument("brief", help="path of the brief, or s3://")
    parser.add_argument("--store", help="object store: a folder or s3://bucket/prefix")
    parser.add_argument("--tier", choices=("preview", "final"), help="over the brief's own")
    args = parser.parse_args(argv)
    os.environ.setdefault("UNDERSTUDY_ROOTS", os.pathsep.join((str(PROJECT), os.getcwd())))
    if args.store:
        os.environ["UNDERSTUDY_STORE"] = absolute(args.store)
    try:
        settings = Settings.from_env()
        overrides = {"tier": args.tier} if args.tier else None
        plan = plan_campaign(absolute(args.brief), settings, overrides=overrides)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    _print(plan, settings)
    return 0


def _print(plan: CampaignPlan, settings: Settings) -> None:
    print(f"{plan.campaign}: {plan.accepted} rows accepted in {len(plan.shards)} shards")
    for reject in plan.rejects:
        print(f"  rejected: {reject.message}")
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    rows = published = unfinished = 0
    for ref in plan.shards:
        done = 0
        for part, units in rows_of(cache.store, ref):
            results = demand(cache, part.shard, STAGES[FINAL], rows=units).results
            done += sum(result.status == "hit" for result in results)
        rows += ref.rows
        published += done
        unfinished += done < ref.rows
    print(f"  published already: {published}; to render: {rows - published}")
    _predict(plan, cache, rows - published, unfinished, settings)


def _predict(
    plan: CampaignPlan, cache: ArtifactCache, rows: int, shards: int, settings: Settings
) -> None:
    own = ShardPlan.model_validate_json(cache.store.get(plan.template.plan))
    times = load_times(cache.store, plan.tenant, own.template)
    specs = [spec for spec in STAGES.values() if spec.scope == "template"]
    compiled = not any(
        wanted.to_make or any(unit.status == "skipped" for unit in wanted.results)
        for wanted in (demand(cache, own, spec) for spec in specs)
    )
    slots = settings.slots
    seconds = predict_seconds(rows, shards, slots, times, compiled)
    alone = predict_seconds(rows, shards, 1, times, compiled)
    source = "measured here" if times.stages else "of the sample campaign: nothing measured yet"
    print(f"  predicted: {_duration(seconds)} with {slots} stage processes at a time ({source})")
    cost = alone * settings.threads / 3600 * settings.core_hour
    print(f"  predicted cost: {cost:.2f} at {settings.core_hour:g} a core hour")


def _duration(seconds: float) -> str:
    """In words that are as exact as a prediction can be."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


if __name__ == "__main__":
    sys.exit(main())
