"""Which process this is, said so that others can tell when it is dead."""

from __future__ import annotations

import contextlib
import os
import socket
from functools import cache
from pathlib import Path

from include.contracts.base import Contract


class Holder(Contract):
    """One process on one machine (or in one container)."""

    host: str
    pid: int
    machine: str = ""
    """Boot id and process-id namespace: only where both agree do process ids mean the same."""
    started: str = ""
    """When the process began, in clock ticks since boot: tells a reused process id apart."""

    @classmethod
    def here(cls) -> Holder:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Holder:
        """A process of this machine."""
        return cls(host=socket.gethostname(), pid=pid, machine=_machine(), started=_started(pid))

    def is_dead(self) -> bool:
        """Whether the process certainly runs no more; False whenever that cannot be known."""
        if not self.machine or self.machine != _machine() or not self.started:
            return False
        return _started(self.pid) != self.started


@cache
def _machine() -> str:
    """Identify the process-id space by Linux's own means; elsewhere empty: never certain."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """Field 22 of ``/proc/<pid>/stat`` (proc(5)); empty when gone, a zombie or unknown."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if fields[0] not in ("Z", "X"):
            return fields[19]
    return ""
