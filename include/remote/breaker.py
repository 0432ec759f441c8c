"""A circuit breaker for each endpoint, its state shared by all tasks through the store.

``closed`` lets calls through and counts; ``open`` lets none through until its time is over; then
exactly one caller is the probe (``half_open``), and its outcome closes or opens again, for twice as
long. What a state becomes is a pure function; states are objects ``<epoch>.json`` that are
created conditionally, so that of two tasks that change a state at a time one wins and the other
looks again. Times are the store's: clocks of workers may disagree.

A healthy endpoint costs one listing and one read a second and no write: a success is written down
only where failures stand.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pydantic import Field, ValidationError

from include.contracts.base import Contract
from include.errors import RemoteUnavailable
from include.remote.config import Endpoint
from include.remote.http import RETRY_AFTER_MAX_S, TRIES
from include.remote.shared import SHARED
from include.store import ObjectMissing, ObjectStore
from include.store.lease import store_time

log = logging.getLogger(__name__)

_KEPT_S = 600.0
_FRESH_S = 1.0
_RACES = 20


@dataclass(frozen=True)
class Rules:
    """When a breaker opens, and for how long."""

    consecutive: int = 5
    """Failures one after the other."""
    window_s: float = 60.0
    least: int = 10
    """Outcomes in the window from which their rate counts."""
    rate: float = 0.5
    """Share of failures in the window."""
    open_s: float = 30.0
    open_max_s: float = 600.0
    probe_s: float = 120.0
    """After this long a probe without an outcome is given up, and another caller is the probe."""


def rules_of(endpoint: Endpoint) -> Rules:
    """The rules of an endpoint: a probe is given the time of its longest call.

    That is ``total_s`` for the job, and one request with all its tries for what is around it.
    """
    longest = max(
        model.total_s + TRIES * (model.connect_s + model.submit_s + RETRY_AFTER_MAX_S)
        for model in endpoint.models
    )
    return Rules(probe_s=longest)


class Outcome(Contract):
    """How a call ended."""

    at: float
    """Seconds since 1970, by the store's clock; so all times here."""
    ok: bool


class State(Contract):
    """What all tasks know of an endpoint."""

    schema_version: Literal[1] = 1
    state: Literal["closed", "open", "half_open"] = "closed"
    consecutive: int = Field(default=0, ge=0)
    outcomes: tuple[Outcome, ...] = ()
    """The latest, oldest first; successes only since a failure."""
    since: float = 0.0
    open_s: float = 0.0
    """How long it is, or was, to stay open."""
    probe: str = ""
    """Who is the probe: a random token."""
    reason: str = ""
    """What the failure said that opened it."""
    written: str = ""
    """Random: tells two tasks apart that write the same at the same time."""

    def until(self) -> float:
        """When an open breaker lets a probe through."""
        return self.since + self.open_s

    @property
    def clean(self) -> bool:
        """Nothing is held against the endpoint."""
        return self.state == "closed" and not self.outcomes


_KEPT_OUTCOMES = 100


def allow(state: State, now: float, rules: Rules, token: str) -> State | None:
    """Ask to make a call.

    Args:
        state: as it is.
        now: the present.
        rules: when to open.
        token: who asks.

    Returns:
        The state if the call may be made, which must be stored first where it differs; None when
        it may not.
    """
    if state.state == "closed":
        return state
    if state.state == "half_open":
        if state.probe == token:
            return state
        # A clock set back, or a probe that died: better a second probe than none for ever.
        if 0 <= now - state.since < rules.probe_s:
            return None
    elif 0 <= now - state.since < state.open_s:
        return None
    return state.model_copy(update={"state": "half_open", "since": now, "probe": token})


def record(
    state: State, ok: bool | None, now: float, rules: Rules, token: str, reason: str = ""
) -> State:
    """Take an outcome into account.

    Args:
        state: as it is.
        ok: whether the endpoint did its part; None when it was not asked, or never got to answer.
        now: the present.
        rules: when to open.
        token: whose call it was.
        reason: what a failure said.
    """
    if state.state == "open" or (state.state == "half_open" and state.probe != token):
        return state  # a call from before it opened: too late to count
    if state.state == "half_open":
        if ok is None:  # somebody else may be the probe, at once
            return state.model_copy(update={"state": "open", "since": now - state.open_s})
        longer = min(2 * state.open_s, rules.open_max_s)
        return State() if ok else _open(state, now, longer, reason)
    if ok is None or (ok and state.clean):
        return state
    recent = [o for o in state.outcomes if 0 <= now - o.at < rules.window_s]
    recent = [*recent, Outcome(at=now, ok=ok)][-_KEPT_OUTCOMES:]
    failed = sum(not outcome.ok for outcome in recent)
    if failed == 0:
        return State()
    consecutive = 0 if ok else state.consecutive + 1
    changed = state.model_copy(update={"consecutive": consecutive, "outcomes": tuple(recent)})
    many = len(recent) >= rules.least and failed >= rules.rate * len(recent)
    if not ok and (many or consecutive >= rules.consecutive):
        return _open(changed, now, rules.open_s, reason)
    return changed


