"""What is simulated: stages, the pools of servers they run on, faults, and the jobs that arrive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

TIMES = Sequence[float]


@dataclass(frozen=True)
class Pool:
    """Equal servers that each run one task at a time.

    Args:
        name: for the results.
        servers: the most there are, at least 1.
        warm: how many of them are always on.
        cold_s: seconds from ordering one of the others until it takes a task.
        idle_s: an idle server beyond the warm ones is given back after so many seconds.
        spot: how many of the servers may be taken away; these are ordered last.
        preempt_per_s: how often a busy one of those is, per second.
        checkpoint_s: interrupted work goes on at its last multiple of this; 0: from its beginning.
    """

    name: str
    servers: int
    warm: int
    cold_s: float = 0.0
    idle_s: float = math.inf
    spot: int = 0
    preempt_per_s: float = 0.0
    checkpoint_s: float = 0.0

    def __post_init__(self) -> None:
        if not (self.servers >= 1 and 0 <= self.warm <= self.servers >= self.spot >= 0):
            raise ValueError(f"pool {self.name}: warm and spot are among its servers, at least one")


@dataclass(frozen=True)
class Stage:
    """One task of every job.

    Args:
        name: for the results.
        pool: index of its pool.
        after: indices of the stages that it waits for; all lower than its own.
        weight: of tasks that wait for the same pool, the heavier goes first, then the older job.
    """

    name: str
    pool: int
    after: tuple[int, ...] = ()
    weight: int = 0


@dataclass(frozen=True)
class Delay:
    """How long after a failed try the next one is due: seconds, ``factor`` times more each time."""

    name: str
    base_s: float
    factor: float = 1.0
    jitter: bool = False
    """Up to twice as long, evenly distributed, as Airflow's exponential backoff is."""


@dataclass(frozen=True)
class Faults:
    """A try fails with some probability, at an evenly distributed point of its work."""

    probability: float = 0.0
    kinds: tuple[Delay, ...] = (Delay("fault", 5.0),)
    """Equally likely."""
    retries: int = 4
    """A task that fails more often loses its job."""
    preempted: Delay = Delay("preempt", 5.0)


@dataclass(frozen=True)
class Network:
    """Stages, pools, and what all tasks share.

    Args:
        scheduler_s: seconds of a single scheduler for a task; one after the other.
        hand_over_s: seconds more until a task that was scheduled asks for its pool.
    """

    stages: tuple[Stage, ...]
    pools: tuple[Pool, ...]
    faults: Faults = field(default_factory=Faults)
    scheduler_s: float = 0.0
    hand_over_s: float = 0.0


@dataclass(frozen=True)
class Jobs:
    """What arrives.

    Args:
        release: when each job's first stages may start; ascending seconds.
        service: for each stage each job's seconds on a server.
        transfer: for each stage each job's seconds of the store, which serves one after the other:
            its bytes over the store's bandwidth, or its requests over the store's rate.
    """

    release: TIMES
    service: Sequence[TIMES]
    transfer: Sequence[TIMES] = ()


@dataclass(frozen=True)
class Attempt:
    """One try of one stage of one job; seconds since the beginning."""

    job: int
    stage: str
    number: int
    ready: float
    start: float
    end: float
    ok: bool


@dataclass
class PoolUse:
    """What a pool's servers did."""

    busy_s: float = 0.0
    """Server-seconds at work."""
    wasted_s: float = 0.0
    """Of these, on tries that failed, less what a checkpoint saved."""
    on_demand_s: float = 0.0
    """Server-seconds paid for, from ordering to giving back."""
    spot_s: float = 0.0
    cold_starts: int = 0
    preemptions: int = 0


@dataclass
class Trace:
    """What came of the jobs."""

    end: list[float]
    """When each job was done; nan for a lost one."""
    pools: dict[str, PoolUse]
    tries: int = 0
    successes: int = 0
    horizon: float = 0.0
    """When the last thing happened."""
    scheduler_busy_s: float = 0.0
    store_busy_s: float = 0.0
    jobs_area: float = 0.0
    """Integral over time of the number of jobs in the system, followed event by event."""
    attempts: list[Attempt] = field(default_factory=list)
    """Only where they were asked for."""
