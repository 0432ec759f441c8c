"""A real PostgreSQL for tests and benchmarks, in a temporary folder, as a user without rights.

Uses the server that is installed; where there is none, Debian's package is fetched first, which
needs root. ``python -m tests.services.postgres COMMAND...`` runs a command with
``UNDERSTUDY_DATABASE_URL`` naming a new, empty database; the server goes when the command ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from include.chaos.postgres import PACKAGES, Server, programs
from tests.services import debian


def install() -> None:
    """Install the server unless it is there.

    Raises:
        RuntimeError: apt-get failed; its last lines are in the message.
    """
    debian.install(PACKAGES, lambda: programs() is not None)


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


def main(command: list[str]) -> int:
    """Run a command with a database of its own; returns its exit code."""
    with postgres(durable=True) as server:
        env = {**os.environ, "UNDERSTUDY_DATABASE_URL": server.url}
        return subprocess.run(command, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
