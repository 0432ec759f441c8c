"""The circuit breaker: what its states become, and that many tasks share one."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from include.errors import RemoteUnavailable
from include.remote.breaker import Breaker, Rules, State, allow, record, rules_of
from include.remote.call import Caller
from include.remote.config import Endpoint, Remotes
from include.store import open_store

RULES = Rules(consecutive=3, window_s=60, least=6, rate=0.5, open_s=10, open_max_s=80, probe_s=30)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def breaker(store_dir: Path, clock: Clock) -> Breaker:
    return Breaker(open_store(str(store_dir)), "near", RULES, clock)


def fail(one: Breaker, times: int = 1) -> None:
    for _ in range(times):
        one.leave(one.enter(), False, "HTTP 503")


def test_a_healthy_endpoint_costs_no_write(tmp_path: Path, clock: Clock) -> None:
    one = breaker(tmp_path, clock)
    for _ in range(5):
        one.leave(one.enter(), True)
    assert list(open_store(str(tmp_path)).list()) == []


def test_failures_of_different_tasks_open_it_for_all(tmp_path: Path, clock: Clock) -> None:
    for _ in range(RULES.consecutive):
        fail(breaker(tmp_path, clock))
    with pytest.raises(RemoteUnavailable, match=r"HTTP 503.*again in 10 s") as caught:
        breaker(tmp_path, clock).enter()
    assert caught.value.code == "remote.breaker_open"


def test_after_its_time_exactly_one_caller_probes(tmp_path: Path, clock: Clock) -> None:
    fail(breaker(tmp_path, clock), RULES.consecutive)
    clock.now += 10
    start = threading.Barrier(16)
    let_through: list[tuple[Breaker, str]] = []

    def caller() -> None:
        mine = breaker(tmp_path, clock)
        start.wait()
        try:
            let_through.append((mine, mine.enter()))
        except RemoteUnavailable:
            return

    threads = [threading.Thread(target=caller) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ((probe, token),) = let_through
    probe.leave(token, True)
    breaker(tmp_path, clock).enter()
    assert breaker(tmp_path, clock).state().clean


def test_failures_told_at_the_same_time_are_all_counted(tmp_path: Path, clock: Clock) -> None:
    rules = Rules(consecutive=100, least=100, window_s=60)
    start = threading.Barrier(8)

    def caller() -> None:
        mine = Breaker(open_store(str(tmp_path)), "near", rules, clock)
        token = mine.enter()
        start.wait()
        mine.leave(token, False, "x")

    threads = [threading.Thread(target=caller) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert breaker(tmp_path, clock).state().consecutive == 8


def test_old_states_are_cleared_away(tmp_path: Path, clock: Clock) -> None:
    one = breaker(tmp_path, clock)
    fail(one, 2)
    for path in tmp_path.rglob("*.json"):
        os.utime(path, (0, 0))
    fail(one)
    assert [path.name for path in tmp_path.rglob("*.json")] == ["00000003.json"]
    assert one.state().state == "open"


def test_a_failed_probe_opens_it_for_twice_as_long(tmp_path: Path, clock: Clock) -> None:
    one = breaker(tmp_path, clock)
    fail(one, RULES.consecutive)
    for seconds in (20, 40, 80, 80):
        clock.now = one.state().until()
        fail(breaker(tmp_path, clock))
        assert one.state().open_s == seconds


def test_a_probe_that_never_called_leaves_the_place_to_another(
    tmp_path: Path, clock: Clock
) -> None:
    one = breaker(tmp_path, clock)
    fail(one, RULES.consecutive)
    clock.now += 10
    token = one.enter()
    one.leave(token, None)
    assert breaker(tmp_path, clock).enter() != token


def test_a_probe_that_died_is_followed_by_another(tmp_path: Path, clock: Clock) -> None:
    one = breaker(tmp_path, clock)
    fail(one, RULES.consecutive)
    clock.now += 10
    dead = one.enter()
    with pytest.raises(RemoteUnavailable):
        breaker(tmp_path, clock).enter()
    clock.now += RULES.probe_s
    second = breaker(tmp_path, clock)
    token = second.enter()
    one.leave(dead, True)
    assert second.state().state == "half_open", "too late to count"
    second.leave(token, True)
    assert second.state().state == "closed"


def declared(*total_s: float) -> Endpoint:
    stages = ("upscale", "face_swap")
    models = [
        {"stage": stage, "backend": "any", "total_s": limit}
        for stage, limit in zip(stages, total_s, strict=False)
    ]
    return Endpoint.model_validate({"name": "near", "url": "https://near.test", "models": models})


@pytest.mark.parametrize("total_s", [(30,), (900,), (60, 7200)])
def test_a_probe_that_takes_all_the_time_of_a_call_closes_it(
    total_s: tuple[float, ...], tmp_path: Path, clock: Clock
) -> None:
    store, endpoint = open_store(str(tmp_path)), declared(*total_s)
    one = Breaker(store, "near", rules_of(endpoint), clock)
    fail(one, one.rules.consecutive)
    clock.now = one.state().until()
    token = one.enter()
    clock.now += max(total_s) + 4 * (5 + 30)  # the job, and a submission that was tried 4 times
    with pytest.raises(RemoteUnavailable, match=r"again in 2\d\d s"):
        Breaker(store, "near", rules_of(endpoint), clock).enter()
    one.leave(token, True)
    assert one.state().clean


def test_a_probe_that_died_blocks_for_no_longer_than_a_call(tmp_path: Path, clock: Clock) -> None:
    one = Breaker(open_store(str(tmp_path)), "near", rules_of(declared(900)), clock)
    fail(one, one.rules.consecutive)
    clock.now = one.state().until()
    one.enter()
    clock.now += 900 + 400
    one.enter()


def test_callers_give_a_probe_the_time_of_their_endpoint(tmp_path: Path) -> None:
    ctx = SimpleNamespace(cache=SimpleNamespace(store=open_store(str(tmp_path))))
    caller, endpoint = Caller(Remotes()), declared(7200)
    breaker = caller.breaker(ctx, endpoint)
    assert breaker.rules == rules_of(endpoint)
    assert breaker.rules.probe_s > 7200
    assert caller.breaker(ctx, endpoint) is breaker, "one for all threads"


def test_the_stores_own_clock_is_used_by_default(tmp_path: Path) -> None:
    one = Breaker(open_store(str(tmp_path)), "near", RULES)
    fail(one, RULES.consecutive)
    assert one.state().since == pytest.approx(
        next(iter(open_store(str(tmp_path)).list())).modified.timestamp(), abs=60
    )


def test_a_state_that_cannot_be_read_is_not_for_ever(tmp_path: Path, clock: Clock) -> None:
    store = open_store(str(tmp_path))
    store.put("_shared/breaker/near/00000007.json", b"rubbish")
    one = breaker(tmp_path, clock)
    fail(one, RULES.consecutive)
    assert one.state().state == "open"


@given(st.lists(st.booleans(), max_size=40))
def test_less_than_the_rate_and_never_in_a_row_stays_closed(outcomes: list[bool]) -> None:
    state, now = State(), 0.0
    for ok in outcomes:
        now += 1
        state = record(state, ok, now, RULES, "")
        recent = state.outcomes
        if state.state == "open":
            return
        failed = sum(not o.ok for o in recent)
        assert state.consecutive < RULES.consecutive
        assert len(recent) < RULES.least or failed < RULES.rate * len(recent) or recent[-1].ok


class Model(RuleBasedStateMachine):
    """Whatever happens, in whatever order and with whatever clocks, there is a way out."""

    def __init__(self) -> None:
        super().__init__()
        self.state, self.now, self.tokens, self.probes = State(), 1e6, 0, set()

    @rule(skew=st.floats(-200, 200))
    def enter(self, skew: float) -> None:
        self.tokens += 1
        before = self.state
        new = allow(before, self.now + skew, RULES, str(self.tokens))
        if new is not None:
            if new.state == "half_open":
                assert before != new
                assert new.probe == str(self.tokens)
            self.state = new

    @precondition(lambda self: self.tokens)
    @rule(ok=st.sampled_from([True, False, None]), data=st.data(), skew=st.floats(-200, 200))
    def leave(self, ok: bool | None, data: st.DataObject, skew: float) -> None:
        token = str(data.draw(st.integers(1, self.tokens)))
        self.state = record(self.state, ok, self.now + skew, RULES, token)

    @rule(seconds=st.floats(0, 100))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def a_caller_who_waits_is_let_through(self) -> None:
        longest = RULES.open_max_s + RULES.probe_s + 400
        assert allow(self.state, self.now + longest, RULES, "late") is not None

    @invariant()
    def only_a_half_open_one_has_a_probe(self) -> None:
        assert self.state.state == "half_open" or not self.state.outcomes or not self.state.probe
        assert self.state.open_s <= RULES.open_max_s


TestModel = Model.TestCase
