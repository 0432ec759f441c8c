"""Ties a process group's life to its parent's: run as a script, standard library only.

``python guard.py FD COMMAND...`` forks a watcher that waits for end of file on the pipe FD,
whose other end the parent holds, and then turns into COMMAND. When the parent closes its end, by
intention or by dying however abruptly, the watcher kills the whole group: no stage and none of
its helpers outlives its task. (``PR_SET_PDEATHSIG`` would reach the stage but not its helpers.)
"""

from __future__ import annotations

import os
import signal
import sys


def watch(fd: int) -> None:
    """Wait for end of file, then kill the group that this process belongs to."""
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    for stream in (0, 1, 2):  # the parent waits for their end of file
        os.close(stream)
    while os.read(fd, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Fork the watcher, then become the command."""
    fd, command = int(sys.argv[1]), sys.argv[2:]
    if os.fork() == 0:
        watch(fd)
        os._exit(0)
    os.close(fd)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        os._exit(2)


if __name__ == "__main__":
    main()
