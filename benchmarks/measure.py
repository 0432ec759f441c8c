"""What the benchmarks share: the cost of work, paired runs, medians and spread, the machine."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from include.settings import PROJECT

T = TypeVar("T")

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)
"""What the libraries below us read, once, when they are imported."""
PACKAGES = ("torch", "opencv-contrib-python-headless", "mediapipe", "av", "imageio-ffmpeg")


@dataclass(frozen=True)
class Cost:
    """Wall and processor seconds of a piece of work."""

    wall: float = 0.0
    cpu: float = 0.0
    """Of all threads of this process, and of its children that have ended."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.wall - other.wall, self.cpu - other.cpu)

    @classmethod
    def now(cls) -> Cost:
        """Both clocks; subtract two readings to get a cost."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return cls(time.perf_counter(), time.process_time() + children.ru_utime + children.ru_stime)


@dataclass
class Meter:
    """Adds up what each named step costs; a child's processor time goes to where it is awaited."""

    steps: dict[str, Cost] = field(default_factory=dict)
    _inner: list[Cost] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block and add it to the step; one inside another is counted there, once."""
        start = Cost.now()
        self._inner.append(Cost())
        try:
            yield
        finally:
            took, inside = Cost.now() - start, self._inner.pop()
            self.steps[name] = self.steps.get(name, Cost()) + (took - inside)
            if self._inner:
                self._inner[-1] = self._inner[-1] + took

    @property
    def total(self) -> Cost:
        """The sum of all steps."""
        return sum(self.steps.values(), Cost())


@dataclass(frozen=True)
class Spread:
    """A median and how far the runs lie apart."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise some runs.

        Raises:
            ValueError: there is none.
        """
        found = sorted(values)
        if not found:
            raise ValueError("no runs to summarise")
        median = statistics.median(found)
        return cls(round(median, 4), round(found[0], 4), round(found[-1], 4), len(found))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired(
    pairs: int,
    arms: Mapping[str, Callable[[int], T]],
    tell: Callable[[str], None] = lambda text: None,
    *,
    begun: Iterable[dict[str, T]] = (),
    keep: Callable[[list[dict[str, T]]], None] = lambda found: None,
) -> list[dict[str, T]]:
    """Run all arms once per pair, right after one another, in an order that turns every time.

    What else the machine does then hits all arms of a pair alike, and no arm is always the one
    that finds the caches warm.

    Args:
        pairs: how many times.
        arms: name to work; called with the pair's number.
        tell: told what is being run.
        begun: pairs of a run that was interrupted; they count.
        keep: given all pairs so far, after each.

    Returns:
        For each pair, what each arm returned.
    """
    names = list(arms)
    found = list(begun)
    for number in range(len(found), pairs):
        turn = number % len(names)
        made: dict[str, T] = {}
        for name in names[turn:] + names[:turn]:
            tell(f"pair {number + 1} of {pairs}: {name}")
            made[name] = arms[name](number)
        found.append({name: made[name] for name in names})
        keep(found)
    return found


def thread_environment(threads: int) -> dict[str, str]:
    """The variables that hold the numeric libraries of a new process to a number of threads."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def restart_with_threads(threads: int, module: str, arguments: Sequence[str]) -> None:
    """Become the same command with the thread variables set, unless they are.

    The libraries read them at import, which is before a command line can be read.
    """
    wanted = thread_environment(threads)
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        return
    sys.stdout.flush()
    command = [sys.executable, "-m", module, *arguments]
    os.execve(sys.executable, command, {**os.environ, **wanted})


def run_child(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Cost:
    """Run a command to its end and say what it cost with all its descendants.

    Raises:
        SystemExit: it failed; the message holds the end of what it said.
    """
    start = Cost.now()
    done = subprocess.run(
        list(command), env=dict(environment), cwd=cwd, capture_output=True, text=True, check=False
    )
    cost = Cost.now() - start
    if done.returncode:
        said = (done.stdout + done.stderr)[-3000:]
        raise SystemExit(f"{' '.join(command)} failed with {done.returncode}:\n{said}")
    return cost


def machine() -> dict[str, Any]:
    """Where figures were taken: processor, cores, memory, load, versions of what computes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


@cache
def conditions(*folders: str) -> dict[str, str]:
    """What measurements of several runs have to have in common: processor, and code measured.

    Args:
        folders: of the project, whose Python files are the code.
    """
    code = hashlib.sha256()
    for folder in folders:
        for path in sorted((PROJECT / folder).rglob("*.py")):
            code.update(path.relative_to(PROJECT).as_posix().encode() + path.read_bytes())
    return {"processor": _processor(), "code": code.hexdigest()}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table; all columns but the first are aligned to the right."""
    print("| " + " | ".join(header) + " |")
    print("| --- |" + " ---: |" * (len(header) - 1))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Write a benchmark's figures, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
