"""A real PostgreSQL for tests and benchmarks, in a temporary folder, as a user without rights.

Uses the server that is installed; where there is none, Debian's package is fetched first, which
needs root. ``python -m tests.services.postgres COMMAND...`` runs a command with
``UNDERSTUDY_DATABASE_URL`` naming a new, empty database; the server goes when the command ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.services import debian

PACKAGES = ("postgresql",)
USER = "postgres"
"""Who the server runs as when we are root, whom it refuses; Debian's package makes this user."""

_START_S = 60
_PR_SET_PDEATHSIG = 1


def install() -> None:
    """Install the server unless it is there.

    Raises:
        RuntimeError: apt-get failed; its last lines are in the message.
    """
    debian.install(PACKAGES, lambda: programs() is not None)


def programs() -> Path | None:
    """The folder of the newest installed server's programs; None without one."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    on_path = shutil.which("postgres")
    if not found and on_path:
        return Path(on_path).resolve().parent
    return max(found, key=lambda path: int(path.parent.name), default=None)


@contextlib.contextmanager
def postgres(*, durable: bool = False) -> Iterator[Server]:
    """A server for as long as the block runs, with one empty database.

    Args:
        durable: wait for the disk as in production. Without, commits are cheaper and outlive the
            server's death, but not the machine's.

    Raises:
        RuntimeError: it cannot be installed or did not start; the message has its last words.
    """
    if programs() is None:
        install()
    home = Path(tempfile.mkdtemp(prefix="understudy-postgres-"))
    server = Server(home, durable)
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@dataclass
class Server:
    """One PostgreSQL; ``kill`` and ``start`` let a test see what its clients do meanwhile."""

    home: Path
    durable: bool = False
    port: int = 0
    password: str = field(default_factory=lambda: secrets.token_hex(12), repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Of its database, as ``UNDERSTUDY_DATABASE_URL`` takes it."""
        login = f"understudy:{self.password}@127.0.0.1:{self.port}"
        return f"postgresql+psycopg2://{login}/postgres"

    def prepare(self) -> None:
        """Make the folder's database cluster."""
        self.port = _free_port()
        secret = self.home / "password"
        secret.write_text(self.password)
        if os.getuid() == 0:
            for path in (self.home, secret):
                shutil.chown(path, USER, USER)
        options = ["--auth=scram-sha-256", "--username=understudy", f"--pwfile={secret}"]
        more = ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        command = [str(self._bin / "initdb"), "-D", str(self.home / "data"), *options, *more]
        done = subprocess.run(
            command, cwd=self.home, check=False, capture_output=True, text=True, **self._user()
        )
        if done.returncode:
            raise RuntimeError(f"initdb failed:\n{done.stderr[-2000:]}")

    def start(self) -> None:
        """Start it, for the first time or again; returns when it takes connections."""
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
                **self._user(),
            )
        self._wait()

    def kill(self) -> None:
        """End it at once, as a power cut would; its data stay."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order, dropping its clients."""
        self._end(signal.SIGINT)

    def _end(self, sign: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(sign)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _wait(self) -> None:
        ask = [str(self._bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up and self.process and self.process.poll() is None:
            if subprocess.run(ask, check=False).returncode == 0:
                return
            time.sleep(0.05)
        said = (self.home / "server.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"PostgreSQL did not start on port {self.port}:\n{said}")

    @property
    def _bin(self) -> Path:
        found = programs()
        if found is None:
            raise RuntimeError(f"there is no PostgreSQL; install {' '.join(PACKAGES)}")
        return found

    def _user(self) -> dict[str, object]:
        if os.getuid() != 0:
            return {}
        account = pwd.getpwnam(USER)
        return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def main(command: list[str]) -> int:
    """Run a command with a database of its own; returns its exit code."""
    with postgres(durable=True) as server:
        env = {**os.environ, "UNDERSTUDY_DATABASE_URL": server.url}
        return subprocess.run(command, env=env, check=False).returncode


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
