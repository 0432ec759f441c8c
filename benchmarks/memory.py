"""``bench memory``: peak memory of every stage against the length of the template.

Memory must not grow with a video's length: each stage runs in a process of its own, on templates
that differ in nothing but how long they are. All lengths are rendered right after one another, in
pairs of their own templates and an empty store. With ``--add`` a run goes on where one was
interrupted, or adds to its figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.measure import Spread, conditions, machine, paired, print_table, write_json
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.settings import PROJECT, Settings
from include.stages.specs import STAGES

FOLDER = PROJECT / ".understudy/bench"
LARGEST = "the largest"
Peaks = dict[str, float]
"""MiB by stage."""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = _parse(argv)
    body = _begun(args)
    for threads in args.threads:
        _add(body, args, threads)
    report(body)
    draw(body, args.out.with_suffix(".svg"))
    print(f"\nwritten to {args.out} and beside it")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench memory", description=__doc__)
    add = parser.add_argument
    add("--pairs", type=int, default=5, help="renders of each length")
    add("--threads", type=_integers, default="1", help="per process, such as 1,8")
    add("--seconds", type=_floats, default="10,60", help="lengths of the templates")
    add("--size", default="960x540", help="of the templates")
    add("--add", action="store_true", help="keep what the file holds, measure what it lacks")
    add("--out", type=Path, default=FOLDER / "memory.json")
    args = parser.parse_args(argv)
    if min(args.pairs, *args.threads) < 1 or len(args.seconds) < 2:
        parser.error("--pairs and --threads take numbers from 1 on, --seconds two lengths or more")
    return args


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _shape(args: argparse.Namespace, seconds: float) -> Shape:
    width, _, height = args.size.partition("x")
    return Shape(0.08, 0.6, (int(width), int(height)), seconds)


def _begun(args: argparse.Namespace) -> dict[str, Any]:
    """What the figures start with: an earlier, perhaps interrupted run's, or nothing.

    Raises:
        SystemExit: they are of other templates, of another processor or of other code.
    """
    same = {"size": args.size, "seconds": args.seconds, **conditions("include", "models")}
    if args.add and args.out.exists():
        body: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8"))
        if body["conditions"] != same:
            raise SystemExit(f"{args.out} is of {body['conditions']}, not {same}; leave out --add")
        return body
    return {"machine": machine(), "conditions": same, "pairs": {}}


def _add(body: dict[str, Any], args: argparse.Namespace, threads: int) -> None:
    """Measure the pairs with some threads that are not in the figures yet."""

    def arm(seconds: float) -> Callable[[int], Peaks]:
        return lambda _: measure(_shape(args, seconds), threads)

    paired(
        args.pairs,
        {f"{seconds:g}": arm(seconds) for seconds in args.seconds},
        lambda text: print(f"{threads} threads: {text} s", file=sys.stderr, flush=True),
        begun=body["pairs"].get(str(threads), ()),
        keep=lambda found: _keep(body, threads, found, args.out),
    )


def _keep(body: dict[str, Any], threads: int, found: list[dict[str, Peaks]], out: Path) -> None:
    """Write pairs down, with what they amount to, so that only the next one can be lost."""
    body["pairs"][str(threads)] = found
    body["summary"] = {threads: figures(pairs) for threads, pairs in body["pairs"].items()}
    write_json(out, body)


def measure(shape: Shape, threads: int = 1) -> Peaks:
    """Peak resident memory of each stage's process, MiB.

    Raises:
        SystemExit: the recipient was not delivered.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="memory-") as folder:
        settings = replace(Settings.from_env(), store=f"{folder}/store")
        brief = make_campaign(Path(folder) / "campaign", settings, 1, shape=shape)
        plan = plan_campaign(str(brief), settings)
        run = run_campaign(plan, settings, threads=threads)
        found = {name: result.peak_mib for (name, _), result in run.results.items()}
        if run.unit("publish", plan_row(plan.shards[0].label)).status != "made":
            raise SystemExit(f"the render failed: {run.said}")
        return {name: round(found[name], 1) for name in STAGES}


def plan_row(label: str) -> str:
    """The one row that a shard's label names."""
    return label.split(" ")[0]


def figures(pairs: list[dict[str, Peaks]]) -> dict[str, Any]:
    """Medians and spread of the peaks, and of the longest template's over the shortest's.

    Args:
        pairs: seconds to peaks, the shortest template first.

    Returns:
        By stage, and for the largest stage of each render, seconds to MiB, and ``ratio``.
    """
    lengths = sorted(pairs[0], key=float)
    out: dict[str, Any] = {}
    for name in (*pairs[0][lengths[0]], LARGEST):
        peaks = {length: [_peak(pair[length], name) for pair in pairs] for length in lengths}
        ratios = [_peak(p[lengths[-1]], name) / _peak(p[lengths[0]], name) for p in pairs]
        out[name] = {length: asdict(Spread.of(values)) for length, values in peaks.items()}
        out[name]["ratio"] = asdict(Spread.of(ratios))
    return out


def _peak(peaks: Peaks, name: str) -> float:
    return max(peaks.values()) if name == LARGEST else peaks[name]


def report(body: Mapping[str, Any]) -> None:
    """Print a Markdown table for each number of threads."""
    for threads, stages in body["summary"].items():
        lengths = [key for key in stages[LARGEST] if key != "ratio"]
        columns = (*(f"{length} s" for length in lengths), f"{lengths[-1]} s over {lengths[0]} s")
        print(f"\n{threads} threads a process\n")
        print_table(
            ("stage, peak MiB", *columns),
            [
                (name, *(_spread(found[key]) for key in (*lengths, "ratio")))
                for name, found in stages.items()
            ],
        )


def _spread(found: Mapping[str, Any]) -> str:
    spread = Spread(**found)
    if spread.median < 10:
        return str(spread)
    return f"{spread.median:.0f} ({spread.low:.0f} to {spread.high:.0f})"


def draw(body: Mapping[str, Any], path: Path) -> None:
    """Draw the peaks with the fewest threads, as SVG."""
    stages = next(iter(body["summary"].values()))
    groups = {
        name: {f"{key} s": Spread(**found) for key, found in peaks.items() if key != "ratio"}
        for name, peaks in stages.items()
    }
    plot.save(path, plot.bars("Peak memory by template length", "MiB", groups))


if __name__ == "__main__":
    sys.exit(main())
