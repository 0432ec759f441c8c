"""Processes as the kernel lists them: whom there is to kill."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

TOKEN = "UNDERSTUDY_CHAOS"
"""A variable of the environment; stages inherit it, so it says whose stage a process is."""
_WORKER = "airflow worker -- LocalExecutor"


@dataclass(frozen=True)
class Process:
    """One process at the moment of looking."""

    pid: int
    parent: int
    session: int
    state: str
    command: str


def processes() -> list[Process]:
    """Every process that we may look at, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                found.append(_read(entry))
    return [process for process in found if process.state not in ("Z", "X")]


def _read(entry: Path) -> Process:
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return Process(int(entry.name), int(fields[1]), int(fields[3]), fields[0], command.strip())


def _has_token(pid: int, token: str) -> bool:
    with contextlib.suppress(OSError):
        return f"{TOKEN}={token}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False


def stage_processes(token: str, listed: list[Process] | None = None) -> list[Process]:
    """Stage processes and their helpers (decoders, encoders, the nudity detector), not guards."""
    everything = processes() if listed is None else listed
    mains = [p for p in everything if " -m include.stages " in p.command]
    ours = {p.session for p in mains if _has_token(p.pid, token) and "guard.py" not in p.command}
    return [p for p in everything if p.session in ours and "guard.py" not in p.command]


def stage_mains(token: str) -> list[Process]:
    """Only the stages themselves: those that hold leases."""
    return [p for p in stage_processes(token) if " -m include.stages " in p.command]


def busy_workers(scheduler: int) -> list[Process]:
    """LocalExecutor's workers that have a task.

    An idle one is left alone: it holds the lock of the queue that all of them read from, and
    killing it leaves that lock taken for ever (Airflow 3.3).
    """
    return [
        p
        for p in processes()
        if p.parent == scheduler and p.command.startswith(_WORKER) and "<idle>" not in p.command
    ]


def tasks(scheduler: int) -> list[Process]:
    """The processes that run a task's own code: children of busy workers."""
    workers = {p.pid for p in busy_workers(scheduler)}
    return [p for p in processes() if p.parent in workers]


def send(pid: int, sign: signal.Signals) -> bool:
    """Send a signal; whether there was somebody to take it."""
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return False
    return True
