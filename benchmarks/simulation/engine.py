"""The event loop: jobs pass a graph of stages, each a task that waits for a server of its pool.

A task passes, in this order: the scheduler (one server, first come first served), its pool's queue
(by weight, then by age of the job), a server, and on it the store (one server for all pools) and
its own work. Servers are ordered when tasks wait and given back when idle; a spot server may be
taken away while it works; a try may fail. Times are exact, there are no time steps.

Why not a library: on a queue with five servers SimPy 4.1 gave the same times to the last digit at
150,000 tasks a CPU second against 500,000 here, before servers that come and go; a day of 1,000,000
renders one by one has 10 million tasks.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

from benchmarks.simulation.network import Attempt, Jobs, Network, Pool, PoolUse, Trace


class _Servers:
    """A pool's servers and the tasks that wait for one."""

    def __init__(self, spec: Pool) -> None:
        self.spec = spec
        self.queue: list[tuple[int, int, int, float]] = []
        """(-weight, job, task, when it became ready): a heap."""
        self.idle = list(range(spec.warm))
        self.off = list(range(spec.servers - 1, spec.warm - 1, -1))
        self.ordered = 0
        self.since = dict.fromkeys(self.idle, 0.0)
        """When each server that is on was ordered."""
        self.rested: dict[int, int] = {}
        """How often each has become idle: tells an outdated idle timer."""
        self.use = PoolUse()

    def is_spot(self, server: int) -> bool:
        return server >= self.spec.servers - self.spec.spot

    def pay(self, server: int, now: float) -> None:
        seconds = now - self.since.pop(server)
        if self.is_spot(server):
            self.use.spot_s += seconds
        else:
            self.use.on_demand_s += seconds


