"""The event loop against closed forms, and against what must hold for any queue."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation.engine import simulate
from benchmarks.simulation.network import Delay, Faults, Jobs, Network, Pool, Stage, Trace

JOBS = 60_000


def one_stage(servers: int, **more: object) -> Network:
    return Network((Stage("only", 0),), (Pool("pool", servers, servers, **more),))


def poisson(rate: float, count: int, seed: int) -> list[float]:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count)).tolist()


def mean_wait(trace: Trace, jobs: Jobs) -> float:
    (service,) = jobs.service
    waits = (e - r - s for e, r, s in zip(trace.end, jobs.release, service, strict=True))
    return statistics.fmean(waits)


def erlang_c(servers: int, load: float) -> float:
    """Probability that a job has to wait; load in Erlang."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked / (1 - load / servers * (1 - blocked))


@pytest.mark.parametrize(("servers", "use"), [(1, 0.6), (4, 0.75), (30, 0.9)])
def test_exponential_work_waits_as_erlang_says(servers: int, use: float) -> None:
    rate = servers * use
    service = np.random.default_rng(7).exponential(1, JOBS).tolist()
    jobs = Jobs(poisson(rate, JOBS, 3), [service])
    trace = simulate(one_stage(servers), jobs, 1)
    expected = erlang_c(servers, rate) / (servers - rate)
    assert mean_wait(trace, jobs) == pytest.approx(expected, rel=0.07)


@pytest.mark.parametrize("shape", ["constant", "uniform", "lognormal"])
def test_any_work_waits_as_pollaczek_and_khinchine_say(shape: str) -> None:
    luck = np.random.default_rng(5)
    drawn = {
        "constant": lambda: np.ones(JOBS),
        "uniform": lambda: luck.uniform(0, 2, JOBS),
        "lognormal": lambda: luck.lognormal(-0.32, 0.8, JOBS),
    }[shape]()
    variance = {"constant": 0.0, "uniform": 1 / 3, "lognormal": math.expm1(0.64)}[shape]
    rate = 0.7
    jobs = Jobs(poisson(rate, JOBS, 11), [drawn.tolist()])
    expected = rate * (1 + variance) / (2 * (1 - rate))
    found = mean_wait(simulate(one_stage(1), jobs, 1), jobs)
    assert found == pytest.approx(expected, rel=0.08)


def pipeline(servers: int, **more: object) -> Network:
    stages = (
        Stage("in", 0, (), 3),
        Stage("left", 0, (0,), 1),
        Stage("right", 1, (0,), 1),
        Stage("out", 0, (1, 2), 0),
    )
    pools = (Pool("a", servers, servers), Pool("b", servers, servers))
    return Network(stages, pools, **more)


def work(seed: int, count: int, rate: float = 1.0) -> Jobs:
    luck = np.random.default_rng(seed)
    service = luck.gamma(2.0, 0.4, (4, count)).tolist()
    return Jobs(poisson(rate, count, seed + 1), service)


