"""A live Airflow with DAGs of the benchmark's own, and what it says about a run's tasks."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.cli.environments import ENVIRONMENTS
from include.cli.follow import ENDED
from include.cli.rest import AirflowApi
from include.cli.stack import Stack, free_port, running_stack
from include.settings import Settings

POLL_S = 1.0
"""How often a run is asked for its state: seldom, the answer costs the machine that is measured."""


class BenchStack(Stack):
    """The project's stack with other DAGs than the project's; started from any environment."""

    def environment(self) -> dict[str, str]:
        """See ``Stack.environment``."""
        env = super().environment()
        return {
            **env,
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "PATH": f"{ENVIRONMENTS['airflow'].path / 'bin'}{os.pathsep}{env['PATH']}",
            "UNDERSTUDY_WORKER_PYTHON": str(self.settings.worker_python),
            "UNDERSTUDY_THREADS": str(self.settings.threads),
        }


@dataclass(frozen=True)
class Task:
    """One task of a run, in Airflow's own timestamps, seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """From its start to its end."""
        return self.end - self.start


@dataclass(frozen=True)
class DagRun:
    """A run that succeeded."""

    dag_id: str
    run_id: str
    tasks: Mapping[str, Task]
    """By task id."""


@contextmanager
def live_stack(
    home: Path, settings: Settings, dags: str, dag_ids: tuple[str, ...]
) -> Iterator[BenchStack]:
    """Airflow for as long as the block runs.

    Args:
        home: a new folder for everything that belongs to it.
        settings: how many slots; the store and the interpreter of the stages.
        dags: source of a DAG file.
        dag_ids: the DAGs in it.

    Raises:
        StackError: it did not come up.
    """
    folder = home / "dags"
    folder.mkdir(parents=True)
    (folder / "bench.py").write_text(dags, encoding="utf-8")
    stack = BenchStack(home, free_port(), open_doors=True, settings=settings, dag_ids=dag_ids)
    tell(f"starting Airflow on {stack.url}")
    with running_stack(stack):
        yield stack


def run_dag(api: AirflowApi, dag_id: str, conf: Mapping[str, Any]) -> DagRun:
    """Trigger a DAG and wait for its end.

    Raises:
        SystemExit: it failed; the message names the tasks that did not succeed.
    """
    run_id = api.trigger(dag_id, dict(conf))
    while (state := api.run_state(dag_id, run_id)) not in ENDED:
        time.sleep(POLL_S)
    instances = api.task_instances(dag_id, run_id)
    if state != "success":
        bad = {i["task_id"]: i["state"] for i in instances if i["state"] != "success"}
        raise SystemExit(f"{dag_id} failed: {bad}; see its tasks' logs")
    tasks = {i["task_id"]: Task(_at(i["start_date"]), _at(i["end_date"])) for i in instances}
    return DagRun(dag_id, run_id, tasks)


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def tell(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)
