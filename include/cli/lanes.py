"""Commands in lanes: lanes side by side, what a lane holds one after the other.

Every command's output is shown whole, in the order in which they began: that of the oldest one as
it comes, that of the others when it is their turn. Standard library only, Python 3.8.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LOOK_S = 0.2
"""How often the output of the command that is shown is looked at."""


@dataclass(frozen=True)
class Command:
    """One command line with the title that its output is shown under."""

    title: str
    words: tuple[str, ...]


@dataclass
class Done:
    """What became of a command."""

    command: Command
    code: int
    seconds: float


@dataclass
class _Running:
    """A command that began: where its output goes, and whether it has ended."""

    title: str
    output: Path
    ended: threading.Event = field(default_factory=threading.Event)


def run_lanes(
    lanes: Sequence[Sequence[Command]], env: Mapping[str, str], cwd: Path
) -> list[list[Done]]:
    """Run every command; none keeps another from running by failing.

    Args:
        lanes: what runs one after the other, by lane. A single lane has the terminal to itself, so
            that a debugger works in it.
        env: the commands' environment.
        cwd: their folder.

    Returns:
        What became of the commands, by lane.
    """
    if len(lanes) == 1:
        return [[_run_here(command, env, cwd) for command in lanes[0]]]
    with tempfile.TemporaryDirectory(prefix="understudy-lanes-") as folder:
        return _Lanes(Path(folder), env, cwd).run(lanes)


def _run_here(command: Command, env: Mapping[str, str], cwd: Path) -> Done:
    start = time.monotonic()
    print("\n== " + command.title, flush=True)
    code = subprocess.call(list(command.words), env=dict(env), cwd=str(cwd))
    return Done(command, code, time.monotonic() - start)


class _Lanes:
    """Threads that run the lanes, and the caller that shows what they say."""

    def __init__(self, folder: Path, env: Mapping[str, str], cwd: Path) -> None:
        self._folder, self._env, self._cwd = folder, dict(env), cwd
        self._began: list[_Running] = []
        self._lock = threading.Lock()

    def run(self, lanes: Sequence[Sequence[Command]]) -> list[list[Done]]:
        found: list[list[Done]] = [[] for _ in lanes]
        threads = [
            threading.Thread(target=self._lane, args=(lane, found[number]), daemon=True)
            for number, lane in enumerate(lanes)
        ]
        for thread in threads:
            thread.start()
        shown = 0
        while shown < len(self._began) or any(thread.is_alive() for thread in threads):
            if shown < len(self._began):
                self._show(self._began[shown])
                shown += 1
            else:
                time.sleep(LOOK_S)
        return found

    def _lane(self, lane: Sequence[Command], done: list[Done]) -> None:
        for command in lane:
            start = time.monotonic()
            with self._lock:
                running = _Running(command.title, self._folder / str(len(self._began)))
                running.output.touch()
                self._began.append(running)
            try:
                with running.output.open("wb") as out:
                    code = subprocess.call(
                        list(command.words),
                        env=self._env,
                        cwd=str(self._cwd),
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                done.append(Done(command, code, time.monotonic() - start))
            finally:
                running.ended.set()

    def _show(self, running: _Running) -> None:
        print("\n== " + running.title, flush=True)
        with running.output.open("rb") as stream:
            while True:
                over = running.ended.wait(LOOK_S)
                data = stream.read()
                sys.stdout.write(data.decode("utf-8", "replace"))
                sys.stdout.flush()
                if over and not data:
                    return
