"""A scenario's day drawn: when renders arrive, which shards they form, what these ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.simulation.network import Faults, Jobs, Network, Pool, Stage
from benchmarks.simulation.pipeline import DELAYS, Graph
from benchmarks.simulation.scenario import HOURS, Scenario
from benchmarks.simulation.times import StageTimes, stage_times
from include.errors import Usage

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
DAY_S = 86400.0
GPU_POOL = "gpu"


@dataclass(frozen=True)
class Day:
    """One drawn day."""

    arrivals: Floats
    """Of the renders, seconds since midnight, ascending."""
    first: Ints
    """Each shard's first render."""
    jobs: Jobs
    """One a shard."""

    @property
    def rows(self) -> Ints:
        """Renders in each shard."""
        return np.diff(np.append(self.first, len(self.arrivals)))


def arrivals(count: int, hours: Sequence[float], luck: np.random.Generator) -> Floats:
    """A Poisson process whose rate is constant within each hour, given its number of events.

    Args:
        count: how many arrive.
        hours: relative rates of the 24 hours.
        luck: source of randomness.
    """
    share = np.asarray(hours, float) / sum(hours)
    inside = luck.multinomial(count, share)
    hour = np.repeat(np.arange(HOURS), inside)
    return np.sort((hour + luck.random(count)) * (DAY_S / HOURS))


def shards(times: Floats, rows: int, wait: float) -> tuple[Ints, Floats]:
    """Gather arrivals: a shard is closed when it is full or its first render has waited so long.

    Returns:
        Each shard's first render, and when it is closed.
    """
    first, closed, start = [], [], 0
    while start < len(times):
        limit = times[start] + wait
        stop = min(start + rows, int(np.searchsorted(times, limit, side="right")))
        full = stop - start == rows
        first.append(start)
        closed.append(times[stop - 1] if full else limit)
        start = stop
    return np.asarray(first, np.int64), np.asarray(closed)


def network(scenario: Scenario, graph: Graph) -> Network:
    """The scenario's stages and pools.

    Raises:
        Usage: a pool or stage that it names does not exist.
    """
    on_gpu = _on_gpu(scenario, graph)
    pools = list(scenario.pools)
    names = list(graph)
    stages = []
    for name, node in graph.items():
        pool = GPU_POOL if name in on_gpu else node["pool"]
        if pool not in scenario.pools:
            raise Usage(f"{scenario.name}: {name} runs in pool {pool!r}, which is not described")
        after = tuple(names.index(before) for before in node["after"])
        stages.append(Stage(name, pools.index(pool), after, node["weight"]))
    plan = scenario.faults
    faults = Faults(plan.probability, tuple(DELAYS.values()), plan.retries, DELAYS["preempt"])
    scheduler = scenario.scheduler
    # Tasks beside the stages (planning, report, gates) load the scheduler too.
    share = 1 + scheduler.tasks_beside / len(stages)
    return Network(
        stages=tuple(stages),
        pools=tuple(_pool(name, scenario) for name in pools),
        faults=faults,
        scheduler_s=scheduler.cpu_s_per_task * share / scheduler.schedulers,
        hand_over_s=scheduler.hand_over_s,
    )


def _on_gpu(scenario: Scenario, graph: Graph) -> frozenset[str]:
    found = frozenset(scenario.gpu.stages if scenario.gpu else ())
    if unknown := found - set(graph):
        raise Usage(f"{scenario.name}: gpu.stages: there is no stage {sorted(unknown)}")
    return found


def _pool(name: str, scenario: Scenario) -> Pool:
    plan = scenario.pools[name]
    return Pool(
        name=name,
        servers=plan.servers,
        warm=plan.warm,
        cold_s=plan.cold_s,
        idle_s=plan.idle_s,
        spot=math.floor(plan.spot_share * plan.servers),
        preempt_per_s=plan.preempt_per_hour / 3600,
        checkpoint_s=plan.checkpoint_s,
    )


def day(scenario: Scenario, graph: Graph, times: Mapping[str, StageTimes], seed: int) -> Day:
    """Draw a day.

    A shard's time in a stage is the process's own and, for each row, one of the measured times.

    Args:
        scenario: what arrives.
        graph: by stage; only its names matter.
        times: of each stage on a core.
        seed: of everything drawn.
    """
    luck = np.random.default_rng(seed)
    plan = scenario.arrivals
    came = arrivals(plan.renders, plan.hours, luck)
    first, release = shards(came, plan.shard_rows, plan.shard_wait_s)
    rows = np.diff(np.append(first, len(came)))
    service, transfer = [], []
    for name in graph:
        start, samples = row_times(scenario, name, times[name])
        drawn = luck.choice(np.asarray(samples), len(came))
        service.append((start + np.add.reduceat(drawn, first)).tolist())
        transfer.append(store_seconds(scenario, times[name], rows).tolist())
    return Day(came, first, Jobs(release.tolist(), service, transfer))


def row_times(scenario: Scenario, name: str, times: StageTimes) -> tuple[float, tuple[float, ...]]:
    """A stage's process start and its samples for a row, seconds where the scenario runs it."""
    gpu, process = scenario.gpu, scenario.scheduler.process_s
    if gpu is None or name not in gpu.stages:
        return process + times.start, times.further
    if gpu.times is not None:
        return process + gpu.start_s, stage_times(gpu.times)[name].further
    return process + gpu.start_s, tuple(seconds / gpu.speedup for seconds in times.further)


def store_seconds(scenario: Scenario, times: StageTimes, rows: Ints | float) -> Floats:
    """Seconds of the store for a stage of a shard: of its bandwidth or of its requests."""
    store = scenario.store
    mib = rows * times.row_mib + times.shard_mib
    found: Floats = np.maximum(
        mib / store.mib_per_s, rows * store.row_requests / store.requests_per_s
    )
    return found
