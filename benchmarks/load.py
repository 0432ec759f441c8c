"""``bench load``: short renders arrive at three rates and are struck by faults at three rates.

Renders arrive as a Poisson process at rates below, at and above what the slots can take, which a
calibration measures before each rate. Each is a shard of one row with a warm template, and passes
the real operator, processes, store, error tree and retry policy (see
``benchmarks/loadtest/cell.py``; the queue is the benchmark's own, in Airflow's order). A share of
the stage processes is struck: killed, preempted, or ended with a transient error.

With ``--stages real`` the real stages render a template of 0.8 s; with ``replayed`` each process
takes the time that the stage took in ``bench stages``, times ``--factor``, and makes no pictures.

- **queue, generation, retry time** of a render: see ``benchmarks/loadtest/timeline.py``; they add
  up to its latency. Renders that were lost are counted, not timed.
- **attempts per success**: tries of stage processes for each stage that succeeded. The retry budget
  bounds it: no task is tried more often than the DAGs' retries allow.
- Intervals are distribution-free, 95%, from order statistics; ``?``: too few renders for a bound.

With ``--add`` a run goes on where one was interrupted, cell by cell.

Then the simulation predicts every cell from the calibration (``benchmarks/loadtest/predict.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.loadtest import faults
from benchmarks.loadtest.predict import SOURCES, compare, inside
from benchmarks.loadtest.prepare import Bench, Observed
from benchmarks.loadtest.timeline import LEVELS, PARTS, Percentile, percentile, renders
from benchmarks.measure import Spread, conditions, machine, print_table, write_json
from benchmarks.plot import bars, save
from benchmarks.simulation.pipeline import RETRIES, stage_graph
from benchmarks.simulation.times import stage_times
from include.settings import PROJECT, Settings

FOLDER = PROJECT / ".understudy/bench"
FOLDERS = ("benchmarks", "include", "models", "operators")
"""Whose code is measured."""


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 when a retry budget was overrun."""
    args = _parse(argv)
    kept = _kept(args)
    home = args.home.resolve()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for name in ("UNDERSTUDY_DATABASE_URL", "UNDERSTUDY_NOOP"):
        os.environ.pop(name, None)
    settings = replace(Settings.from_env(), slots=args.slots)
    count = max(args.renders, args.calibrate)
    tell(f"making {count} renders")
    if args.stages == "real":
        bench = Bench.real(home, settings, count)
    else:
        times = {name: t.first for name, t in stage_times(args.times).items()}
        bench = Bench.replayed(home, settings, count, times, args.factor)
    body = measure(bench, args, kept)
    shutil.rmtree(home)
    body["predicted"] = compare(body)
    write_json(args.out, body)
    report(body)
    draw(body, args.out.with_suffix(".svg"))
    print(f"\nwritten to {args.out} and beside it")
    return 0 if all(cell["most_tries"] <= 1 + RETRIES for cell in body["cells"]) else 1


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench load", description=__doc__)
    add = parser.add_argument
    add("--renders", type=int, default=1000, help="in each cell")
    add("--rates", type=_numbers, default=[0.6, 1.0, 1.4], help="arrivals, of the capacity")
    add("--faults", type=_numbers, default=[0.0, 0.05, 0.2], help="share of processes struck")
    add("--kinds", type=lambda text: text.split(","), default=list(faults.KINDS))
    add("--slots", type=int, default=2, help="stage processes at a time, in each pool")
    add("--stages", choices=("real", "replayed"), default="real")
    add("--factor", type=float, default=0.05, help="of the replayed stages' times")
    add("--times", type=Path, help="what bench stages wrote; default: the project's own record")
    add("--calibrate", type=int, default=20, help="renders of the calibration, all at once")
    add("--seed", type=int, default=1)
    add("--add", action="store_true", help="keep the cells that the file has, measure the others")
    add("--home", type=Path, default=FOLDER / "load", help="working folder, made anew")
    add("--out", type=Path, default=FOLDER / "load.json")
    args = parser.parse_args(argv)
    if min(args.renders, args.calibrate, args.slots) < 1 or args.factor <= 0:
        parser.error("--renders, --calibrate and --slots take numbers from 1 on; --factor above 0")
    if min(args.rates) <= 0 or not all(0 <= share <= 1 for share in args.faults):
        parser.error("--rates are above 0, --faults between 0 and 1")
    if not set(args.kinds) <= set(faults.KINDS):
        parser.error(f"--kinds takes some of {','.join(faults.KINDS)}")
    if args.renders > 1000 or args.calibrate > 1000:
        parser.error("at most 1000 renders: each is a shard, and a plan has no more")
    return args


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the figures; cells of other settings do not belong beside each other."""
    apart = ("home", "out", "times", "add", "rates", "faults")
    return {name: value for name, value in vars(args).items() if name not in apart}


def _kept(args: argparse.Namespace) -> dict[str, list[Any]]:
    """Calibrations and cells of an earlier run; none unless asked for.

    Raises:
        SystemExit: they were measured with other settings, by other code or on another processor.
    """
    none: dict[str, list[Any]] = {"calibrations": [], "cells": []}
    if not args.add or not args.out.exists():
        return none
    body = json.loads(args.out.read_text(encoding="utf-8"))
    if (body["settings"], body["conditions"]) != (_settings(args), conditions(*FOLDERS)):
        raise SystemExit(
            f"{args.out} holds cells of other settings, code or processor; name another file"
        )
    return {name: body[name] for name in none}


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def tell(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def measure(
    bench: Bench, args: argparse.Namespace, kept: Mapping[str, list[Any]]
) -> dict[str, Any]:
    """Run every cell not kept; before each rate of arrivals the capacity is measured again.

    A machine that others use too has another capacity a quarter of an hour later.
    """
    body: dict[str, Any] = {
        "machine": machine(),
        "conditions": conditions(*FOLDERS),
        "settings": _settings(args),
        "graph": stage_graph(),
        "slots": {"cpu": args.slots, "io": args.slots},
        "retries": RETRIES,
        **kept,
    }
    held = {(cell["rate"], cell["faults"]) for cell in body["cells"]}
    for rate in args.rates:
        if all((rate, share) in held for share in args.faults):
            continue
        calm = calibrate(bench, args, body)
        body["calibrations"].append(calm)
        usual = {name: statistics.median(found) for name, found in calm["times"].items()}
        arrive = rate * calm["renders_per_s"]
        for number, share in enumerate(args.faults):
            if (rate, share) in held:
                continue
            seed = args.seed * 1000 + round(rate * 100) + number
            arrivals = poisson(arrive, args.renders, seed)
            tell(f"rate {rate} ({arrive:.3f}/s), faults {share:.0%}")
            seen = bench.run(arrivals, probability=share, kinds=args.kinds, seed=seed, usual=usual)
            cell = {"rate": rate, "faults": share, "arrivals": arrivals}
            cell["calibration"] = len(body["calibrations"]) - 1
            body["cells"].append({**cell, **figures(arrivals, seen)})
            body["cells"].sort(key=lambda cell: (cell["rate"], cell["faults"]))
            write_json(args.out, body)
    return body


def calibrate(bench: Bench, args: argparse.Namespace, body: Mapping[str, Any]) -> dict[str, Any]:
    """Measure stage times with all slots busy, and from them the capacity."""
    tell("calibrating")
    seen = bench.run([0.0] * args.calibrate, seed=args.seed)
    if seen.lost:
        raise SystemExit(f"renders that nothing struck were lost: {seen.lost}")
    times = times_of(seen)
    return {
        "renders": args.calibrate,
        "renders_per_s": round(capacity_of(times, body["graph"], body["slots"]), 4),
        "load_1min": [round(load, 2) for load in seen.load_1min],
        "times": times,
    }


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Arrival times of a Poisson process, seconds."""
    luck, now, out = random.Random(seed), 0.0, []
    for _ in range(count):
        now += luck.expovariate(rate)
        out.append(round(now, 4))
    return out


