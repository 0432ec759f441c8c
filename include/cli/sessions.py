"""Processes that were started as leaders of sessions, and everything that they began."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any


def started(pid: int) -> str:
    """When a process started, as the system counts; tells a reused pid. Empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        return ""


def alive(process: dict[str, Any]) -> bool:
    """Whether the very process that was recorded, with ``pid`` and ``started``, still runs."""
    return bool(process["started"]) and started(int(process["pid"])) == process["started"]


def left(process: dict[str, Any]) -> bool:
    """Whether a process or, when it died, anything of its session is alive.

    While a session has members the system gives its number to no other process.
    """
    now = started(process["pid"])
    return now in ("", process["started"]) and bool(members(process["pid"]))


def signal_session(leader: int, sign: signal.Signals) -> None:
    """Send a signal to every process of a session: Airflow's tasks have groups of their own."""
    for pid in members(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)


def members(leader: int) -> list[int]:
    """The living processes of a session."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(leader, os.WNOHANG)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] not in ("Z", "X"):
                    found.append(int(entry.name))
    return found
