"""Where a render's time went, and what can be said of percentiles from a number of renders.

At every moment from its arrival to its end a render is in one state:

- **generating**: a try that will succeed is running for it;
- else **retrying**: a try that will fail is running, or one has failed and its next is being waited
  for, be it the delay or, after it, a slot;
- else **queued**: all it needs is a slot.

The three add up to the render's latency.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.simulation.network import Attempt

Interval = tuple[float, float]
PARTS = ("queue", "generation", "retry")
LEVELS = (50, 95, 99)


@dataclass(frozen=True)
class Render:
    """One render's times, seconds."""

    latency: float
    queue: float
    generation: float
    retry: float
    attempts: int


@dataclass(frozen=True)
class Percentile:
    """An order statistic and between which others the true value lies."""

    value: float
    low: float | None
    """None: too few values for a bound."""
    high: float | None

    def __str__(self) -> str:
        low = "?" if self.low is None else f"{self.low:.1f}"
        high = "?" if self.high is None else f"{self.high:.1f}"
        return f"{self.value:.1f} ({low} to {high})"


def renders(arrivals: Sequence[float], attempts: Iterable[Attempt]) -> dict[int, Render]:
    """Split every render's latency.

    Args:
        arrivals: by render.
        attempts: of all renders, in any order.

    Returns:
        By render; of those that have attempts.
    """
    by_job: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_job[attempt.job].append(attempt)
    return {job: _render(arrivals[job], found) for job, found in by_job.items()}


def _render(arrival: float, attempts: list[Attempt]) -> Render:
    end = max(attempt.end for attempt in attempts)
    good = [(a.start, a.end) for a in attempts if a.ok]
    failed: list[Interval] = []
    by_stage: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda a: a.number):
        by_stage[attempt.stage].append(attempt)
    for tries in by_stage.values():
        first = tries[0]
        if not first.ok:  # from the first failing try to the start of the one that succeeds
            last = tries[-1]
            failed.append((first.start, last.start if last.ok else last.end))
    generation = covered(good)
    retry = covered(good + failed) - generation
    latency = end - arrival
    return Render(latency, latency - generation - retry, generation, retry, len(attempts))


def covered(intervals: Iterable[Interval]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        if end > reached:
            total += end - max(start, reached)
            reached = end
    return total


def percentile(values: Sequence[float], level: float, confidence: float = 0.95) -> Percentile:
    """A percentile and its distribution-free confidence interval.

    How many of n values lie below the true percentile is binomial; that gives the ranks between
    which it lies, whatever the values' distribution.

    Args:
        values: at least one.
        level: 0 to 100.
        confidence: of the interval.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to take a percentile of")
    ranked, count, share = sorted(values), len(values), level / 100
    value = ranked[min(count - 1, max(0, math.ceil(share * count) - 1))]
    tail = (1 - confidence) / 2
    below = _binomial(count, share)
    # rank r (from 1) lies above the true value with probability P(X < r)
    low = next((r - 1 for r in range(1, count + 2) if below[r - 1] > tail), 0)
    high = next((r for r in range(1, count + 1) if below[r - 1] >= 1 - tail), None)
    return Percentile(
        value,
        None if low < 1 else ranked[low - 1],
        None if high is None else ranked[high - 1],
    )


def _binomial(count: int, share: float) -> list[float]:
    """P(X <= k) for k from 0 to count."""
    out, total = [], 0.0
    for k in range(count + 1):
        log = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        log += k * math.log(share) if share else (0.0 if k == 0 else -math.inf)
        log += (count - k) * math.log1p(-share) if share < 1 else (0.0 if k == count else -math.inf)
        total += math.exp(log)
        out.append(total)
    return out
