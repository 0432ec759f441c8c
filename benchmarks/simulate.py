"""``bench simulate``: a day of renders on so many GPUs and cores: latency, cost, what fills up.

A discrete-event simulation (``benchmarks/simulation``) of the stage graph with measured stage
times: arrivals that follow the hours of a day, gathered into shards; Airflow's scheduler; pools of
servers, some always warm, the others ordered with a cold start, a share of them spot servers that
are taken away; the object store; faults and the retry policy. The scenario and the prices are
files; what in them was not measured is printed with the result.

``--set`` changes fields of the scenario; several values are tried one after the other::

    bench simulate --set pools.gpu.servers=8,16,24 --set arrivals.shard_rows=10,20,50

``--check`` compares the simulation with what ``bench load`` measured instead.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.load import report as report_load
from benchmarks.loadtest.predict import compare
from benchmarks.measure import Spread, machine, print_table, write_json
from benchmarks.plot import bars, save
from benchmarks.simulation.demand import day, network
from benchmarks.simulation.engine import simulate
from benchmarks.simulation.outcome import Interval, costs, latencies, offered, saturation, used
from benchmarks.simulation.pipeline import stage_graph
from benchmarks.simulation.scenario import DATA, Prices, Scenario, load_prices, load_scenario
from benchmarks.simulation.times import StageTimes, stage_times
from include.errors import Usage
from include.settings import PROJECT

FOLDER = PROJECT / ".understudy/bench"
Change = tuple[str, str]


def main(argv: list[str] | None = None) -> int:
    """Run the simulation; returns the exit code."""
    args = _parse(argv)
    try:
        if args.check:
            return check(args.check, args.out)
        scenario, prices = load_scenario(args.scenario), load_prices(args.prices)
        times = stage_times(args.times)
        body: dict[str, Any] = {
            "machine": machine(),
            "assumptions": [*scenario.assumptions, prices.note],
            "variants": [],
        }
        for changes in variants(args.set):
            changed = with_changes(scenario, changes)
            tell(f"{changed.name} {_name(changes)}")
            found = run(changed, prices, times, args.seeds)
            body["variants"].append({"name": _name(changes), **found})
    except Usage as error:
        print(f"bench simulate: {error.message}", file=sys.stderr)
        return Usage.exit_code
    write_json(args.out, body)
    report(body, scenario, prices)
    draw(body, args.out.with_suffix(".svg"))
    print(f"\nwritten to {args.out} and beside it")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench simulate", description=__doc__)
    add = parser.add_argument
    add("--scenario", type=Path, default=DATA / "million.yaml")
    add("--prices", type=Path, default=DATA / "prices.yaml")
    add("--times", type=Path, help="what bench stages wrote; default: the project's own record")
    add("--seeds", type=int, default=5, help="days to draw of each variant")
    add("--set", action="append", default=[], metavar="FIELD=VALUE,...", type=_change)
    add("--check", type=Path, metavar="LOAD_JSON", help="what bench load wrote")
    add("--out", type=Path, default=FOLDER / "simulate.json")
    args = parser.parse_args(argv)
    if args.seeds < 1:
        parser.error("--seeds takes a number from 1 on")
    return args


def _change(text: str) -> tuple[str, list[str]]:
    name, sign, values = text.partition("=")
    if not sign or not values:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE,...")
    return name, values.split(",")


def tell(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def variants(changes: list[tuple[str, list[str]]]) -> Iterator[tuple[Change, ...]]:
    """All combinations of the values that were given for fields."""
    choices = [[(name, value) for value in values] for name, values in changes]
    return itertools.product(*choices)


def with_changes(scenario: Scenario, changes: tuple[Change, ...]) -> Scenario:
    """The scenario with other values in some fields.

    Raises:
        Usage: a field does not exist, or the value does not fit it.
    """
    body = scenario.model_dump(mode="json")
    for name, value in changes:
        *path, last = name.split(".")
        place: Any = body
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            raise Usage(f"--set {name}: the scenario has no such field")
        place[last] = yaml.safe_load(value)
    try:
        return Scenario.model_validate(body)
    except ValueError as error:
        raise Usage(f"--set {changes}: {error}") from error


def _name(changes: tuple[Change, ...]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes) or "as described"


def run(
    scenario: Scenario, prices: Prices, times: Mapping[str, StageTimes], seeds: int
) -> dict[str, Any]:
    """Simulate some days and sum them up; every figure has a mean and a 95% interval."""
    graph = stage_graph()
    net = network(scenario, graph)
    rows: dict[str, list[dict[str, float]]] = {"latency": [], "cost": [], "used": [], "events": []}
    start = time.perf_counter()
    for seed in range(seeds):
        drawn = day(scenario, graph, times, seed)
        trace = simulate(net, drawn.jobs, seed)
        rows["latency"].append(latencies(drawn, trace))
        rows["cost"].append(costs(scenario, prices, net, drawn, trace))
        rows["used"].append(used(net, trace))
        pools = trace.pools.values()
        rows["events"].append(
            {
                "tasks": float(trace.tries),
                "tries per success": trace.tries / max(1, trace.successes),
                "cold starts": float(sum(use.cold_starts for use in pools)),
                "preemptions": float(sum(use.preemptions for use in pools)),
                "hours until the last is done": trace.horizon / 3600,
            }
        )
    load = offered(scenario, net, times)
    first, renders = saturation(scenario, net, times)
    out: dict[str, Any] = {name: _intervals(found) for name, found in rows.items()}
    return {
        **out,
        "offered in the fullest hour": {name: round(value, 4) for name, value in load.items()},
        "saturates first": first,
        "at renders a day": round(renders),
        "simulated in s": round(time.perf_counter() - start, 1),
    }


def _intervals(found: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    out = {}
    for name in found[0]:
        value = Interval.of([row[name] for row in found])
        out[name] = {"mean": value.mean, "half": value.half}
    return out


def report(body: Mapping[str, Any], scenario: Scenario, prices: Prices) -> None:
    """Print the tables."""
    print(f"\n{scenario.about}\nNot measured, but assumed:")
    for text in body["assumptions"]:
        print(f"- {text}")
    many = body["variants"]
    print(
        "\nSeconds from order to delivery, cost, and what saturates first (mean ± 95% interval):\n"
    )
    header = ["variant", "p50 s", "p95 s", "p99 s", "lost %", f"{prices.currency} a day"]
    print_table([*header, "a 1000 renders", "saturates first", "at renders a day"], map(_row, many))
    for kind in ("used", "offered in the fullest hour"):
        print(
            f"\nShare of each resource, {kind if kind != 'used' else 'used over the whole time'}:\n"
        )
        names = list(many[0][kind])
        print_table(["variant", *names], ([v["name"], *_shares(v[kind])] for v in many))
    print("\nWhere the money goes, and how often what happened:\n")
    names = [n for n in many[0]["cost"] if n not in ("total", "a render")]
    events = list(many[0]["events"])
    print_table(
        ["variant", *names, *events],
        (
            [v["name"], *(f"{v['cost'][n]['mean']:.0f}" for n in names),
             *(f"{v['events'][n]['mean']:.6g}" for n in events)]
            for v in many
        ),
    )  # fmt: skip


def _row(variant: Mapping[str, Any]) -> list[str]:
    latency, cost = variant["latency"], variant["cost"]
    return [
        variant["name"],
        *(str(Interval(**latency[name])) for name in ("p50", "p95", "p99")),
        f"{100 * latency['lost']['mean']:.3f}",
        str(Interval(**cost["total"])),
        f"{1000 * cost['a render']['mean']:.3f}",
        variant["saturates first"],
        f"{variant['at renders a day']:,}",
    ]


def _shares(found: Mapping[str, Any]) -> list[str]:
    values = (v["mean"] if isinstance(v, dict) else v for v in found.values())
    return [f"{value:.2f}" for value in values]


def draw(body: Mapping[str, Any], path: Path) -> None:
    """Draw the latencies of all variants, with their intervals."""
    groups = {
        variant["name"]: {
            level: _spread(variant["latency"][level]) for level in ("p50", "p95", "p99")
        }
        for variant in body["variants"]
    }
    save(path, bars("Simulated day: from order to delivery", "seconds", groups))


def _spread(figure: Mapping[str, float | None]) -> Spread:
    mean, half = figure["mean"] or 0.0, figure["half"] or 0.0
    return Spread(mean, max(0.0, mean - half), mean + half, 1)


def check(path: Path, out: Path) -> int:
    """Predict what a load benchmark measured, and print both."""
    body = json.loads(path.read_text(encoding="utf-8"))
    body["predicted"] = compare(body)
    write_json(out, {"against": path.name, "predicted": body["predicted"]})
    report_load(body)
    print(f"\nwritten to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
