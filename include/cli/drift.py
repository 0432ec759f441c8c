"""``./understudy drift``: the validation of ``drift_validation``, without Airflow's scheduler."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from include.cli.follow import absolute
from include.cli.tenant import tenant
from include.drift.gates import gates_of
from include.drift.records import GateState
from include.drift.since import parse_since
from include.drift.verdicts import to_settle
from include.errors import BadInput, UnderstudyError
from include.features.catalogue import FEATURES, AssetKind
from include.settings import PROJECT, Settings
from include.store import ObjectStore, open_store

if TYPE_CHECKING:
    from include.drift.validate import Validation

DRIFTED = 3
"""Exit code when something drifted, a hard rule is broken or a gate is open."""


def main(argv: list[str] | None = None) -> int:
    """Validate, or settle what a validation found; returns the exit code."""
    args = _arguments(argv)
    if args.store:
        os.environ["UNDERSTUDY_STORE"] = absolute(args.store)
    try:
        store = open_store(Settings.from_env().store)
        if args.accept or args.resume:
            return _settle(store, args)
        return _validate(store, args)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./understudy drift",
        description=__doc__,
        epilog=f"Exit code: 0 as expected; {DRIFTED} something drifted, breaks a hard rule, or "
        "drifted before and is not settled.",
    )
    parser.add_argument("--tenant", type=tenant, help="default: every tenant with feature rows")
    parser.add_argument(
        "--media",
        metavar="BRIEF",
        help="measure its photos, voices and template first; renders "
        "nothing, so that what waits behind a gate can recover",
    )
    parser.add_argument("--since", help="2026-03-01, 24h, 7d; default: rows not judged yet")
    parser.add_argument("--store", help="object store: a folder or s3://bucket/prefix")
    parser.add_argument("--out", type=Path, help="folder for report.html and Data Docs")
    answers = parser.add_mutually_exclusive_group()
    for name, told in (
        ("--accept", "make what the last validation judged the reference"),
        ("--resume", "close the gate: the data was repaired"),
    ):
        answers.add_argument(name, choices=tuple(FEATURES), metavar="KIND", help=told)
    parser.add_argument("--note", default="", help="why; kept with --accept or --resume")
    args = parser.parse_args(argv)
    if (args.accept or args.resume) and not args.tenant:
        parser.error("--accept and --resume need --tenant")
    if (args.accept or args.resume) and args.media:
        parser.error("--media measures and judges; settle what it finds afterwards")
    return args


def _validate(store: ObjectStore, args: argparse.Namespace) -> int:
    from include.drift.rows import tenants
    from include.drift.validate import validate_tenant

    since = parse_since(args.since) if args.since else None
    names = [args.tenant] if args.tenant else tenants(store)
    if args.media:
        names = [_measure(args)]
    if not names:
        print(f"No feature rows in {store.uri}: they are collected when a campaign is rendered.")
    bad = False
    for name in names:
        folder = args.out / name if args.out else None
        docs = folder / "docs" if folder else None
        run_id = f"by-hand-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        found = validate_tenant(store, name, run_id, since=since, keep_docs=docs)
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "report.html").write_bytes(store.get(found.verdict.report))
        standing = gates_of(store, name, "").open
        _print(found, standing, folder)
        broken = any(one.outcome in ("drift", "broken") for one in found.verdict.kinds)
        bad = bad or broken or bool(standing)
    return DRIFTED if bad else 0


def _measure(args: argparse.Namespace) -> str:
    """Measure a brief's media; returns whose they are."""
    from include.drift.incoming import measure_incoming

    os.environ.setdefault("UNDERSTUDY_ROOTS", os.pathsep.join((str(PROJECT), os.getcwd())))
    run_id = f"measured-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    owner, rows = measure_incoming(
        absolute(args.media), Settings.from_env(), run_id, tenant=args.tenant
    )
    print(f"{owner}: {rows} assets of {args.media} are measured")
    return owner


def _print(found: Validation, standing: tuple[GateState, ...], folder: Path | None) -> None:
    print(f"{found.verdict.tenant}:")
    for kind in found.verdict.kinds:
        print(f"  {kind.outcome:12} {kind.said}")
        for finding in kind.drifted:
            print(f"               {finding.said}")
    for state in found.changed:
        if state.state == "closed":
            print(f"  the gate for {state.kind} is closed now: {state.said}")
    for state in standing:
        print(f"  the gate for {state.kind} is open since {state.at:%Y-%m-%d %H:%M UTC}")
        print(f"               settle it: --accept {state.kind} or --resume {state.kind}")
    for kind in found.verdict.kinds:
        if kind.outcome == "no_reference" and kind.batch:
            print(f"  take these {kind.kind} rows as the reference: --accept {kind.kind}")
    where = folder / "report.html" if folder else found.verdict.report
    print(f"  report: {where}")


def _settle(store: ObjectStore, args: argparse.Namespace) -> int:
    from include.drift import settle

    kind = cast("AssetKind", args.accept or args.resume)
    if args.resume:
        state = settle.resume(store, args.tenant, kind, by=getpass.getuser(), note=args.note)
        print(f"{args.tenant}: the gate for {kind} {'is closed now' if state else 'was not open'}")
        return 0
    found = to_settle(store, args.tenant, kind)
    if found is None:
        raise BadInput(
            f"{args.tenant}: no {kind} rows were judged that could be accepted; run "
            "./understudy drift first",
            code="drift.answer",
        )
    key, verdict = found
    who = getpass.getuser()
    state = settle.settle_answer(
        store, args.tenant, verdict, settle.ACCEPT, by=who, note=args.note, run_id=key
    )
    print(f"{args.tenant}: {verdict.rows} {kind} rows are the reference now")
    print(f"{args.tenant}: the gate for {kind} {'is closed now' if state else 'was not open'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
