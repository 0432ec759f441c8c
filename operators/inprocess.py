"""Runs a DAG in this process, without services: what ``./understudy render`` hands over to.

``python -m operators.inprocess DAG_ID --conf JSON --events FD`` writes one JSON line per task that
ends to the file descriptor, and a last one for the run. Everything Airflow says goes to stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

from airflow.listeners import hookimpl

from include.cli.airflow_settings import AirflowSettings, read_airflow_settings
from include.errors import UnderstudyError
from include.settings import PROJECT, Settings


class Watcher:
    """An Airflow listener that reports tasks as they end."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._began = time.monotonic()

    def say(self, **event: Any) -> None:
        """Write one line."""
        self._stream.write(json.dumps(event, default=str) + "\n")
        self._stream.flush()

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        """Airflow's hook: a task begins."""
        self._began = time.monotonic()

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Airflow's hook: a task ended well."""
        self._ended(task_instance, "success", {})

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Airflow's hook: a try of a task failed."""
        known = isinstance(error, UnderstudyError)
        code = error.exit_code if known else UnderstudyError.exit_code
        self._ended(task_instance, "failed", {"message": str(error), "exit_code": code})

    def _ended(self, task_instance: Any, state: str, more: dict[str, Any]) -> None:
        self.say(
            task_id=task_instance.task_id,
            map_index=task_instance.map_index,
            label=getattr(task_instance, "rendered_map_index", None),
            state=state,
            seconds=time.monotonic() - self._began,
            **more,
        )


def main(argv: list[str] | None = None) -> int:
    """Run the DAG; 0 when it succeeded, else 1."""
    parser = argparse.ArgumentParser(prog="python -m operators.inprocess", description=__doc__)
    parser.add_argument("dag_id")
    parser.add_argument("--conf", type=json.loads, default={})
    parser.add_argument("--events", type=int, default=1)
    args = parser.parse_args(argv)
    with os.fdopen(args.events, "w", closefd=args.events > 2) as stream:
        watcher = Watcher(stream)
        prepare_database()
        dag = load_dag(args.dag_id)
        from airflow.sdk.listener import get_listener_manager

        get_listener_manager().add_listener(watcher)  # type: ignore[no-untyped-call]
        run = dag.test(run_conf=args.conf)
        watcher.say(run_id=run.run_id, state=str(run.state), campaign=_campaign(run))
    return 0 if str(run.state) == "success" else 1


def prepare_database() -> None:
    """Make the database of this AIRFLOW_HOME, once, and load our settings into it."""
    from airflow.utils.db import initdb
    from airflow.version import version

    stamp = Path(os.environ["AIRFLOW_HOME"]) / "database.version"
    if not stamp.exists() or stamp.read_text() != version:
        initdb()
        stamp.write_text(version)
    load_settings()


def load_settings() -> None:
    """Load ``airflow_settings.yaml`` into the database; the pool ``cpu`` as settings say."""
    load_into_database(
        read_airflow_settings(
            PROJECT / "airflow_settings.yaml", cpu_slots=Settings.from_env().pool_slots
        )
    )


def load_into_database(settings: AirflowSettings) -> None:
    """Create pools, variables and connections where no API server runs; as over REST."""
    from airflow.models import Connection, Pool, Variable
    from airflow.utils.session import create_session

    with create_session() as session:
        for pool in settings.pools:
            Pool.create_or_update_pool(
                name=pool.pool_name,
                slots=pool.pool_slot,
                description=pool.pool_description,
                include_deferred=False,
                session=session,
            )
        have = {key for (key,) in session.query(Variable.key)}
        for variable in settings.variables:
            if variable.variable_name not in have:
                made = Variable(variable.variable_name, variable.variable_value)  # type: ignore[no-untyped-call]
                session.add(made)
        have = {key for (key,) in session.query(Connection.conn_id)}
        for connection in settings.connections:
            if connection.conn_id not in have:
                session.add(
                    Connection(
                        conn_id=connection.conn_id,
                        conn_type=connection.conn_type,
                        host=connection.conn_host,
                        schema=connection.conn_schema,
                        login=connection.conn_login,
                        port=connection.conn_port,
                        extra=json.dumps(connection.conn_extra or {}),
                    )
                )


def load_dag(dag_id: str) -> Any:
    """The DAG of that name.

    Raises:
        RuntimeError: a DAG file cannot be imported.
    """
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(PROJECT / "dags"))
    if bag.import_errors:
        raise RuntimeError("\n".join(bag.import_errors.values()))
    return bag.dags[dag_id]


def _campaign(run: Any) -> Any:
    """What the task ``plan`` said about the campaign; None when it did not come that far."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session

    query = XComModel.get_many(
        key="campaign", run_id=run.run_id, task_ids=["plan"], dag_ids=[run.dag_id]
    )
    with create_session() as session:
        row = session.scalars(query).first()
        return None if row is None else XComModel.deserialize_value(row)


if __name__ == "__main__":
    sys.exit(main())