@given(seed=st.integers(0, 10_000), servers=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_work_is_conserved_and_littles_law_holds(seed: int, servers: int) -> None:
    jobs = work(seed, 150)
    trace = simulate(pipeline(servers), jobs, seed)
    assert not any(map(math.isnan, trace.end))
    busy = sum(use.busy_s for use in trace.pools.values())
    assert busy == pytest.approx(sum(map(sum, jobs.service)))
    inside = sum(e - r for e, r in zip(trace.end, jobs.release, strict=True))
    assert trace.jobs_area == pytest.approx(inside)
    for use in trace.pools.values():
        assert use.busy_s <= servers * trace.horizon + 1e-6
    longest = [max(a, b) for a, b in zip(jobs.service[1], jobs.service[2], strict=True)]
    for number, end in enumerate(trace.end):
        least = jobs.service[0][number] + longest[number] + jobs.service[3][number]
        assert end >= jobs.release[number] + least - 1e-9


@given(seed=st.integers(0, 10_000), servers=st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_more_servers_never_make_the_tail_longer(seed: int, servers: int) -> None:
    jobs = work(seed, 300, rate=1.2)

    def tail(count: int) -> float:
        trace = simulate(pipeline(count), jobs, seed)
        taken = [e - r for e, r in zip(trace.end, jobs.release, strict=True)]
        return float(np.percentile(taken, 99))

    # Within 5%: with weights in the queue, a job may be overtaken that was not before.
    assert tail(servers + 1) <= tail(servers) * 1.05


def test_the_same_seed_gives_the_same_day_and_another_one_another() -> None:
    net, jobs = pipeline(2, faults=Faults(0.2)), work(1, 200)
    assert simulate(net, jobs, 4) == simulate(net, jobs, 4)
    assert simulate(net, jobs, 4).end != simulate(net, jobs, 5).end


def test_no_task_is_tried_more_often_than_the_budget_allows() -> None:
    net = pipeline(3, faults=Faults(0.4, (Delay("x", 1.0),), retries=2))
    trace = simulate(net, work(2, 400), 9, record=True)
    assert max(attempt.number for attempt in trace.attempts) == 3
    lost = sum(map(math.isnan, trace.end))
    failed = {(a.job, a.stage) for a in trace.attempts if a.number == 3 and not a.ok}
    assert lost == len({job for job, _ in failed}) > 0
    assert trace.tries / trace.successes < 1 / (1 - 0.4) + 0.1


def test_backoff_grows_and_is_waited_for() -> None:
    faults = Faults(1.0, (Delay("x", 5.0, 3.0),), retries=2)
    net = Network((Stage("only", 0),), (Pool("pool", 1, 1),), faults)
    trace = simulate(net, Jobs([0.0], [[0.0]]), 1, record=True)
    assert [attempt.start for attempt in trace.attempts] == [0.0, 5.0, 20.0]
    assert math.isnan(trace.end[0])


def test_a_cold_server_is_waited_for_paid_for_and_given_back() -> None:
    net = Network((Stage("only", 0),), (Pool("pool", servers=2, warm=1, cold_s=10, idle_s=5),))
    trace = simulate(net, Jobs([0.0, 0.0, 100.0], [[20.0, 4.0, 1.0]]), 1)
    assert trace.end == [20.0, 14.0, 101.0]
    use = trace.pools["pool"]
    assert use.cold_starts == 1
    # The warm one all the time, the other from its order to five seconds after its task.
    assert use.on_demand_s == pytest.approx(101.0 + 10 + 4 + 5)
    assert use.spot_s == 0


@pytest.mark.parametrize(("checkpoint", "wasteful"), [(0.0, True), (1.0, False)])
def test_a_checkpoint_saves_what_a_taken_server_had_done(checkpoint: float, wasteful: bool) -> None:
    pool = Pool("pool", 4, 4, cold_s=1, spot=4, preempt_per_s=0.05, checkpoint_s=checkpoint)
    net = Network((Stage("only", 0),), (pool,), Faults(retries=100))
    jobs = Jobs(poisson(0.1, 500, 2), [[15.0] * 500])
    trace = simulate(net, jobs, 3)
    use = trace.pools["pool"]
    assert use.preemptions > 100
    assert not any(map(math.isnan, trace.end))
    assert use.busy_s - use.wasted_s == pytest.approx(500 * 15)
    assert (use.wasted_s / use.preemptions > 2) is wasteful


def test_scheduler_and_store_serve_one_after_the_other() -> None:
    net = Network((Stage("only", 0),), (Pool("pool", 9, 9),), scheduler_s=2.0, hand_over_s=1.0)
    trace = simulate(net, Jobs([0.0] * 3, [[0.0] * 3], [[5.0] * 3]), 1)
    assert trace.end == [2 + 1 + 5, 2 + 1 + 5 + 5, 2 + 1 + 5 + 5 + 5]
    assert (trace.scheduler_busy_s, trace.store_busy_s) == (6.0, 15.0)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValueError, match="1 services for 4 stages"):
        simulate(pipeline(1), Jobs([0.0], [[1.0]]), 1)
    with pytest.raises(ValueError, match="comes after"):
        simulate(Network((Stage("a", 0, (0,)),), (Pool("p", 1, 1),)), Jobs([0.0], [[1.0]]), 1)
    with pytest.raises(ValueError, match="pool p"):
        Pool("p", 1, 2)
