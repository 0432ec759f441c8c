"""``bench cache``: the same campaign again, and what changing one thing costs.

Every run is the whole way: plan, ask the cache, start the processes that are left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from benchmarks.measure import Cost, Spread, machine, print_table, write_json
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import make_campaign
from include.settings import PROJECT, Settings

FOLDER = PROJECT / ".understudy/bench"


@dataclass(frozen=True)
class Figure:
    """One run."""

    cost: Cost
    processes: int


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="understudy bench cache", description=__doc__)
    parser.add_argument("--recipients", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5, help="runs of the finished campaign")
    parser.add_argument("--out", type=Path, default=FOLDER / "cache.json")
    args = parser.parse_args(argv)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="cache-") as folder:
        settings = replace(Settings.from_env(), store=f"{folder}/store")
        brief = make_campaign(Path(folder) / "campaign", settings, args.recipients)
        found = {"first run": [run(brief, settings, "first")]}
        found["nothing changed"] = [
            run(brief, settings, f"again-{number}") for number in range(args.rounds)
        ]
        for change, edit in CHANGES.items():
            before = brief.read_text(encoding="utf-8")
            edit(brief)
            found[change] = [run(brief, settings, change.replace(" ", "-"))]
            brief.write_text(before, encoding="utf-8")
    report(found, args.out)
    return 0


def run(brief: Path, settings: Settings, name: str) -> Figure:
    """Plan and render; raises SystemExit when a row is not delivered."""
    start = Cost.now()
    plan = plan_campaign(str(brief), settings)
    done = run_campaign(plan, settings, run_id=name)
    cost = Cost.now() - start
    published = [u for (s, _), r in done.results.items() if s == "publish" for u in r.units]
    if any(unit.status not in ("made", "hit") for unit in published):
        raise SystemExit(f"{name}: a row was not delivered: {published}")
    return Figure(cost, len(done.processes))


def _edit(brief: Path, change: Callable[[dict[str, object]], None]) -> None:
    body = yaml.safe_load(brief.read_text(encoding="utf-8"))
    change(body)
    brief.write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")


def _script(brief: Path) -> None:
    table = brief.with_name("recipients.csv")
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("Maya", "Mayra", 1), encoding="utf-8")


CHANGES: dict[str, Callable[[Path], None]] = {
    "one script": _script,
    "the encoding quality": lambda brief: _edit(
        brief, lambda body: body.update(output={"scale": 2, "crf": 22})
    ),
    "the upscaler": lambda brief: _edit(
        brief, lambda body: body.update(output={"scale": 2, "upscaler": "lanczos"})
    ),
}


def report(found: dict[str, list[Figure]], out: Path) -> None:
    """Print the table and write the JSON."""
    body: dict[str, object] = {}
    rows = []
    for name, figures in found.items():
        wall = Spread.of(figure.cost.wall for figure in figures)
        cpu = Spread.of(figure.cost.cpu for figure in figures)
        processes = figures[-1].processes
        rows.append((name, processes, str(wall), str(cpu)))
        body[name] = {
            "processes": processes,
            "wall": [figure.cost.wall for figure in figures],
            "cpu": [figure.cost.cpu for figure in figures],
        }
    print_table(("change", "stage processes", "seconds", "CPU seconds"), rows)
    write_json(out, {"machine": machine(), "runs": body})
    print(f"\nwritten to {out}")


if __name__ == "__main__":
    sys.exit(main())
