"""Airflow on this machine: three processes, started, watched and stopped."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.cli.airflow_settings import load_over_rest, read_airflow_settings
from include.cli.rest import AirflowApi
from include.cli.sessions import alive, left, members, signal_session, started
from include.errors import Transient
from include.settings import PROJECT, Settings

PROCESSES = {
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "api-server": ("api-server",),
}
"""No triggerer: local stages do not defer, and questions to people wait without one."""
TRIGGERER = {"triggerer": ("triggerer", "--skip-serve-logs")}
"""Where stages are pods, their tasks wait in it."""
BOOT_S = 180.0
STOP_S = 8.0
DAGS = ("campaign_render", "render_ad")


class StackError(Transient):
    """Airflow could not be started."""

    default_code = "airflow.boot"


def free_port(preferred: int = 0) -> int:
    """A free TCP port on this machine; the preferred one when nobody has it."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise StackError("no TCP port is free on 127.0.0.1")


@dataclass
class Stack:
    """One Airflow with a home of its own.

    Args:
        home: its AIRFLOW_HOME: database, logs, passwords, pid file.
        port: of UI and API, on 127.0.0.1 only.
        open_doors: everybody is an administrator without a login; else a password is made.
        dag_ids: the DAGs that it is not ready without.
        options: further settings of Airflow, by ``SECTION__NAME``.
        variables: further variables of its processes' environment.
        boot_s: how long it may take to come up.
    """

    home: Path
    port: int = 8080
    open_doors: bool = False
    settings: Settings = field(default_factory=Settings.from_env)
    dag_ids: tuple[str, ...] = DAGS
    options: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    boot_s: float = BOOT_S

    @property
    def url(self) -> str:
        """Of the UI."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log_dir(self) -> Path:
        """What the processes say."""
        return self.home / "processes"

    @property
    def _pids(self) -> Path:
        return self.home / "stack.json"

    def api(self) -> AirflowApi:
        """A client that is logged in."""
        if self.open_doors:
            return AirflowApi(self.url)
        return AirflowApi(self.url, "admin", self.password())

    def password(self) -> str:
        """The administrator's password: made on first use, kept in a file that only we can read."""
        file = self.home / "passwords.json"
        if not file.exists():
            _write_private(file, json.dumps({"admin": secrets.token_urlsafe(12)}))
        return str(json.loads(file.read_text())["admin"])

    def environment(self) -> dict[str, str]:
        """The processes' environment."""
        parallel = min(4, self.settings.slots + 1)
        database = os.environ.get("UNDERSTUDY_DATABASE_URL", "")
        if database:
            parallel = self.settings.pool_slots + 4
        options = {
            "CORE__DAGS_FOLDER": str(PROJECT / "dags"),
            "CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": str(parallel),
            "CORE__MAX_ACTIVE_TASKS_PER_DAG": str(parallel),
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": str(self.open_doors),
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.home / "passwords.json"),
            # WAL is on by default; the timeout lets writers wait for each other.
            "DATABASE__SQL_ALCHEMY_CONN": database
            or f"sqlite:///{self.home}/airflow.db?timeout=60",
            # Quick hand-overs between tasks without a core lost to an idle scheduler.
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.4",
            # A worker that misses the end of its task looks again after this: else up to 5 s, in
            # which its slot takes no other task.
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
            "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
            "API__HOST": "127.0.0.1",
            "API__PORT": str(self.port),
            "API__BASE_URL": self.url,
            "API__WORKERS": "1",
            **self._secrets(),
            **self.options,
        }
        env = {**os.environ, **self.variables}
        env.update({f"AIRFLOW__{name}": value for name, value in options.items()})
        venv_bin = str(Path(sys.prefix) / "bin")
        return {
            **env,
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": str(PROJECT),
            "PATH": f"{venv_bin}{os.pathsep}{env.get('PATH', '')}",
            "UNDERSTUDY_STATE": str(self.settings.state),
            "UNDERSTUDY_STORE": self.settings.store,
        }

    def _secrets(self) -> dict[str, str]:
        file = self.home / "secrets.json"
        if not file.exists():
            fernet = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
            made = {
                "API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
                "API__SECRET_KEY": secrets.token_urlsafe(48),
                "CORE__FERNET_KEY": fernet,
            }
            _write_private(file, json.dumps(made))
        return dict(json.loads(file.read_text()))

    def start(self) -> None:
        """Bring everything up; returns when DAGs can be triggered.

        Raises:
            StackError: it did not come up; the message names the log.
        """
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.log_dir.mkdir(exist_ok=True)
        self.password()
        env = self.environment()
        self._run("db", "migrate", env=env)
        processes = PROCESSES | (TRIGGERER if self.settings.runtime == "kubernetes" else {})
        pids = {name: self._spawn(name, args, env) for name, args in processes.items()}
        _write_private(self._pids, json.dumps({"port": self.port, "pids": pids}))
        try:
            self._wait(pids)
            load_over_rest(
                read_airflow_settings(
                    PROJECT / "airflow_settings.yaml", cpu_slots=self.settings.pool_slots
                ),
                self.api(),
            )
        except BaseException:
            self.stop()
            raise

    def pid(self, name: str) -> int:
        """The process id of one of ``PROCESSES``."""
        return int(self._state()["pids"][name]["pid"])

    def dead(self) -> list[str]:
        """Those of ``PROCESSES`` that ended; a scheduler does when it loses its database."""
        return [name for name, process in self._state()["pids"].items() if not alive(process)]

    def restart(self, name: str) -> None:
        """Start one of ``PROCESSES`` again that ended; returns at once.

        What it left behind is ended first, as service managers do: workers of a scheduler that
        was killed keep its connection to the database open, and with it, on PostgreSQL, the lock
        of a run that no other scheduler would look at then.
        """
        state = self._state()
        before = state["pids"][name]
        end = time.monotonic() + STOP_S
        while left(before) and time.monotonic() < end:
            signal_session(before["pid"], signal.SIGKILL)
            time.sleep(0.05)
        state["pids"][name] = self._spawn(name, PROCESSES[name], self.environment())
        _write_private(self._pids, json.dumps(state))

    def _run(self, *command: str, env: dict[str, str]) -> None:
        log = self.log_dir / f"{command[0]}.log"
        with log.open("a") as stream:
            code = subprocess.call(
                ["airflow", *command], env=env, cwd=PROJECT, stdout=stream, stderr=stream
            )
        if code:
            raise StackError(f"airflow {' '.join(command)} ended with {code}\n{_tail(log)}")

    def _spawn(self, name: str, args: tuple[str, ...], env: dict[str, str]) -> dict[str, Any]:
        with (self.log_dir / f"{name}.log").open("a") as stream:
            process = subprocess.Popen(
                ["airflow", *args],
                env=env,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                start_new_session=True,
            )
        return {"name": name, "pid": process.pid, "started": started(process.pid)}

    def _wait(self, pids: dict[str, dict[str, Any]]) -> None:
        end = time.monotonic() + self.boot_s
        steps = [self._healthy, self._dags_listed, self._warm]
        while steps:
            dead = [name for name, process in pids.items() if not alive(process)]
            if dead:
                log = self.log_dir / f"{dead[0]}.log"
                raise StackError(f"Airflow's {dead[0]} ended while starting\n{_tail(log)}")
            if time.monotonic() > end:
                raise StackError(
                    f"Airflow did not come up in {self.boot_s:.0f} s; see {self.log_dir}"
                )
            if steps[0]():
                steps.pop(0)
            else:
                time.sleep(0.5)

    def _healthy(self) -> bool:
        health = AirflowApi(self.url).reachable("/api/v2/monitor/health") or {}
        wanted = ("metadatabase", "scheduler", "dag_processor")
        return all((health.get(part) or {}).get("status") == "healthy" for part in wanted)

    def _dags_listed(self) -> bool:
        listed = {dag["dag_id"] for dag in self.api().get("dags", limit=100)["dags"]}
        return listed.issuperset(self.dag_ids)

    def _warm(self) -> bool:
        # The execution API is built on its first request; else the first task pays for it.
        return AirflowApi(self.url).reachable("/execution/health") is not None

    def running(self) -> bool:
        """Whether a stack that was started from this home is alive; takes over its port."""
        state = self._state()
        if not state or not any(alive(process) for process in state["pids"].values()):
            return False
        self.port = int(state["port"])
        return True

    def stop(self) -> bool:
        """Stop everything.

        Returns:
            Whether something was running.
        """
        state = self._state()
        running = [p for p in state.get("pids", {}).values() if left(p)]
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for process in running:
                signal_session(process["pid"], sign)
            end = time.monotonic() + STOP_S
            while time.monotonic() < end and any(members(p["pid"]) for p in running):
                time.sleep(0.1)
        self._pids.unlink(missing_ok=True)
        return bool(running)

    def _state(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._pids.read_text()))
        except (OSError, ValueError):
            return {}


@contextlib.contextmanager
def running_stack(stack: Stack) -> Iterator[Stack]:
    """A stack for as long as the block runs."""
    stack.start()
    try:
        yield stack
    finally:
        stack.stop()


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as stream:
        stream.write(text)


def _tail(path: Path, lines: int = 15) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
