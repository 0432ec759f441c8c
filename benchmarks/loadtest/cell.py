"""One cell of ``bench load``: renders arrive and pass the real operator; runs where Airflow is.

``python -m benchmarks.loadtest.cell SPEC OUT`` reads what to do, writes what happened. Each render
is a shard of one row. Its stages follow each other as in the DAG; a stage that is ready waits in
its pool, where the task that most others wait for goes first and then the older render, which is
Airflow's order. A worker thread takes it and calls ``StageOperator.execute``, which starts the
stage's process. What that raises goes through the DAGs' own retry policy and delays. What is left
out is Airflow's scheduler and database, whose share ``bench fanout`` measures.
"""

from __future__ import annotations

import heapq
import importlib
import json
import logging
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

from include.errors import UnderstudyError
from include.stages.specs import STAGES, stage_edges

ROWS = tuple(spec.name for spec in STAGES.values() if spec.scope == "row")


class Graph:
    """The row stages as the DAG has them."""

    def __init__(self) -> None:
        edges = stage_edges()
        known = [(a, b) for a, b in edges if a in ROWS and b in ROWS]
        self.before = {name: {a for a, b in known if b == name} for name in ROWS}
        self.after = {name: {b for a, b in known if a == name} for name in ROWS}
        self.weight = {name: len(self._behind(name)) for name in ROWS}
        """How many stages follow, directly or not: Airflow's priority weight, less one."""

    def _behind(self, name: str) -> set[str]:
        return self.after[name].union(*(self._behind(other) for other in self.after[name]))


class Cell:
    """The queue, its workers and what they note."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.graph = Graph()
        self.stage = importlib.import_module("operators.stage")
        self.retries = importlib.import_module("operators.retries")
        self.changed = threading.Condition()
        self.later: list[tuple[float, int, str, int]] = []
        """(when due, render, stage, try): a heap."""
        self.queues: dict[str, list[tuple[int, int, str, int, float]]] = defaultdict(list)
        """By pool: (-weight, render, stage, try, when it became ready): heaps."""
        self.done: list[set[str]] = [set() for _ in spec["shards"]]
        self.lost: dict[int, str] = {}
        self.running = 0
        self.attempts: list[dict[str, Any]] = []
        self.luck = Random(spec["seed"])
        self.start = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Let everything arrive and end; returns what happened."""
        roots = [name for name, before in self.graph.before.items() if not before]
        for render, at in enumerate(self.spec["arrivals"]):
            for name in roots:
                heapq.heappush(self.later, (at, render, name, 1))
        load = [os.getloadavg()[0]]
        self.start = time.monotonic()
        pools = self.spec["slots"]
        workers = [
            threading.Thread(target=self._work, args=(pool,), name=f"{pool}-{number}")
            for pool, count in pools.items()
            for number in range(count)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        load.append(os.getloadavg()[0])
        return {
            "attempts": self.attempts,
            "lost": {str(render): why for render, why in self.lost.items()},
            "wall": self._now(),
            "load_1min": load,
        }

    def _now(self) -> float:
        return time.monotonic() - self.start

    def _work(self, pool: str) -> None:
        while (task := self._take(pool)) is not None:
            try:
                self._try(*task)
            finally:
                with self.changed:
                    self.running -= 1
                    self.changed.notify_all()

    def _take(self, pool: str) -> tuple[int, str, int, float] | None:
        """Wait for a task of a pool; None when no more can come."""
        with self.changed:
            while True:
                self._promote()
                if self.queues[pool]:
                    _, render, name, number, ready = heapq.heappop(self.queues[pool])
                    self.running += 1
                    return render, name, number, ready
                if not self.later and not self.running and not any(self.queues.values()):
                    self.changed.notify_all()
                    return None
                next_due = self.later[0][0] - self._now() if self.later else None
                self.changed.wait(None if next_due is None else max(0.0, next_due))

    def _promote(self) -> None:
        """Queue what is due."""
        while self.later and self.later[0][0] <= self._now():
            due, render, name, number = heapq.heappop(self.later)
            if render not in self.lost:
                entry = (-self.graph.weight[name], render, name, number, due)
                heapq.heappush(self.queues[STAGES[name].pool], entry)

    def _try(self, render: int, name: str, number: int, ready: float) -> None:
        begun = self._now()
        error = self._execute(render, name, number)
        note = {"job": render, "stage": name, "number": number, "ready": ready, "start": begun}
        with self.changed:
            ended = self._now()
            self.attempts.append(
                {**note, "end": ended, "ok": error is None, "error": type(error).__name__}
            )
            if error is None:
                self._succeeded(render, name, ended)
            else:
                self._failed(render, name, number, ended, error)

    def _execute(self, render: int, name: str, number: int) -> Exception | None:
        shard = self.spec["shards"][render]
        operator = self.stage.StageOperator(task_id=name, stage=name, shard=shard)
        ti = SimpleNamespace(
            dag_id="bench_load",
            task_id=name,
            map_index=-1,
            try_number=number,
            max_tries=self.retries.DEFAULT_ARGS["retries"],
        )
        try:
            done = operator.execute({"ti": ti, "run_id": f"r{render:05}"})
        except Exception as error:  # what a task process would report to the scheduler
            return error
        if done["made"] != 1:  # a row's own trouble, which a load test must not hide
            return RuntimeError(f"{name} of render {render} made nothing: {done}")
        return None

    def _succeeded(self, render: int, name: str, now: float) -> None:
        done = self.done[render]
        done.add(name)
        for following in self.graph.after[name]:
            if render not in self.lost and self.graph.before[following] <= done:
                heapq.heappush(self.later, (now, render, following, 1))

    def _failed(self, render: int, name: str, number: int, now: float, error: Exception) -> None:
        delay = self.delay(error, number)
        if delay is None:
            self.lost.setdefault(render, f"{name}: {type(error).__name__}: {error}"[:300])
        else:
            heapq.heappush(self.later, (now + delay, render, name, number + 1))

    def delay(self, error: Exception, number: int) -> float | None:
        """Seconds until the next try, by the DAGs' policy; None when there is none."""
        arguments = self.retries.DEFAULT_ARGS
        if number > arguments["retries"] or not isinstance(error, UnderstudyError):
            return None
        decision = self.retries.BY_ERROR.evaluate(
            error, try_number=number, max_tries=arguments["retries"]
        )
        if decision.action.name == "FAIL":
            return None
        if decision.retry_delay is not None:
            return float(decision.retry_delay.total_seconds())
        base = arguments["retry_delay"].total_seconds()
        base *= arguments["retry_exponential_backoff"] ** (number - 1)
        # Airflow adds up to as much again, by a hash of the task's name and try.
        return float(
            min(base * (1 + self.luck.random()), arguments["max_retry_delay"].total_seconds())
        )


def main(argv: list[str]) -> int:
    """Read a cell's specification, run it, write its record."""
    logging.disable(logging.INFO)
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    found = Cell(spec).run()
    Path(argv[1]).write_text(json.dumps(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
