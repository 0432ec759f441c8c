"""What the simulation says about the cells of ``bench load``: predicted against measured.

The simulation gets what was known before a cell ran: when the renders arrive, the graph, the slots,
the faults' rate, the retry policy, and stage times. These come once from the calibration, a run of
its own before the cells of a rate, and once from the cell itself: the difference between the two is
what the machine's other work did to the stage times meanwhile, what is left is the model's error.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.loadtest.timeline import LEVELS, PARTS, percentile, renders
from benchmarks.simulation.engine import simulate
from benchmarks.simulation.network import Faults, Jobs, Network, Pool, Stage
from benchmarks.simulation.pipeline import DELAYS, RETRIES, Graph

SOURCES = ("calibration", "own")


def network(
    graph: Graph,
    slots: Mapping[str, int],
    probability: float,
    kinds: Sequence[str],
    retries: int = RETRIES,
) -> Network:
    """The cells' queue as a network.

    Args:
        graph: by stage, in an order in which none comes before what it waits for: ``pool``,
            ``after`` (names) and ``weight``.
        slots: by pool.
        probability: of a try to be struck.
        kinds: by what.
        retries: of a task.
    """
    names, pools = list(graph), list(slots)
    stages = tuple(
        Stage(
            name,
            pools.index(node["pool"]),
            tuple(names.index(before) for before in node["after"]),
            node["weight"],
        )
        for name, node in graph.items()
    )
    faults = Faults(probability, tuple(DELAYS[kind] for kind in kinds), retries)
    return Network(stages, tuple(Pool(p, slots[p], slots[p]) for p in pools), faults)


def predict(
    net: Network,
    arrivals: Sequence[float],
    times: Mapping[str, Sequence[float]],
    runs: int,
    seed: int = 0,
) -> dict[str, dict[str, float | None]]:
    """Percentiles of latency and its parts, over several runs.

    Returns:
        ``latency p50`` and so on to ``value`` (median over the runs), ``low`` and ``high`` (95% of
        the runs lie between them), and likewise ``attempts per success`` and ``lost``.
    """
    found: dict[str, list[float]] = {}
    for run in range(runs):
        luck = random.Random(f"{seed}|{run}")
        service = [luck.choices(list(times[s.name]), k=len(arrivals)) for s in net.stages]
        trace = simulate(net, Jobs(list(arrivals), service), luck.getrandbits(32), record=True)
        whole = {n for n, end in enumerate(trace.end) if end == end}
        done = [r for n, r in renders(arrivals, trace.attempts).items() if n in whole]
        for part in ("latency", *PARTS) if done else ():
            for level in LEVELS:
                value = percentile([getattr(r, part) for r in done], level).value
                found.setdefault(f"{part} p{level}", []).append(value)
        if trace.successes:
            found.setdefault("attempts per success", []).append(trace.tries / trace.successes)
        found.setdefault("lost", []).append(len(arrivals) - len(whole))
    return {name: _range(values) for name, values in found.items()}


def _range(values: list[float]) -> dict[str, float | None]:
    ranked = sorted(values)
    last = len(ranked) - 1
    return {
        "value": round(statistics.median(ranked), 3),
        "low": round(ranked[round(0.025 * last)], 3),
        "high": round(ranked[round(0.975 * last)], 3),
    }


def compare(body: Mapping[str, Any], runs: int = 40) -> list[dict[str, Any]]:
    """Predict every cell of a load benchmark's record.

    Returns:
        For each cell its rate and faults, and for each source of stage times the predictions, what
        was ``measured``, and the relative ``error``: predicted over measured, less one; None where
        nothing was measured.
    """
    out = []
    for cell in body["cells"]:
        kinds, retries = body["settings"]["kinds"], body["retries"]
        net = network(body["graph"], body["slots"], cell["faults"], kinds, retries)
        row: dict[str, Any] = {"rate": cell["rate"], "faults": cell["faults"]}
        for source in SOURCES:
            calm = body["calibrations"][cell["calibration"]]
            times = calm["times"] if source == "calibration" else cell["times"]
            known = set(times) == set(body["graph"])  # not where a stage never succeeded
            predicted = predict(net, cell["arrivals"], times, runs) if known else {}
            for name, figures in predicted.items():
                measured = cell["figures"].get(name, {}).get("value")
                figures["error"] = _error(figures["value"], measured)
                figures["measured"] = measured
            row[source] = predicted
        out.append(row)
    return out


def inside(rows: Sequence[Mapping[str, Any]], source: str) -> tuple[int, int]:
    """How many measured latencies lie where 95% of the simulated runs do, and of how many."""
    found = [row[source].get(f"latency p{level}") for row in rows for level in LEVELS]
    known = [f for f in found if f and f["measured"] is not None]
    return sum(f["low"] <= f["measured"] <= f["high"] for f in known), len(known)


def _error(predicted: float | None, measured: float | None) -> float | None:
    if not measured or predicted is None:
        return None
    return round(predicted / measured - 1, 3)
