"""One round: trigger, break, heal, wait for the end, and run again what is missing."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.chaos.faults import inject
from include.chaos.schedule import Planned, RoundPlan
from include.chaos.world import World
from include.cli.follow import DAG, ENDED, load_plan
from include.cli.rest import AirflowApi, ApiError
from include.contracts.plan import CampaignPlan
from include.errors import UnderstudyError

POLL_S = 0.5
RERUNS = 1
"""How often an operator triggers the campaign again when somebody is missing at the end."""


@dataclass
class Happened:
    """A fault, as it was injected."""

    kind: str
    said: str
    at_s: float
    """Since the round's trigger."""
    until_s: float | None = None
    """When it was healed; None while it lasts."""


@dataclass
class RunFacts:
    """One run of the campaign."""

    run_id: str
    why: str
    """``first``, ``duplicate`` or ``rerun``."""
    state: str = "queued"
    ended_s: float | None = None
    tasks: list[dict[str, Any]] = field(default_factory=list)
    plan: CampaignPlan | None = None
    delivered: int = 0
    totals: dict[str, Any] = field(default_factory=dict)


@dataclass
class RoundFacts:
    """What happened in a round."""

    number: int
    cold: bool
    tenant: str
    faults: list[Happened] = field(default_factory=list)
    runs: list[RunFacts] = field(default_factory=list)
    restarted: list[str] = field(default_factory=list)
    """Processes of Airflow that ended by themselves and were started again, and when."""
    not_injected: list[str] = field(default_factory=list)
    seconds: float = 0.0
    load: tuple[float, float] = (0.0, 0.0)
    """Load average (one minute) at the begin and the end."""
    timed_out: bool = False

    @property
    def recovered_s(self) -> float | None:
        """From the end of the last fault until a run had delivered everybody; None when never.

        0 when a run was done before the last fault ended.
        """
        good = [r.ended_s for r in self.runs if r.state == "success" and r.ended_s is not None]
        last = max((fault.until_s or fault.at_s for fault in self.faults), default=0.0)
        return max(0.0, round(min(good) - last, 1)) if good else None


class Round:
    """Carries a round out in one thread: faults, healing and polling take turns.

    Args:
        world: what is broken.
        plan: what is to happen.
        brief: the round's brief.
        tenant: whose brief it is.
        usual_s: how long the undisturbed campaign takes.
        limit_s: after this the round is given up.
        say: prints a line.
    """

    def __init__(
        self,
        world: World,
        plan: RoundPlan,
        brief: Path,
        tenant: str,
        *,
        usual_s: float,
        limit_s: float,
        say: Callable[[str], None],
    ) -> None:
        self._world = world
        self._conf = {"brief": str(brief), "review": "hold", "shard_size": 2}
        self._usual = usual_s
        self._limit = limit_s
        self._say = say
        self._api = AirflowApi(world.stack.url, timeout_s=20.0)
        self._asking = ThreadPoolExecutor(1)
        self._asked: Future[None] | None = None
        self._waiting = list(plan.faults)
        self._healing: list[tuple[float, Happened, Callable[[], None]]] = []
        self.facts = RoundFacts(plan.number, plan.cold, tenant)
        self._start = 0.0

    @property
    def _now(self) -> float:
        return time.monotonic() - self._start

    def run(self) -> RoundFacts:
        """Carry it out; nothing stays broken afterwards."""
        facts = self.facts
        before = os.getloadavg()[0]
        self._start = time.monotonic()
        try:
            self._trigger_surely("first")
            self._until_ended()
            for _ in range(RERUNS):
                if facts.timed_out or self._complete():
                    break
                self._say(f"{self._now:6.1f} s  somebody is missing: triggered once more")
                self._trigger_surely("rerun")
                self._until_ended()
        finally:
            self._heal_all()
            self._asking.shutdown()
        facts.not_injected = [fault.kind for fault in self._waiting]
        facts.seconds = self._now
        facts.load = (before, os.getloadavg()[0])
        return facts

    def _until_ended(self) -> None:
        while self._now < self._limit:
            self._break()
            for name in self._world.supervise():
                self.facts.restarted.append(f"{name} {self._now:.0f} s")
                self._say(f"{self._now:6.1f} s  the {name} had ended; started again")
            self._look()
            if self._healing or not all(run.state in ENDED for run in self.facts.runs):
                time.sleep(POLL_S)
                continue
            if all(self._collect(run) for run in self.facts.runs):
                return
            time.sleep(POLL_S)
        self.facts.timed_out = True

    def _break(self) -> None:
        """Inject what is due, heal what lasted long enough."""
        for due in [item for item in self._healing if item[0] <= self._now]:
            self._heal(due)
        running = any(run.state not in ENDED for run in self.facts.runs)
        for fault in list(self._waiting):
            if fault.at * self._usual <= self._now and running:
                self._inject(fault)

    def _inject(self, fault: Planned) -> None:
        done = inject(self._world, fault, lambda: self._trigger("duplicate"))
        if done is None:
            return
        self._waiting.remove(fault)
        happened = Happened(fault.kind, done.said, round(self._now, 1))
        self.facts.faults.append(happened)
        self._say(f"{self._now:6.1f} s  {fault.kind}: {done.said}")
        if done.heal:
            self._healing.append((self._now + fault.lasts_s, happened, done.heal))

    def _heal(self, item: tuple[float, Happened, Callable[[], None]]) -> None:
        _, happened, heal = item
        heal()
        self._healing.remove(item)
        happened.until_s = round(self._now, 1)
        self._say(f"{self._now:6.1f} s  {happened.kind} is over")

    def _heal_all(self) -> None:
        for item in list(self._healing):
            self._heal(item)

    def _trigger(self, why: str) -> bool:
        """Start the campaign; whether it could be started."""
        with contextlib.suppress(ApiError):
            name = f"{self.facts.tenant}-{len(self.facts.runs) + 1}"
            self._api.trigger(DAG, self._conf, name)
            self.facts.runs.append(RunFacts(name, why))
            return True
        return False

    def _trigger_surely(self, why: str) -> None:
        while not self._trigger(why) and self._now < self._limit:
            time.sleep(POLL_S)

    def _look(self) -> None:
        """Have somebody ask what became of the runs: an answer may be long in coming."""
        if self._asked is None or self._asked.done():
            self._asked = self._asking.submit(self._ask)

    def _ask(self) -> None:
        with contextlib.suppress(ApiError):
            for run in list(self.facts.runs):
                if run.state not in ENDED:
                    run.state = self._api.run_state(DAG, run.run_id)
                    if run.state in ENDED:
                        run.ended_s = round(self._now, 1)
                        self._say(f"{self._now:6.1f} s  {run.why} run: {run.state}")

    def _collect(self, run: RunFacts) -> bool:
        """Read a run that ended; whether everything answered."""
        if run.tasks:
            return True
        try:
            run.plan = load_plan(self._api.xcom(DAG, run.run_id, "plan", "campaign"))
            run.totals = self._api.xcom(DAG, run.run_id, "report") or {}
            run.delivered = int(run.totals.get("delivered") or 0)
            run.tasks = self._api.task_instances(DAG, run.run_id)
        except UnderstudyError:
            return False
        return True

    def _complete(self) -> bool:
        return any(run.state == "success" for run in self.facts.runs)
