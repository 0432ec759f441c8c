"""What a simulated day comes to: latency, money, how full everything is, what fills up first."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.simulation.demand import DAY_S, Day, row_times, store_seconds
from benchmarks.simulation.network import Network, Trace
from benchmarks.simulation.scenario import HOURS, Prices, Scenario
from benchmarks.simulation.times import StageTimes

LEVELS = (50, 95, 99)
STUDENT = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""97.5% quantile of Student's t by degrees of freedom."""


@dataclass(frozen=True)
class Interval:
    """A mean over seeds and its 95% interval; none for a single seed."""

    mean: float
    half: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Interval:
        """Summarise one figure of several seeds."""
        mean = statistics.fmean(values)
        if len(values) < 2:
            return cls(mean, None)
        factor = STUDENT.get(len(values) - 1, 1.96)
        return cls(mean, factor * statistics.stdev(values) / math.sqrt(len(values)))

    def __str__(self) -> str:
        if self.half is None:
            return f"{self.mean:.4g}"
        return f"{self.mean:.4g} ± {self.half:.2g}"


def latencies(day: Day, trace: Trace) -> dict[str, float]:
    """Percentiles from order to delivery over all renders that were delivered, seconds.

    Also ``lost``, the share of renders whose shard ran out of tries.
    """
    ends = np.repeat(np.asarray(trace.end), day.rows)
    taken = ends - day.arrivals
    good = taken[~np.isnan(taken)]
    values = np.percentile(good, LEVELS) if len(good) else [math.nan] * len(LEVELS)
    out = {f"p{level}": float(value) for level, value in zip(LEVELS, values, strict=True)}
    return {**out, "lost": 1 - len(good) / len(taken)}


def costs(
    scenario: Scenario, prices: Prices, network: Network, day: Day, trace: Trace
) -> dict[str, float]:
    """What the day costs, by what it is paid for; ``total`` and ``a render`` besides.

    Servers are paid from ordering to giving back, idle or not; the control plane all the time.
    """
    out: dict[str, float] = {}
    for name, use in trace.pools.items():
        kind = scenario.pools[name].price
        hour, spot = {
            "core": (prices.core_hour, prices.core_hour_spot),
            "gpu": (prices.gpu_hour, prices.gpu_hour_spot),
        }[kind]
        out[f"{name}, on demand"] = use.on_demand_s / 3600 * hour
        out[f"{name}, spot"] = use.spot_s / 3600 * spot
    renders = int(sum(day.rows[~np.isnan(trace.end)]))
    out["control plane"] = max(DAY_S, trace.horizon) / 3600 * prices.control_hour
    requests = scenario.store.row_requests * len(network.stages) * len(day.arrivals)
    out["store requests"] = requests / 1000 * prices.thousand_requests
    gib = renders * prices.delivered_mib_per_render / 1024
    out["delivery"] = gib * prices.delivered_gib
    out["total"] = sum(out.values())
    out["a render"] = out["total"] / max(1, renders)
    return out


def used(network: Network, trace: Trace) -> dict[str, float]:
    """How much of each resource was used over the whole time, 0 to 1."""
    out = {
        pool.name: trace.pools[pool.name].busy_s / (pool.servers * trace.horizon)
        for pool in network.pools
    }
    out["scheduler"] = trace.scheduler_busy_s / trace.horizon
    out["store"] = trace.store_busy_s / trace.horizon
    return out


def offered(
    scenario: Scenario, network: Network, times: Mapping[str, StageTimes], renders: float = 0
) -> dict[str, float]:
    """Load offered to each resource in the fullest hour, 1 being all that it can take.

    By operational analysis: renders a second times what a render asks of the resource, tries that
    fail included, shards taken as full as they become in that hour.

    Args:
        scenario: the day.
        network: its stages and pools.
        times: of each stage on a core.
        renders: in the day; 0: as the scenario has it.
    """
    plan = scenario.arrivals
    share = max(plan.hours) / sum(plan.hours)
    rate = (renders or plan.renders) * share / (DAY_S / HOURS)
    rows = min(plan.shard_rows, 1 + rate * plan.shard_wait_s)
    again = tries_per_success(scenario)
    out: dict[str, float] = {pool.name: 0.0 for pool in network.pools}
    store = 0.0
    for stage in network.stages:
        start, samples = row_times(scenario, stage.name, times[stage.name])
        row_store = float(store_seconds(scenario, times[stage.name], rows)) / rows
        seconds = start / rows + statistics.fmean(samples) + row_store
        pool = network.pools[stage.pool]
        # A try that fails takes half of its time, on average.
        out[pool.name] += rate * seconds * (1 + (again - 1) / 2) / pool.servers
        store += rate * row_store * again
    out["scheduler"] = rate / rows * len(network.stages) * network.scheduler_s * again
    out["store"] = store
    return out


def saturation(
    scenario: Scenario, network: Network, times: Mapping[str, StageTimes]
) -> tuple[str, float]:
    """What is full first as the day's renders grow, and at how many.

    Not in proportion to today's load: fuller shards share a process and a task among more rows.
    """
    low, high = 0.0, 1.0
    while max(offered(scenario, network, times, high).values()) < 1:
        low, high = high, 2 * high
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        full = max(offered(scenario, network, times, middle).values()) >= 1
        low, high = (low, middle) if full else (middle, high)
    load = offered(scenario, network, times, high)
    return max(load, key=lambda name: load[name]), high


def tries_per_success(scenario: Scenario) -> float:
    """Tries that a task takes on average, its retries being limited."""
    fail = scenario.faults.probability
    return sum(fail**number for number in range(scenario.faults.retries + 1))
