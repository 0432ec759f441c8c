"""Debian packages for tests that may change the system; several test runs take turns."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_LOCK = Path(tempfile.gettempdir()) / "understudy-apt.lock"


def install(packages: Sequence[str], ready: Callable[[], bool]) -> None:
    """Install packages unless what they are for is there; needs root.

    Args:
        packages: their names.
        ready: says whether nothing is missing; asked before and after.

    Raises:
        RuntimeError: apt-get failed, or something is still missing; its last lines are said.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    said = ""
    with _LOCK.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for prepare in ([], ["apt-get", "update"]):
            if ready():
                return
            if prepare:
                subprocess.run(prepare, env=environment, check=False, capture_output=True)
            done = subprocess.run(
                command, env=environment, check=False, capture_output=True, text=True
            )
            said = done.stderr[-2000:]
        if not ready():
            raise RuntimeError(f"{' '.join(command)} failed; is this root?\n{said}")