def times_of(seen: Observed) -> dict[str, list[float]]:
    """By stage what its successful tries took on a slot, seconds."""
    times: dict[str, list[float]] = {}
    for attempt in seen.attempts:
        if attempt.ok:
            times.setdefault(attempt.stage, []).append(round(attempt.end - attempt.start, 4))
    return times


def capacity_of(
    times: Mapping[str, Sequence[float]],
    graph: Mapping[str, Mapping[str, Any]],
    slots: Mapping[str, int],
) -> float:
    """Renders a second that the fuller pool can take: its slots over a render's time on them."""
    busy: dict[str, float] = {}
    for name, found in times.items():
        pool = graph[name]["pool"]
        busy[pool] = busy.get(pool, 0.0) + statistics.mean(found)
    return min(slots[pool] / seconds for pool, seconds in busy.items())


def figures(arrivals: Sequence[float], seen: Observed) -> dict[str, Any]:
    """What a cell's record says."""
    found = renders(arrivals, seen.attempts)
    done = [render for number, render in found.items() if number not in seen.lost]
    successes = sum(attempt.ok for attempt in seen.attempts)
    ends = [a.end for a in seen.attempts if a.job not in seen.lost]
    out: dict[str, Any] = {}
    if done:
        for part in ("latency", *PARTS):
            values = [getattr(render, part) for render in done]
            for level in LEVELS:
                out[f"{part} p{level}"] = asdict(percentile(values, level))
    tries = len(seen.attempts) / successes if successes else None
    out["attempts per success"] = {"value": tries}
    out["lost"] = {"value": len(seen.lost)}
    return {
        "figures": out,
        "delivered": len(done),
        "lost": seen.lost,
        "throughput": round(len(done) / max(ends), 4) if ends else 0.0,
        "attempts_per_render": len(seen.attempts) / len(done) if done else None,
        "most_tries": max((a.number for a in seen.attempts), default=0),
        "struck": seen.struck,
        "wall": round(seen.wall, 1),
        "load_1min": [round(load, 2) for load in seen.load_1min],
        "times": times_of(seen),
    }


