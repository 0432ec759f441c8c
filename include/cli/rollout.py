"""``./understudy rollout``: a new backend beside the live one, without Airflow's scheduler.

    ./understudy rollout start --tenant T --backend NAME [--stage S] [--golden BRIEF] [--share 0.1]
    ./understudy rollout watch|status|log --tenant T
    ./understudy rollout promote --tenant T [--backend NAME]
    ./understudy rollout rollback --tenant T

``start`` renders the golden set with both and, if the new one is as good, begins the canary;
``watch``, run from time to time, decides by what campaigns have rendered since. The DAG
``model_rollout`` does all of it. Exit codes: 0 promoted or under way, 3 rolled back; ``log``: 1
when the audit log is broken.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path

from include.cli.follow import absolute
from include.cli.tenant import tenant
from include.errors import UnderstudyError, Usage
from include.live import STAGES, live_states
from include.provenance import audit
from include.rollout import machine
from include.rollout.golden import GoldenSet
from include.rollout.records import Step
from include.rollout.rules import read_rules
from include.rollout.steps import Rollout, load, newest, rollouts
from include.settings import PROJECT, Settings
from include.store import ObjectStore, open_store

ROLLED_BACK = 3
"""Exit code when the new backend was turned down."""


def main(argv: list[str] | None = None) -> int:
    """Do one verb; returns the exit code."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("UNDERSTUDY_ROOTS", os.pathsep.join((str(PROJECT), os.getcwd())))
    if args.store:
        os.environ["UNDERSTUDY_STORE"] = absolute(args.store)
    verbs = {"start": _start, "watch": _watch, "status": _status, "log": _log}
    verbs |= {"promote": _promote, "rollback": _roll_back}
    try:
        settings = Settings.from_env()
        return verbs[args.verb](open_store(settings.store), args, settings)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./understudy rollout",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    helps = {
        "start": "golden set, then canary",
        "watch": "judge the canary by what was rendered since, and decide when it can be",
        "status": "what is live, and where rollouts stand",
        "promote": "a person's decision: the rollout's backend, or without one --backend",
        "rollback": "a person's decision: what was live before",
        "log": "the audit log, verified",
    }
    for name, told in helps.items():
        verb = verbs.add_parser(name, help=told)
        verb.add_argument("--tenant", type=tenant, required=True)
        verb.add_argument("--stage", choices=STAGES, default="upscale")
        verb.add_argument("--store", help="object store: a folder or s3://bucket/prefix")
        if name in ("start", "promote"):
            needed = name == "start"
            verb.add_argument("--backend", required=needed, help="as ./understudy backends list")
        if name == "start":
            verb.add_argument("--golden", help="default: the sample's people")
            verb.add_argument("--share", type=float, help="of the recipients, between 0 and 1")
            verb.add_argument("--rules", type=Path, help="YAML, as include/rollout/rules.yaml")
        elif name in ("watch", "promote", "rollback"):
            verb.add_argument("--rollout", metavar="ID", help="default: the stage's newest")
    return parser


def _start(store: ObjectStore, args: argparse.Namespace, settings: Settings) -> int:
    rollout = machine.start(
        store,
        args.tenant,
        args.stage,
        args.backend,
        rules=read_rules(args.rules or settings.rollout_rules, share=args.share),
        golden=absolute(args.golden) if args.golden else "",
        by=getpass.getuser(),
    )
    print(f"{rollout.id}: {rollout.last.said}; rendering the golden set with both", flush=True)
    return _go_on(store, rollout, settings)


def _go_on(store: ObjectStore, rollout: Rollout, settings: Settings) -> int:
    """From wherever it stands to its canary."""
    by, golden = getpass.getuser(), GoldenSet(rollout.begin.golden)
    rollout = machine.measure(store, rollout, settings, golden=golden, by=by)
    rollout = machine.gate(store, rollout, by=by)
    rollout = machine.begin_canary(store, rollout, by=by)
    measured = rollout.step("measured")
    if measured:
        _print_step(measured, details=True)
    return _say_last(rollout)


def _watch(store: ObjectStore, args: argparse.Namespace, settings: Settings) -> int:
    from include.rollout.watch import watch

    rollout = _chosen(store, args)
    if not rollout.ended and rollout.step("canary") is None:
        return _go_on(store, rollout, settings)  # ``start`` was interrupted
    by = getpass.getuser()
    rollout, verdict, said = watch(store, rollout, by=by)
    print(f"{rollout.id}: {verdict}: {said}")
    if verdict in ("as_good", "worse"):
        rollout = machine.decide(store, rollout, by=by)
    return _say_last(rollout)


def _chosen(store: ObjectStore, args: argparse.Namespace) -> Rollout:
    if args.rollout:
        return load(store, args.tenant, args.rollout)
    found = newest(store, args.tenant, args.stage)
    if found is None:
        raise Usage(f"{args.tenant} has no rollout for {args.stage}", code="rollout.unknown")
    return found


def _promote(store: ObjectStore, args: argparse.Namespace, settings: Settings) -> int:
    by = getpass.getuser()
    if args.backend and args.rollout:
        raise Usage("promote takes --backend, to put one live, or --rollout, to end one; not both")
    if args.backend:
        name = None if args.backend == "default" else args.backend
        machine.set_by_hand(store, args.tenant, args.stage, name, by=by)
        print(f"{args.tenant}: {args.backend} is live for {args.stage}")
        return 0
    return _say_last(machine.promote(store, _chosen(store, args), by=by))


def _roll_back(store: ObjectStore, args: argparse.Namespace, settings: Settings) -> int:
    rollout = machine.roll_back(store, _chosen(store, args), by=getpass.getuser())
    _say_last(rollout)
    return 0


def _say_last(rollout: Rollout) -> int:
    _print_step(rollout.last, details=False)
    return ROLLED_BACK if rollout.last.state == "rolled_back" else 0


def _print_step(step: Step, *, details: bool) -> None:
    print(f"{step.rollout}: {step.state}" + (f" ({step.reason})" if step.reason else ""))
    for one in step.comparisons if details else ():
        print(f"  {one.part:9}{one.said}")
    print(f"  {step.said}")


def _status(store: ObjectStore, args: argparse.Namespace, settings: Settings) -> int:
    states = live_states(store, args.tenant)
    for state in states:
        live = state.champion.name if state.champion else "the built-in default"
        print(f"{state.stage}: {live}, since {state.since:%Y-%m-%d %H:%M} UTC, by {state.by}")
        if state.canary:
            canary = state.canary
            print(f"  {canary.backend.name} for {canary.share:.0%}, by {canary.rollout}")
    if not states:
        print(f"{args.tenant}: the built-in defaults are live")
    for rollout in rollouts(store, args.tenant):
        _print_step(rollout.last, details=False)
    return 0


def _log(store: ObjectStore, args: argparse.Namespace, settings: Settings) -> int:
    found = audit.verify(store, args.tenant)
    for record in audit.records(store, args.tenant):
        if record.number > found.records:
            break
        subject = " ".join(f"{role}={value}" for role, value in record.subject.items())
        print(f"{record.at:%Y-%m-%dT%H:%M:%SZ} {record.by} {record.action} {subject}")
    if not found.holds:
        print(f"broken at {found.broken}: {found.problem}", file=sys.stderr)
        return 1
    print(f"{found.records} records hold; the newest has digest {found.head or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
