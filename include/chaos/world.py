"""What is broken: an Airflow, its store, its database, the disk and the clock, all of our own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.chaos import ceph_rgw, postgres
from include.chaos.processes import TOKEN
from include.chaos.proxy import SlowProxy
from include.cli.stack import Stack, free_port
from include.errors import Usage
from include.settings import PROJECT, Settings

HOME = PROJECT / ".understudy" / "chaos"
BUCKET = "chaos"
DISK_MIB = 768
"""Size of the small disk that can be filled."""

BOOT_S = 600.0
RESTART_S = 3.0
"""How long the supervisor takes."""
OPTIONS = {
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "5",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "45",
    "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "SCHEDULER__JOB_HEARTBEAT_SEC": "3",
    "SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "20",
    "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
}
"""How soon Airflow notices what died. Its defaults (a task's heartbeat 300 s, orphans of a dead
scheduler 300 s) make recovery a matter of ten minutes; production should set them too."""

_CLOCK_SOURCE = Path(__file__).with_name("clock.c")


@dataclass
class World:
    """Everything that is started for one chaos run.

    Args:
        store: ``dir`` or ``s3`` (a Ceph RADOS Gateway).
        database: ``sqlite`` or ``postgres``.
        home: where its files lie.

    Raises:
        Usage: what it needs is not installed.
    """

    store: str = "dir"
    database: str = "sqlite"
    home: Path = HOME
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    ceph: ceph_rgw.Cluster | None = None
    server: postgres.Server | None = None
    proxy: SlowProxy | None = None
    disk: Path | None = None
    clock: Path | None = None
    netns: str = ""
    down: set[str] = field(default_factory=set)
    """Processes of Airflow that a fault keeps down."""
    scratch: Path = field(init=False)
    settings: Settings = field(init=False)
    stack: Stack = field(init=False)
    _ending: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _missed: dict[str, float] = field(default_factory=dict)

    def start(self) -> None:
        """Bring everything up."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        self._require()
        self.home.mkdir(parents=True, exist_ok=True)
        self.scratch = Path(tempfile.mkdtemp(prefix="understudy-chaos-"))
        self.scratch.chmod(0o755)  # the database's user passes through
        self._ending.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        self._make_disk()
        uri = self._start_ceph() if self.store == "s3" else str(self._room / "store")
        os.environ.pop("UNDERSTUDY_DATABASE_URL", None)
        if self.database == "postgres":
            self._start_postgres()
        self._make_clock()
        os.environ |= {
            "UNDERSTUDY_STORE": uri,
            "UNDERSTUDY_STATE": str(self.home / "state"),
            "UNDERSTUDY_ROOTS": str(self.home),
        }
        self.settings = Settings.from_env()
        airflow = self.scratch / "airflow"
        self.stack = Stack(
            airflow,
            free_port(),
            open_doors=True,
            settings=self.settings,
            options=OPTIONS,
            variables=self._variables(),
            boot_s=BOOT_S,
        )
        self._ending.callback(self.stack.stop)
        self.stack.start()

    def stop(self) -> None:
        """End everything that was started."""
        self._ending.close()

    def supervise(self) -> list[str]:
        """Start again what ended by itself, a few seconds after it was missed.

        Returns:
            What was started.
        """
        dead = [name for name in self.stack.dead() if name not in self.down]
        now = time.monotonic()
        self._missed = {name: self._missed.get(name, now) for name in dead}
        due = [name for name, since in self._missed.items() if now - since >= RESTART_S]
        for name in due:
            self.stack.restart(name)
            del self._missed[name]
        return due

    def revive(self, name: str) -> None:
        """Start a process of Airflow again that a fault kept down."""
        self.down.discard(name)
        self.stack.restart(name)

    @property
    def having(self) -> set[str]:
        """What faults can rely on, in the words of ``schedule.Kind.needs``."""
        there = {
            "ceph": self.ceph,
            "postgres": self.server,
            "disk": self.disk,
            "netns": self.netns,
            "clock": self.clock,
        }
        return {name for name, thing in there.items() if thing}

    def cut(self, *, down: bool) -> None:
        """Take the link to the S3 server down, or up again."""
        inside = ["nsenter", f"--net=/run/netns/{self.netns}"]
        _run(*inside, "ip", "link", "set", "inside", "down" if down else "up")

    def _require(self) -> None:
        root = os.getuid() == 0
        if self.store == "s3" and not (root and ceph_rgw.installed()):
            raise Usage(
                "--store s3 starts a Ceph RADOS Gateway: it needs root and the packages "
                + " ".join(ceph_rgw.PACKAGES)
            )
        if self.database == "postgres" and postgres.programs() is None:
            packages = " ".join(postgres.PACKAGES)
            raise Usage(f"--database postgres needs the packages {packages}")

    @property
    def _room(self) -> Path:
        """Where a store on disk and scratch files lie: on the small disk where there is one."""
        return self.disk or self.scratch

    def _make_disk(self) -> None:
        """A small file system of our own; needs the right to mount."""
        disk = self.scratch / "disk"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "none", str(disk)]
        if os.getuid() == 0 and subprocess.run(command, check=False).returncode == 0:
            self._ending.callback(subprocess.run, ["umount", "-l", str(disk)], check=False)
            self.disk = disk
        (self._room / "tmp").mkdir()

    def _start_ceph(self) -> str:
        host, enter = self._make_netns()
        folder = self.scratch / "ceph"
        folder.mkdir()
        self.ceph = ceph_rgw.Cluster(folder, host, enter)
        self._ending.callback(self.ceph.stop)
        there = self.ceph.start()
        self.proxy = SlowProxy(host, self.ceph.rgw)
        self._ending.callback(self.proxy.close)
        os.environ |= {
            "AWS_ACCESS_KEY_ID": there.access_key,
            "AWS_SECRET_ACCESS_KEY": there.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        from include.store.s3 import S3Store

        uri = f"s3://{BUCKET}/store?endpoint={self.proxy.url}"
        S3Store(uri).client.create_bucket(Bucket=BUCKET)
        return uri

    def _make_netns(self) -> tuple[str, tuple[str, ...]]:
        """A network namespace with one link; without the right to make one, none."""
        name, number = f"chaos-{os.getpid()}", os.getpid() % 250
        if subprocess.run(["ip", "netns", "add", name], check=False).returncode:
            return "127.0.0.1", ()
        self.netns = name
        outside, address = f"ch{os.getpid()}", f"10.213.{number}"
        self._ending.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
        inside = ("nsenter", f"--net=/run/netns/{name}")
        _run("ip", "link", "add", outside, "type", "veth", "peer", "name", "inside", "netns", name)
        self._ending.callback(
            subprocess.run, ["ip", "link", "del", outside], check=False, capture_output=True
        )
        _run("ip", "addr", "add", f"{address}.1/30", "dev", outside)
        _run("ip", "link", "set", outside, "up")
        _run(*inside, "ip", "addr", "add", f"{address}.2/30", "dev", "inside")
        _run(*inside, "ip", "link", "set", "inside", "up")
        _run(*inside, "ip", "link", "set", "lo", "up")
        return f"{address}.2", inside

    def _start_postgres(self) -> None:
        folder = self.scratch / "postgres"
        folder.mkdir()
        self.server = postgres.Server(folder)
        self._ending.callback(self.server.stop)
        self.server.prepare()
        self.server.start()
        os.environ["UNDERSTUDY_DATABASE_URL"] = self.server.url

    def _make_clock(self) -> None:
        """A worker's Python whose wall clock follows a file; needs a C compiler."""
        library = self.scratch / "clock.so"
        command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(_CLOCK_SOURCE), "-ldl"]
        if not shutil.which("cc") or subprocess.run(command, check=False).returncode:
            return
        self.clock = self.scratch / "clock"
        self.jump(0)
        python = Settings.from_env().worker_python
        words = f"LD_PRELOAD={library} UNDERSTUDY_CLOCK={self.clock}"
        script = self.scratch / "python"
        script.write_text(f'#!/bin/sh\nexec env {words} {python} "$@"\n')
        script.chmod(0o755)

    def jump(self, seconds: int) -> None:
        """Set how far the clock of stages is from the true one, those that run now included."""
        if self.clock is None:
            raise ValueError("there is no clock that can jump")
        with open(os.open(self.clock, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.write(struct.pack("q", seconds))

    def _variables(self) -> dict[str, str]:
        variables = {TOKEN: self.token, "TMPDIR": str(self._room / "tmp")}
        if self.clock:
            variables["UNDERSTUDY_WORKER_PYTHON"] = str(self.scratch / "python")
        return variables


def _run(*command: str) -> None:
    done: subprocess.CompletedProcess[Any] = subprocess.run(
        command, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}")
