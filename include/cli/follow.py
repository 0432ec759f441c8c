"""A campaign's run, wherever Airflow is: in a process of our own, or a running stack."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from include.cli.progress import Progress
from include.cli.rest import AirflowApi, ApiError
from include.contracts.plan import CampaignPlan
from include.errors import BY_EXIT_CODE, Bug
from include.settings import PROJECT, Settings
from include.store import open_store

DAG = "campaign_render"
HOME = PROJECT / ".understudy" / "render"
"""AIRFLOW_HOME of runs without services."""
ENDED = ("success", "failed")
PATIENCE_S = 300.0
"""How long Airflow's API may be away while a run is followed."""
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """A run that has ended."""

    run_id: str
    state: str
    plan: CampaignPlan | None
    """None when planning failed."""
    where: str
    """Its log or page."""


def load_plan(ref: dict[str, Any] | None) -> CampaignPlan | None:
    """The plan behind the XCom ``campaign`` of the task ``plan``."""
    if ref is None:
        return None
    return CampaignPlan.model_validate_json(open_store(ref["store"]).get(ref["plan"]))


def run_in_process(conf: dict[str, Any], progress: Progress) -> Run:
    """Run the DAG in a child process: serial, no services.

    Raises:
        UnderstudyError: nothing could be planned; the class is that of the first error.
    """
    log = HOME / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "operators.inprocess", DAG, "--conf", json.dumps(conf)]
    command += ["--events", str(write_end)]
    with log.open("w") as stream:
        child = subprocess.Popen(
            command,
            env=in_process_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            pass_fds=(write_end,),
        )
    os.close(write_end)
    last: dict[str, Any] = {}
    first_error: dict[str, Any] = {}
    with os.fdopen(read_end) as events:
        for line in events:
            last = json.loads(line)
            if "task_id" in last:
                progress.task(last)
            if last.get("exit_code") and not first_error:
                first_error = last
    child.wait()
    plan = load_plan(last.get("campaign")) if "run_id" in last else None
    if plan is None:
        message = first_error.get("message") or f"Airflow ended with {child.returncode}; see {log}"
        raise BY_EXIT_CODE.get(first_error.get("exit_code", 1), Bug)(message)
    return Run(str(last["run_id"]), str(last["state"]), plan, str(log))


def in_process_environment() -> dict[str, str]:
    """The child's environment: a home of its own, quiet, serial."""
    settings = Settings.from_env()
    database = f"sqlite:///{HOME}/airflow.db?timeout=60"
    return {
        **os.environ,
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
        "PYTHONPATH": str(PROJECT),
        "UNDERSTUDY_STORE": settings.store,
        "UNDERSTUDY_STATE": str(settings.state),
    }


def run_on_stack(api: AirflowApi, conf: dict[str, Any], progress: Progress) -> Run:
    """Trigger the DAG in a running Airflow and follow it to its end.

    Raises:
        BadInput: a parameter is not valid.
        UnderstudyError: nothing could be planned.
    """
    run_id = api.trigger(DAG, conf)
    page = f"{api.base_url}/dags/{DAG}/runs/{run_id}"
    progress.line(f"triggered: {page}")
    ask = _Patient(progress)
    while True:
        state = ask(lambda: api.run_state(DAG, run_id))
        instances = ask(lambda: api.task_instances(DAG, run_id))
        for instance in sorted(instances, key=lambda i: i.get("end_date") or ""):
            progress.task(instance)
        if state in ENDED:
            break
        time.sleep(1.0)
    plan = load_plan(ask(lambda: api.xcom(DAG, run_id, "plan", "campaign")))
    if plan is None:
        raise Bug(f"nothing was planned; see {page}")
    return Run(run_id, state, plan, page)


class _Patient:
    """Asks again while Airflow's API is being restarted: the run goes on without it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def __call__(self, ask: Callable[[], T]) -> T:
        give_up = time.monotonic() + PATIENCE_S
        told = False
        while True:
            try:
                return ask()
            except ApiError as problem:
                if problem.status in range(400, 500) or time.monotonic() > give_up:
                    raise
                if not told:
                    self._progress.line("Airflow does not answer; the run goes on, waiting for it")
                    told = True
                time.sleep(2.0)


def absolute(path: str) -> str:
    """A path made absolute; URIs stay."""
    return path if "://" in path else str(Path(path).resolve())
