"""``./understudy quote``: what a brief would render; renders nothing."""

from __future__ import annotations

import argparse
import os
import sys

from include.cli.follow import absolute
from include.contracts.plan import CampaignPlan, ShardPlan
from include.demand import demand
from include.errors import UnderstudyError
from include.planning import plan_campaign
from include.settings import PROJECT, Settings
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
    _print(plan)
    return 0


def _print(plan: CampaignPlan) -> None:
    print(f"{plan.campaign}: {plan.accepted} rows accepted in {len(plan.shards)} shards")
    for reject in plan.rejects:
        print(f"  rejected: {reject.message}")
    cache = ArtifactCache(open_store(plan.store), plan.tenant)
    rows = published = 0
    for ref in plan.shards:
        shard = ShardPlan.model_validate_json(cache.store.get(ref.plan))
        rows += len(shard.rows)
        results = demand(cache, shard, STAGES["publish"]).results
        published += sum(result.status == "hit" for result in results)
    print(f"  published already: {published}; to render: {rows - published}")


if __name__ == "__main__":
    sys.exit(main())
