"""A real PostgreSQL in a folder, as a user without rights, that can be killed and started again."""

from __future__ import annotations

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.chaos.ceph_rgw import free_ports

PACKAGES = ("postgresql",)
USER = "postgres"
"""Who the server runs as when we are root, whom it refuses; Debian's package makes this user."""

_START_S = 60
_PR_SET_PDEATHSIG = 1


def programs() -> Path | None:
    """The folder of the newest installed server's programs; None without one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    on_path = shutil.which("postgres")
    if not found and on_path:
        return Path(on_path).resolve().parent
    return max(found, key=lambda path: int(path.parent.name), default=None)


@dataclass
class Server:
    """One PostgreSQL with one empty database.

    Args:
        home: an empty folder.
        durable: wait for the disk as in production. Without, commits are cheaper and outlive the
            server's death, but not the machine's.
    """

    home: Path
    durable: bool = True
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database, as ``UNDERSTUDY_DATABASE_URL`` takes it."""
        login = f"understudy:{self.password}@127.0.0.1:{self.port}"
        return f"postgresql+psycopg2://{login}/postgres"

    def prepare(self) -> None:
        """Make the database cluster in an empty folder that its user can reach."""
        self.port = free_ports(1)[0]
        secret = self.home / "password"
        secret.write_text(self.password)
        if os.getuid() == 0:
            for path in (self.home, secret):
                shutil.chown(path, USER, USER)
        options = ["--auth=scram-sha-256", "--username=understudy", f"--pwfile={secret}"]
        more = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [str(self._bin / "initdb"), "-D", str(self.home / "data"), *options, *more]
        done = subprocess.run(
            command, cwd=self.home, check=False, capture_output=True, text=True, **self._account()
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stderr[-2000:]}")

    def start(self, *, wait: bool = True) -> None:
        """Start it, for the first time or again; with ``wait`` until it takes connections."""
        where = ["-D", str(self.home / "data"), "-p", str(self.port), "-h", "127.0.0.1"]
        options = {"unix_socket_directories": str(self.home), "max_connections": "200"}
        if not self.durable:
            options |= {"fsync": "off", "full_page_writes": "off"}
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.home / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self._bin / "postgres"), *where, *flags],
                cwd=self.home,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent,
                **self._account(),
            )
        if wait:
            self._wait()

    def kill(self) -> None:
        """``kill -9`` of the server and all of its back ends, as a power cut would end them."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order, dropping its clients."""
        self._end(signal.SIGINT)

    def _end(self, sign: signal.Signals) -> None:
        if self.process is None:
            return
        backends = _children(self.process.pid) if sign == signal.SIGKILL else []
        self.process.send_signal(sign)
        for pid in backends:  # they would notice, but hold the shared memory until then
            try:
                os.kill(pid, sign)
            except ProcessLookupError:
                continue
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _wait(self) -> None:
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up and self.process and self.process.poll() is None:
            if self.ready():
                return
            time.sleep(0.05)
        said = (self.home / "server.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"PostgreSQL did not start on port {self.port}:\n{said}")

    def ready(self) -> bool:
        """Whether it takes connections."""
        ask = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ask, check=False).returncode == 0

    @property
    def _bin(self) -> Path:
        found = programs()
        if found is None:
            raise RuntimeError(f"there is no PostgreSQL; install {' '.join(PACKAGES)}")
        return found

    def _account(self) -> dict[str, Any]:
        """Whose process it is, as ``subprocess`` takes it; root's groups are left behind."""
        if os.getuid() != 0:
            return {}
        account = pwd.getpwnam(USER)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(word) for word in tasks.read_text().split()] if tasks.exists() else []


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