def report(body: Mapping[str, Any]) -> None:
    """Print the tables."""
    found = ", ".join(f"{calm['renders_per_s']:.3f}" for calm in body["calibrations"])
    print(
        f"\n{body['settings']['renders']} renders a cell, {body['settings']['stages']} stages, "
        f"{body['slots']['cpu']} slots; capacity before each rate: {found} renders/s"
    )
    print("\nSeconds, with 95% intervals:\n")
    header = [
        "rate",
        "faults",
        *(f"{part} p{level}" for part in ("latency", *PARTS) for level in LEVELS),
    ]
    rows = []
    for cell in body["cells"]:
        cells = [_show(cell["figures"].get(name)) for name in header[2:]]
        rows.append([cell["rate"], f"{cell['faults']:.0%}", *cells])
    print_table(header, rows)
    print()
    names = ("rate", "faults", "delivered", "lost", "renders/s", "attempts per success")
    print_table([*names, "most tries", "struck", "load average"], map(_counts, body["cells"]))
    print("\nPredicted latency (error against measured), stage times of the calibration or own:\n")
    header = ["rate", "faults", *(f"p{level}, {source}" for source in SOURCES for level in LEVELS)]
    print_table(header, map(_predicted, body["predicted"]))
    for source in SOURCES:
        hit, of = inside(body["predicted"], source)
        print(
            f"\n{source}: {hit} of {of} measured latencies lie where 95% of the simulated runs do"
        )


def _show(figure: Mapping[str, Any] | None) -> str:
    return str(Percentile(**figure)) if figure else "-"


def _counts(cell: Mapping[str, Any]) -> list[object]:
    tries = cell["figures"]["attempts per success"]["value"]
    struck = ", ".join(f"{count} {kind}" for kind, count in sorted(cell["struck"].items()))
    load = "-".join(f"{value:.0f}" for value in cell["load_1min"])
    return [
        cell["rate"],
        f"{cell['faults']:.0%}",
        cell["delivered"],
        len(cell["lost"]),
        f"{cell['throughput']:.3f}",
        f"{tries:.3f}" if tries else "-",
        cell["most_tries"],
        struck or "none",
        load,
    ]


def _predicted(row: Mapping[str, Any]) -> list[object]:
    cells = []
    for source in SOURCES:
        for level in LEVELS:
            found = row[source].get(f"latency p{level}")
            if found is None:
                cells.append("-")
                continue
            error = "" if found["error"] is None else f" ({found['error']:+.0%})"
            cells.append(f"{found['value']:.1f}{error}")
    return [row["rate"], f"{row['faults']:.0%}", *cells]


def draw(body: Mapping[str, Any], path: Path) -> None:
    """Draw each cell's parts: a bar to the median, a whisker to the 95th percentile."""
    groups: dict[str, dict[str, Spread]] = {}
    for cell in body["cells"]:
        if not cell["delivered"]:
            continue
        found = cell["figures"]
        groups[f"rate {cell['rate']:g}, faults {cell['faults']:.0%}"] = {
            part: Spread(
                found[f"{part} p50"]["value"],
                found[f"{part} p50"]["value"],
                found[f"{part} p95"]["value"],
                cell["delivered"],
            )
            for part in ("latency", *PARTS)
        }
    if groups:
        title = "Renders under load and faults: median, line to the 95th percentile"
        save(path, bars(title, "seconds", groups))


if __name__ == "__main__":
    sys.exit(main())