def _open(state: State, now: float, open_s: float, reason: str) -> State:
    return State(state="open", since=now, open_s=open_s, reason=reason[:500])


class Breaker:
    """The breaker of one endpoint.

    Args:
        store: where the state is shared.
        endpoint: its name.
        rules: when to open.
        clock: seconds since 1970; default the store's.
    """

    def __init__(
        self,
        store: ObjectStore,
        endpoint: str,
        rules: Rules | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.rules = rules or Rules()
        self._store = store
        self._prefix = f"{SHARED}/breaker/{endpoint}/"
        self._endpoint = endpoint
        self._clock = clock or (lambda: store_time(store, self._prefix).timestamp())
        self._known: tuple[float, int, State] | None = None

    def state(self) -> State:
        """As it is now."""
        return self._read()[1]

    def admits(self) -> bool:
        """Whether a call would be let through now; none is announced by asking."""
        state = self.state()
        return state.state == "closed" or allow(state, self._clock(), self.rules, "") is not None

    def enter(self) -> str:
        """Ask to make a call.

        Returns:
            A token to hand to `leave`.

        Raises:
            RemoteUnavailable: ``remote.breaker_open``.
        """
        token = uuid.uuid4().hex
        known = self._known
        if known and time.monotonic() - known[0] < _FRESH_S and known[2].state == "closed":
            return token
        self._change(lambda state, now: self._allowed(state, now, token))
        return token

    def _allowed(self, state: State, now: float, token: str) -> State:
        found = allow(state, now, self.rules, token)
        if found is None:
            probed = state.since + self.rules.probe_s
            wait = max(0.0, (state.until() if state.state == "open" else probed) - now)
            raise RemoteUnavailable(
                f"{self._endpoint} failed too often ({state.reason}); it is tried again in "
                f"{wait:.0f} s",
                code="remote.breaker_open",
            )
        return found

    def leave(self, token: str, ok: bool | None, reason: str = "") -> None:
        """Say how a call ended (see `record`)."""
        known = self._known
        if ok is not False and known and time.monotonic() - known[0] < _FRESH_S and known[2].clean:
            return
        self._change(lambda state, now: record(state, ok, now, self.rules, token, reason))

    def _change(self, change: Callable[[State, float], State]) -> None:
        """Read, change and write until nobody came in between."""
        for _ in range(_RACES):
            epoch, state = self._read()
            now = 0.0 if state.clean and change(state, 0.0) == state else self._clock()
            new = change(state, now)
            if new == state:
                self._known = (time.monotonic(), epoch, state)
                return
            new = new.model_copy(update={"written": uuid.uuid4().hex})
            body = new.model_dump_json().encode()
            key = self._key(epoch + 1)
            # A lost reply makes a store say "taken" of our own state: contents decide.
            if not (self._store.put_if_absent(key, body) or self._is(key, body)):
                continue
            self._forget(epoch + 1)
            self._known = (time.monotonic(), epoch + 1, new)
            if new.state != state.state:
                log.warning("%s: breaker %s, was %s", self._endpoint, new.state, state.state)
            return
        log.warning("%s: %d others changed the breaker first", self._endpoint, _RACES)

    def _is(self, key: str, body: bytes) -> bool:
        try:
            return self._store.get(key) == body
        except ObjectMissing:
            return False

    def _read(self) -> tuple[int, State]:
        """The newest state that can be read, and its epoch; a fresh one when there is none."""
        epochs = sorted(self._epochs(), reverse=True)
        for epoch in epochs:
            try:
                return epochs[0], State.model_validate_json(self._store.get(self._key(epoch)))
            except (ObjectMissing, ValidationError):
                continue
        return max(epochs, default=0), State()

    def _epochs(self) -> list[int]:
        names = (info.key[len(self._prefix) :] for info in self._store.list(self._prefix))
        return [int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdigit()]

    def _forget(self, epoch: int) -> None:
        """Clear old states away, but none that a slow task may still take for the newest."""
        infos = list(self._store.list(self._prefix))
        newest = max(info.modified for info in infos) if infos else None
        for info in infos:
            age = (newest - info.modified).total_seconds() if newest else 0.0
            if age > _KEPT_S and info.key < self._key(epoch):
                self._store.delete(info.key)

    def _key(self, epoch: int) -> str:
        return f"{self._prefix}{epoch:08d}.json"
