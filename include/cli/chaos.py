"""``./understudy chaos``: rounds of faults, and what held."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.chaos import invariants
from include.chaos.campaign import (
    CAMPAIGN,
    RECIPIENTS,
    brief_for,
    give_template,
    make_media,
    remove_brief,
    units_of,
)
from include.chaos.report import round_row, summary, table
from include.chaos.rounds import Round, RoundFacts
from include.chaos.schedule import KINDS, RoundPlan, make_schedule, possible
from include.chaos.world import HOME, World
from include.cli.follow import DAG
from include.cli.progress import Progress
from include.contracts.plan import CampaignPlan
from include.errors import UnderstudyError
from include.settings import PROJECT, Settings
from include.store import open_store

LEAST_LIMIT_S = 600.0
"""The shortest time after which a round is given up."""


def main(argv: list[str] | None = None) -> int:
    """Run the rounds; 0 only if every promise held in each of them."""
    parser = argparse.ArgumentParser(
        prog="./understudy chaos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {n:20}{k.does}" for n, k in KINDS.items()),
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--faults", default="", help="only these, separated by commas")
    parser.add_argument("--per-round", type=int, default=3, help="faults in each round")
    parser.add_argument(
        "--recipients", type=int, choices=range(1, RECIPIENTS + 1), default=RECIPIENTS
    )
    parser.add_argument("--seed", type=int, default=1, help="the same seed plans the same faults")
    parser.add_argument("--store", choices=["dir", "s3"], default="dir")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--minutes", type=float, default=60.0, help="no round begins after this")
    parser.add_argument("--out", type=Path, default=PROJECT / "out" / "chaos.json")
    args = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is stopped
    world = World(args.store, args.database)
    try:
        return _Chaos(world, args).run()
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nunderstudy: stopped", file=sys.stderr)
        return 130
    finally:
        world.stop()


class _Chaos:
    """All rounds of one command."""

    def __init__(self, world: World, args: argparse.Namespace) -> None:
        self._world = world
        self._args = args
        self._progress = Progress()
        self._end = time.monotonic() + args.minutes * 60
        self._rows: list[dict[str, Any]] = []

    def run(self) -> int:
        """Run everything; returns the exit code."""
        say = self._progress.line
        os.environ["UNDERSTUDY_STATE"] = str(HOME / "state")
        say("making the campaign's media")
        self._media = HOME / "campaign"
        make_media(self._media, Settings.from_env())
        say(f"starting Airflow, store {self._args.store}, database {self._args.database}")
        self._world.start()
        kinds = possible(self._world.having, [f for f in self._args.faults.split(",") if f])
        left_out = [name for name in KINDS if name not in kinds]
        if left_out and not self._args.faults:
            say(f"not possible here: {', '.join(left_out)}")
        plans = make_schedule(self._args.seed, self._args.rounds, kinds, self._args.per_round)
        self._prepare()
        try:
            for plan in plans:
                if time.monotonic() > self._end:
                    say(f"time is up: {len(plans) - plan.number + 1} rounds were not begun")
                    break
                self._round(plan)
        finally:
            print("\n" + table(self._rows) + "\n\n" + summary(self._rows))
            self._write(left_out)
        complete = len(self._rows) == 1 + len(plans)  # with the undisturbed one
        return 0 if complete and all(not row["wrong"] for row in self._rows) else 1

    def _prepare(self) -> None:
        """The undisturbed round: what everything is compared with, and how long it takes."""
        facts = self._carry_out(RoundPlan(0, True, ()), usual_s=60.0, limit_s=1800.0)
        run = facts.runs[0]
        if run.plan is None or run.state != "success":
            raise UnderstudyError(f"the undisturbed campaign did not succeed: {run.totals}")
        self._reference: CampaignPlan = run.plan
        self._digests = invariants.digests(run.plan)
        self._usual = facts.seconds
        self._recipients = [row.id for shard in units_of(run.plan) for row in shard.rows]
        self._judge(facts)

    def _round(self, plan: RoundPlan) -> None:
        usual = self._usual if plan.cold else self._usual * 0.7
        facts = self._carry_out(plan, usual_s=usual, limit_s=max(LEAST_LIMIT_S, 5 * self._usual))
        self._judge(facts)

    def _carry_out(self, plan: RoundPlan, *, usual_s: float, limit_s: float) -> RoundFacts:
        tenant = f"chaos-{self._world.token[:6]}-{plan.number:03}"
        say = self._progress.line
        kinds = ", ".join(fault.kind for fault in plan.faults) or "undisturbed"
        say(f"round {plan.number}, {'cold' if plan.cold else 'warm'}: {kinds}")
        brief = brief_for(self._media, tenant, self._world.settings, self._args.recipients)
        if not plan.cold:
            give_template(self._reference, tenant)
        going = Round(self._world, plan, brief, tenant, usual_s=usual_s, limit_s=limit_s, say=say)
        try:
            return going.run()
        finally:
            remove_brief(self._media, tenant)

    def _judge(self, facts: RoundFacts) -> None:
        """Check every promise; remember and say what was found."""
        wrong = self._wrong(facts)
        attempts = [
            invariants.count_attempts(run.tasks, run.plan, DAG, run.run_id) for run in facts.runs
        ]
        self._rows.append(round_row(facts, attempts, wrong))
        for line in wrong:
            self._progress.line(f"WRONG: {line}")
        self._progress.line(f"round {facts.number}: {'all held' if not wrong else 'NOT all held'}")

    def _wrong(self, facts: RoundFacts) -> list[str]:
        wrong = ["the round did not end in time"] if facts.timed_out else []
        plan = next((run.plan for run in facts.runs if run.plan), None)
        if plan is None:
            return [*wrong, "nothing was planned"]
        store, people = open_store(plan.store), self._recipients
        wrong += invariants.nobody_lost(plan, people)
        for run in facts.runs:
            if run.plan is not None:
                wrong += invariants.everybody_told(run.plan, run.run_id, people)
        wrong += invariants.same_outputs(invariants.digests(plan), self._digests)
        wrong += invariants.whole_store(store, plan.tenant)
        wrong += invariants.published_whole(plan, self._world.settings)
        kills = sum(fault.kind == "scheduler-kill" for fault in facts.faults)
        for run in facts.runs:
            wrong += invariants.within_budget(run.tasks, scheduler_kills=kills)
        return wrong

    def _write(self, left_out: list[str]) -> None:
        body = {
            "seed": self._args.seed,
            "store": self._args.store,
            "database": self._args.database,
            "campaign": CAMPAIGN,
            "recipients": len(self._recipients),
            "undisturbed_s": round(self._usual, 1),
            "not_possible": left_out,
            "rounds": self._rows,
        }
        self._args.out.parent.mkdir(parents=True, exist_ok=True)
        self._args.out.write_text(json.dumps(body, indent=2, default=asdict) + "\n")
        print(f"\nJSON: {self._args.out}")


if __name__ == "__main__":
    sys.exit(main())
