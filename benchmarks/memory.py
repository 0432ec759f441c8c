"""``bench memory``: peak memory of every stage against the length of the template.

Memory must not grow with a video's length: each stage runs in a process of its own, on templates
that differ in nothing but how long they are.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import plot
from benchmarks.measure import Spread, machine, print_table, write_json
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.settings import PROJECT, Settings
from include.stages.specs import STAGES

FOLDER = PROJECT / ".understudy/bench"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="understudy bench memory", description=__doc__)
    parser.add_argument("--seconds", default="10,60", help="lengths of the templates")
    parser.add_argument("--size", default="960x540", help="of the templates")
    parser.add_argument("--out", type=Path, default=FOLDER / "memory.json")
    args = parser.parse_args(argv)
    width, _, height = args.size.partition("x")
    lengths = [float(text) for text in args.seconds.split(",")]
    peaks: dict[float, dict[str, float]] = {}
    for seconds in lengths:
        shape = Shape(0.08, 0.6, (int(width), int(height)), seconds)
        peaks[seconds] = measure(shape)
    first, last = lengths[0], lengths[-1]
    rows = [
        (name, *(f"{peaks[s][name]:.0f}" for s in lengths), _ratio(peaks, name, first, last))
        for name in peaks[first]
    ]
    header = ["stage, peak MiB", *(f"{s:g} s" for s in lengths), f"{last:g} s over {first:g} s"]
    print_table(header, rows)
    groups = {
        name: {f"{s:g} s": Spread.of([peaks[s][name]]) for s in lengths} for name in peaks[first]
    }
    figure = plot.bars("Peak memory by template length", "MiB", groups)
    plot.save(args.out.with_suffix(".svg"), figure)
    body = {
        "machine": machine(),
        "size": args.size,
        "peak_mib": {str(k): v for k, v in peaks.items()},
    }
    write_json(args.out, body)
    print(f"\nwritten to {args.out}")
    return 0


def measure(shape: Shape) -> dict[str, float]:
    """Peak resident memory of each stage's process, MiB."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="memory-") as folder:
        settings = replace(Settings.from_env(), store=f"{folder}/store")
        brief = make_campaign(Path(folder) / "campaign", settings, 1, shape=shape)
        plan = plan_campaign(str(brief), settings)
        run = run_campaign(plan, settings)
        found = {name: result.peak_mib for (name, _), result in run.results.items()}
        if run.unit("publish", plan_row(plan.shards[0].label)).status != "made":
            raise SystemExit(f"the render failed: {run.said}")
        return {name: round(found[name], 1) for name in STAGES}


def plan_row(label: str) -> str:
    """The one row that a shard's label names."""
    return label.split(" ")[0]


def _ratio(peaks: dict[float, dict[str, float]], name: str, first: float, last: float) -> str:
    return f"{peaks[last][name] / peaks[first][name]:.2f}"


if __name__ == "__main__":
    sys.exit(main())
