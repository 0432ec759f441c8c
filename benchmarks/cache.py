"""``bench cache``: the same campaign again, and what changing one thing costs.

Every run is the whole way: plan, ask the cache, start the processes that are left. A round starts
with an empty store: a first run, the same again, then one run for each change to the campaign as
it was at first.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks import plot
from benchmarks.measure import Cost, Spread, machine, print_table, write_json
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.settings import PROJECT, Settings

FOLDER = PROJECT / ".understudy/bench"
FIRST, AGAIN = "first run", "nothing changed"


@dataclass(frozen=True)
class Figure:
    """One run."""

    cost: Cost
    processes: int


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = _parse(argv)
    found: dict[str, list[Figure]] = {}
    body: dict[str, Any] = {"machine": machine(), "recipients": args.recipients}
    for number in range(args.rounds):
        print(f"round {number + 1} of {args.rounds}", file=sys.stderr, flush=True)
        for name, figure in measure(args).items():
            found.setdefault(name, []).append(figure)
        body |= {"threads": args.threads, "runs": figures(found)}
        write_json(args.out, body)
    report(body)
    draw(body, args.out.with_suffix(".svg"))
    print(f"\nwritten to {args.out} and beside it")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench cache", description=__doc__)
    add = parser.add_argument
    add("--recipients", type=int, default=3)
    add("--rounds", type=int, default=5, help="each from an empty store")
    add("--threads", type=int, default=1, help="per process")
    add("--seconds", type=float, default=0.0, help="of a short template; 0: the sample's own")
    add("--size", default="480x270", help="of that template")
    add("--out", type=Path, default=FOLDER / "cache.json")
    args = parser.parse_args(argv)
    if min(args.recipients, args.rounds, args.threads) < 1:
        parser.error("--recipients, --rounds and --threads take numbers from 1 on")
    return args


def measure(args: argparse.Namespace) -> dict[str, Figure]:
    """One round: what each run took, in the order they ran.

    Raises:
        SystemExit: a recipient was not delivered.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    width, _, height = args.size.partition("x")
    shape = Shape(0.15, 0.6, (int(width), int(height)), args.seconds) if args.seconds else None
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="cache-") as folder:
        settings = replace(Settings.from_env(), store=f"{folder}/store", threads=args.threads)
        brief = make_campaign(Path(folder) / "campaign", settings, args.recipients, shape=shape)
        found = {name: run(brief, settings, name) for name in (FIRST, AGAIN)}
        kept = {path: path.read_bytes() for path in (brief, _table(brief))}
        for change, edit in CHANGES.items():
            edit(brief)
            found[change] = run(brief, settings, change)
            for path, content in kept.items():
                path.write_bytes(content)
    return found


def run(brief: Path, settings: Settings, name: str) -> Figure:
    """Plan and render; raises SystemExit when a row is not delivered."""
    start = Cost.now()
    plan = plan_campaign(str(brief), settings)
    run_id = name.replace(" ", "-")
    done = run_campaign(plan, settings, run_id=run_id, threads=settings.threads)
    cost = Cost.now() - start
    published = [u for (s, _), r in done.results.items() if s == "publish" for u in r.units]
    if not published or any(unit.status not in ("made", "hit") for unit in published):
        raise SystemExit(f"{name}: a row was not delivered: {published}")
    return Figure(cost, len(done.processes))


def _table(brief: Path) -> Path:
    return brief.with_name("recipients.csv")


def _edit(brief: Path, change: Callable[[dict[str, object]], None]) -> None:
    body = yaml.safe_load(brief.read_text(encoding="utf-8"))
    change(body)
    brief.write_text(yaml.safe_dump(body, allow_unicode=True), encoding="utf-8")


def _script(brief: Path) -> None:
    table = _table(brief)
    before = table.read_text(encoding="utf-8")
    after = before.replace("Maya", "Mayra", 1)
    if after == before:
        raise SystemExit(f"{table} names no Maya whose script could change")
    table.write_text(after, encoding="utf-8")


CHANGES: dict[str, Callable[[Path], None]] = {
    "one script": _script,
    "the encoding quality": lambda brief: _edit(
        brief, lambda body: body.update(output={"scale": 2, "crf": 22})
    ),
    "the upscaler": lambda brief: _edit(
        brief, lambda body: body.update(output={"scale": 2, "upscaler": "lanczos"})
    ),
}


def figures(found: Mapping[str, list[Figure]]) -> dict[str, Any]:
    """By change: processes, each round's seconds, and how many times less than the first run."""
    out: dict[str, Any] = {}
    for name, runs in found.items():
        pairs = list(zip(found[FIRST], runs, strict=True))
        out[name] = {
            "processes": sorted({figure.processes for figure in runs}),
            "wall": [figure.cost.wall for figure in runs],
            "cpu": [figure.cost.cpu for figure in runs],
            "times_fewer": [first.cost.cpu / figure.cost.cpu for first, figure in pairs],
        }
        kinds = ("wall", "cpu", "times_fewer")
        out[name]["summary"] = {kind: asdict(Spread.of(out[name][kind])) for kind in kinds}
    return out


def report(body: Mapping[str, Any]) -> None:
    """Print the Markdown table."""
    rows = [
        (
            name,
            ", ".join(str(count) for count in runs["processes"]),
            *(Spread(**runs["summary"][kind]) for kind in ("wall", "cpu", "times_fewer")),
        )
        for name, runs in body["runs"].items()
    ]
    head = ("change", "stage processes", "seconds", "CPU seconds", "times fewer CPU seconds")
    print_table(head, rows)


def draw(body: Mapping[str, Any], path: Path) -> None:
    """Draw the processor seconds, as SVG."""
    groups = {
        name: {"CPU": Spread(**runs["summary"]["cpu"])} for name, runs in body["runs"].items()
    }
    plot.save(path, plot.bars("A campaign again, by what was changed", "CPU seconds", groups))


if __name__ == "__main__":
    sys.exit(main())
