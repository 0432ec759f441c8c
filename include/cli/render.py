"""``./understudy render``: a brief in, a folder of videos out.

Exit codes: 0 the campaign succeeded and nobody has to look at a row; 3 rows wait for a person or
were turned down by one; 1 fewer rows were delivered than the brief asks for; otherwise that of the
error that kept the campaign from being planned (``include/errors.py``).
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from include.cli.follow import DAG, Run, absolute, run_in_process, run_on_stack
from include.cli.progress import Progress
from include.cli.settle import settle_reviews
from include.cli.stack import Stack
from include.cli.up import DAILY_HOME
from include.errors import UnderstudyError, Usage
from include.report import RowOutcome, export, gather
from include.runs import latest_results
from include.settings import PROJECT, Settings

HELD = 3
"""Exit code when rows wait for a person or a person turned them down."""
REVIEWED = ("waiting", "review.rejected")


def main(argv: list[str] | None = None) -> int:
    """Render a brief; returns the exit code."""
    args = _parser().parse_args(argv)
    os.environ.setdefault("UNDERSTUDY_ROOTS", os.pathsep.join((str(PROJECT), os.getcwd())))
    if args.store:
        os.environ["UNDERSTUDY_STORE"] = absolute(args.store)
    try:
        return _render(args, Settings.from_env())
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./understudy render", description=__doc__)
    parser.add_argument("brief", help="path of the brief, or s3://")
    parser.add_argument("--out", type=Path, required=True, help="folder for the videos")
    parser.add_argument("--store", help="object store: a folder or s3://bucket/prefix")
    parser.add_argument("--tier", choices=("preview", "final"), help="over the brief's own")
    parser.add_argument("--only", action="append", metavar="ID", help="this recipient; repeatable")
    parser.add_argument(
        "--review",
        choices=("ask", "reject"),
        help="borderline rows: ask at the terminal (default where there is one), or turn them "
        "down; otherwise they wait for the next run",
    )
    parser.add_argument("--airflow", action="store_true", help="send it to the running stack")
    return parser


def _render(args: argparse.Namespace, settings: Settings) -> int:
    on_the_stack = args.airflow and not args.review
    conf = {
        "brief": absolute(args.brief),
        "tier": args.tier or "brief",
        "only": args.only,
        # On the stack the UI puts the questions, unless --review says how to settle them here.
        "review": "ask" if on_the_stack else "hold",
    }
    run = _run(args, conf, settings, Progress())
    how = args.review or ("ask" if sys.stdin.isatty() and not args.airflow else "hold")
    if run.plan and settle_reviews(run.plan, how, args.out, settings):
        progress = Progress()
        progress.line("publishing what was approved")
        run = _run(args, conf, settings, progress)
    return _deliver(run, args.out, settings)


def _run(
    args: argparse.Namespace, conf: dict[str, object], settings: Settings, progress: Progress
) -> Run:
    if args.airflow:
        return run_on_stack(_daily_stack(settings).api(), conf, progress)
    return run_in_process(conf, progress)


def _daily_stack(settings: Settings) -> Stack:
    stack = Stack(DAILY_HOME, settings=settings)
    if not stack.running():
        raise Usage("no stack is running; start it with ./understudy up, or leave out --airflow")
    return stack


def _deliver(run: Run, out: Path, settings: Settings) -> int:
    plan = run.plan
    if plan is None:
        return 1
    export(plan, run.run_id, out, settings)
    outcome = gather(plan, run.run_id, latest_results(plan, DAG, run.run_id), settings)
    rows = outcome.rows
    missing = [row for row in rows if row.status != "delivered"]
    for row in missing:
        print(f"  {row.recipient or f'line {row.line}'}: {row.status}: {row.message}")
    print(f"\n{len(rows) - len(missing)} of {len(rows)} rows delivered to {out}; {outcome.said}")
    print(f"Report: {out / 'report.html'}\nLog: {run.where}")
    return _exit_code(run.state, missing)


def _exit_code(state: str, missing: list[RowOutcome]) -> int:
    if any(row.status == "waiting" or row.code in REVIEWED for row in missing):
        return HELD
    return 0 if state == "success" else 1


if __name__ == "__main__":
    sys.exit(main())