class _Engine:
    def __init__(self, network: Network, jobs: Jobs, seed: int, record: bool) -> None:
        self.net, self.jobs, self.record = network, jobs, record
        self.random = random.Random(seed)
        self.pools = [_Servers(pool) for pool in network.pools]
        count = len(network.stages)
        self.after: list[list[int]] = [[] for _ in range(count)]
        for number, stage in enumerate(network.stages):
            for before in stage.after:
                self.after[before].append(number)
        self.count = count
        self.now = self.scheduler_free = self.store_free = 0.0
        self.inside, self.last_change = 0, 0.0
        self.waits: dict[int, int] = {}
        """Task to how many of the stages before it are not done."""
        self.left: dict[int, int] = {}
        """Job to how many of its stages are not done."""
        self.tries: dict[int, int] = {}
        self.saved: dict[int, float] = {}
        """Task to seconds of its work that a checkpoint kept."""
        self.numbers = itertools.count()
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        names = (pool.name for pool in network.pools)
        uses = (pool.use for pool in self.pools)
        end = [math.nan] * len(jobs.release)
        self.trace = Trace(end=end, pools=dict(zip(names, uses, strict=True)))

    def at(self, when: float, what: Callable[..., None], *arguments: object) -> None:
        heapq.heappush(self.events, (when, next(self.numbers), what, arguments))

    def run(self) -> Trace:
        arrivals = iter(enumerate(self.jobs.release))
        coming = next(arrivals, None)
        events, pop = self.events, heapq.heappop
        while events or coming is not None:
            if coming is not None and (not events or coming[1] <= events[0][0]):
                job, self.now = coming
                self._arrive(job)
                coming = next(arrivals, None)
                continue
            self.now, _, what, arguments = pop(events)
            what(*arguments)
        for pool in self.pools:
            for server in list(pool.since):
                pool.pay(server, self.trace.horizon)
        return self.trace

    def _arrive(self, job: int) -> None:
        self._change(1)
        first = job * self.count
        self.left[job] = self.count
        for number, stage in enumerate(self.net.stages):
            if stage.after:
                self.waits[first + number] = len(stage.after)
            else:
                self._ready(first + number)

    def _change(self, by: int) -> None:
        self.trace.jobs_area += self.inside * (self.now - self.last_change)
        self.last_change = self.now
        self.inside += by

    def _ready(self, task: int) -> None:
        cost, ready = self.net.scheduler_s, self.now
        if not cost and not self.net.hand_over_s:
            self._queue(task, ready)
            return
        self.scheduler_free = max(ready, self.scheduler_free) + cost
        self.trace.scheduler_busy_s += cost
        self.at(self.scheduler_free + self.net.hand_over_s, self._queue, task, ready)

    def _queue(self, task: int, ready: float) -> None:
        job, number = divmod(task, self.count)
        stage = self.net.stages[number]
        pool = self.pools[stage.pool]
        heapq.heappush(pool.queue, (-stage.weight, job, task, ready))
        self._match(pool)

    def _match(self, pool: _Servers) -> None:
        while pool.queue and pool.idle:
            _, _, task, ready = heapq.heappop(pool.queue)
            self._start(pool, pool.idle.pop(), task, ready)
        while pool.off and pool.ordered < len(pool.queue):
            self._order(pool)

    def _order(self, pool: _Servers) -> None:
        server = pool.off.pop()
        pool.ordered += 1
        pool.since[server] = self.now
        pool.use.cold_starts += 1
        self.at(self.now + pool.spec.cold_s, self._arrived, pool, server)

    def _arrived(self, pool: _Servers, server: int) -> None:
        pool.ordered -= 1
        self._rest(pool, server)

    def _rest(self, pool: _Servers, server: int) -> None:
        pool.idle.append(server)
        turn = pool.rested[server] = pool.rested.get(server, 0) + 1
        self._match(pool)
        if pool.spec.idle_s < math.inf and server in pool.idle:
            self.at(self.now + pool.spec.idle_s, self._give_back, pool, server, turn)

    def _give_back(self, pool: _Servers, server: int, turn: int) -> None:
        stale = pool.rested[server] != turn or server not in pool.idle
        if stale or len(pool.since) <= pool.spec.warm:
            return
        pool.idle.remove(server)
        pool.pay(server, self.now)
        pool.off.append(server)

    def _start(self, pool: _Servers, server: int, task: int, ready: float) -> None:
        job, number = divmod(task, self.count)
        self.tries[task] = self.tries.get(task, 0) + 1
        wait = self._transfer(number, job)
        work = self.jobs.service[number][job] - self.saved.get(task, 0.0)
        seconds, fate = wait + work, ""
        faults, draw = self.net.faults, self.random
        if faults.probability and draw.random() < faults.probability:
            seconds, fate = wait + draw.random() * work, "fault"
        if pool.spec.preempt_per_s and pool.is_spot(server):
            lives = draw.expovariate(pool.spec.preempt_per_s)
            if lives < seconds:
                seconds, fate = lives, "preempt"
                self._keep(pool, task, lives - wait)
        start = self.now
        self.at(start + seconds, self._end, pool, server, task, ready, start, fate)

    def _transfer(self, number: int, job: int) -> float:
        """Seconds until the store has served a task that starts now."""
        if not self.jobs.transfer:
            return 0.0
        seconds = self.jobs.transfer[number][job]
        self.store_free = max(self.now, self.store_free) + seconds
        self.trace.store_busy_s += seconds
        return self.store_free - self.now

    def _keep(self, pool: _Servers, task: int, done: float) -> None:
        checkpoint = pool.spec.checkpoint_s
        if checkpoint > 0 and done > 0:
            before = self.saved.get(task, 0.0)
            kept = before + done
            self.saved[task] = kept - math.fmod(kept, checkpoint)
            pool.use.wasted_s -= self.saved[task] - before

    def _end(
        self, pool: _Servers, server: int, task: int, ready: float, start: float, fate: str
    ) -> None:
        job, number = divmod(task, self.count)
        took, use = self.now - start, pool.use
        use.busy_s += took
        self.trace.tries += 1
        self.trace.horizon = self.now
        if self.record:
            name, tried = self.net.stages[number].name, self.tries[task]
            self.trace.attempts.append(Attempt(job, name, tried, ready, start, self.now, not fate))
        if fate:
            use.wasted_s += took
            self._again(job, task, fate)
        else:
            self._done(job, task, number)
        if fate == "preempt":
            use.preemptions += 1
            pool.pay(server, self.now)
            pool.off.append(server)
            if len(pool.since) < pool.spec.warm:
                self._order(pool)
            self._match(pool)
        else:
            self._rest(pool, server)

    def _again(self, job: int, task: int, fate: str) -> None:
        faults, tried = self.net.faults, self.tries[task]
        if tried > faults.retries:
            if self.left.pop(job, None) is not None:
                self._change(-1)
            return
        kinds = faults.kinds
        delay = faults.preempted if fate == "preempt" else self.random.choice(kinds)
        seconds = delay.base_s * delay.factor ** (tried - 1)
        if delay.jitter:
            seconds *= 1 + self.random.random()
        self.at(self.now + seconds, self._ready, task)

    def _done(self, job: int, task: int, number: int) -> None:
        self.trace.successes += 1
        self.tries.pop(task)
        self.saved.pop(task, None)
        if job not in self.left:  # lost: its other branch ends, nothing follows
            return
        self.left[job] -= 1
        if not self.left[job]:
            del self.left[job]
            self.trace.end[job] = self.now
            self._change(-1)
        first = task - number
        for following in self.after[number]:
            follower = first + following
            self.waits[follower] -= 1
            if not self.waits[follower]:
                del self.waits[follower]
                self._ready(follower)


def simulate(network: Network, jobs: Jobs, seed: int, *, record: bool = False) -> Trace:
    """Run all jobs to their end.

    Args:
        network: stages and pools.
        jobs: arrivals and work, as many services as there are stages.
        seed: of faults and preemptions; arrivals and work are given.
        record: keep every try; needs memory in proportion.

    Raises:
        ValueError: the jobs do not fit the network.
    """
    if len(jobs.service) != len(network.stages):
        raise ValueError(f"{len(jobs.service)} services for {len(network.stages)} stages")
    if any(before >= n for n, s in enumerate(network.stages) for before in s.after):
        raise ValueError("a stage waits for one that comes after it")
    return _Engine(network, jobs, seed, record).run()
