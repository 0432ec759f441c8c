"""``./understudy test``: lint, format, types and tests, each in its environment.

Standard library only, Python 3.8.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from include.cli.environments import ENVIRONMENTS, ROOT, TOOLS, ensure
from include.cli.lanes import Command, Done, run_lanes
from include.cli.launcher import child_environment

AIRFLOW_TESTS = ("dags", "operators", "plugins", "launcher", "docker", "live")
"""Below ``tests``: run where Airflow is."""
WORKER_TESTS = ("models", "include", "benchmarks", "containers")
"""Below ``tests``: run where stages run."""
KERNEL_TESTS = (
    "include/contracts",
    "include/drift/test_gates.py",
    "include/drift/test_statistics.py",
    "include/expectations",
    "include/store",
    "include/test_consent.py",
    "include/test_demand.py",
    "include/test_errors.py",
    "include/test_live.py",
    "include/test_planning.py",
    "include/test_runs.py",
    "include/test_settings.py",
    "include/test_sharding.py",
    "include/test_table.py",
    "include/test_upscaler_choice.py",
)
"""Below ``tests``: the code that both sides run, so both run its tests."""
SPARED = ("benchmarks", "containers", "include/remote")
"""Of what is below ``WORKER_TESTS``: late, they run in the other environment's lane, which has less
to do."""
FAST = "not slow and not live"
LATE = "slow or live"
NO_TESTS = 5
"""pytest's exit code when nothing was collected."""


@dataclass
class Outcome:
    """One part of the run."""

    name: str
    ok: bool
    seconds: float
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def test(arguments: list[str]) -> int:
    """Run everything, or with paths only their tests; returns the exit code.

    Each environment's checks are a lane of their own, side by side with the other's.
    """
    system = "--system" in arguments
    rest = [argument for argument in arguments if argument != "--system"]
    paths, options = split_arguments(rest)
    sys.stderr.write("Environments:\n")
    ensure(tuple(ENVIRONMENTS), tests=True)
    env = test_environment(system)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="understudy-test-") as folder:
        lanes: dict[str, list[Command]] = {}
        if not paths:
            lanes = _static_checks()
        for name, marker, targets in test_parts(paths, options):
            lane = "airflow" if targets == _existing(SPARED) else name
            held = lanes.setdefault(lane, [])
            report = Path(folder) / f"{lane}-{len(held)}.xml"
            held.append(_pytest(name, marker, targets, options, report))
        chosen = list(lanes.values())
        if "--pdb" in options:  # a debugger needs the terminal
            chosen = [[command for lane in chosen for command in lane]]
        outcomes = [_outcome(done) for lane in run_lanes(chosen, env, ROOT) for done in lane]
    return _summary(outcomes, time.monotonic() - start)


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Split what the user gave into paths below ``tests`` and pytest's options."""
    paths: list[str] = []
    options: list[str] = []
    for argument in arguments:
        file = argument.split("::")[0]
        is_path = not argument.startswith("-") and (ROOT / file).exists() and "tests" in file
        (paths if is_path else options).append(argument)
    return paths, options


def test_parts(paths: list[str], options: list[str]) -> list[tuple[str, str | None, list[str]]]:
    """Which environment runs what: (environment, marker expression, targets), fast ones first."""
    if paths:
        chosen: dict[str, list[str]] = {}
        for path in paths:
            chosen.setdefault(environment_of(path), []).append(path)
        return [(name, None, targets) for name, targets in chosen.items()]
    targets = {
        "airflow": _existing(AIRFLOW_TESTS + KERNEL_TESTS),
        "worker": _existing(WORKER_TESTS),
    }
    if "-m" in options:
        return [(name, None, targets[name]) for name in ("airflow", "worker")]
    # Kernel tests that are slow run late once, in the worker's environment.
    rest = _existing([name for name in WORKER_TESTS if name not in SPARED])
    rest += [f"--ignore={path}" for path in _existing(SPARED) if path.startswith(tuple(rest))]
    return [
        ("airflow", FAST, targets["airflow"]),
        ("worker", FAST, targets["worker"]),
        ("worker", LATE, rest),
        ("airflow", LATE, _existing(AIRFLOW_TESTS)),
        ("worker", LATE, _existing(SPARED)),
    ]


def environment_of(path: str) -> str:
    """The environment that runs the tests at a path below ``tests``."""
    parts = Path(path.split("::")[0]).resolve().relative_to(ROOT).parts
    return "airflow" if len(parts) > 1 and parts[1] in AIRFLOW_TESTS else "worker"


def _existing(names: Sequence[str]) -> list[str]:
    return ["tests/" + name for name in names if (ROOT / "tests" / name).exists()]


def test_environment(system: bool) -> dict[str, str]:
    """The tests' environment: nothing of the user's stores and settings reaches them."""
    env = child_environment()
    for name in list(env):
        if name.startswith("AIRFLOW_") or name in ("UNDERSTUDY_STORE", "UNDERSTUDY_ROOTS"):
            del env[name]
    env["UNDERSTUDY_TOOLS"] = str(TOOLS.path / "bin")
    env["UNDERSTUDY_STATE"] = str(ROOT / ".understudy" / "test" / "state")
    env.pop("UNDERSTUDY_SYSTEM_TESTS", None)
    if system:
        env["UNDERSTUDY_SYSTEM_TESTS"] = "1"
    return env


def _static_checks() -> dict[str, list[Command]]:
    """Lint, format and types, in the lane of the environment whose code they look at."""
    ruff = str(TOOLS.path / "bin" / "ruff")
    kernel = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "include").glob("*.py"))
    airflow_side = ["dags", "operators", "plugins", "include/cli", "include/contracts"]
    worker_side = ["include", "models", "benchmarks"]
    return {
        "airflow": [
            Command("ruff check", (ruff, "check", ".")),
            Command("ruff format", (ruff, "format", "--check", ".")),
            _mypy("airflow", [*airflow_side, "include/store", *kernel]),
        ],
        "worker": [_mypy("worker", ["--exclude", "^include/cli/", *worker_side])],
    }


def _mypy(environment: str, targets: list[str]) -> Command:
    cache = str(ROOT / ".mypy_cache" / environment)
    python = str(ENVIRONMENTS[environment].python)
    words = (python, "-m", "mypy", "--strict", "--cache-dir", cache, *targets)
    return Command(f"mypy ({environment})", words)


def _pytest(
    name: str, marker: str | None, targets: list[str], options: list[str], report: Path
) -> Command:
    title = "tests in the {} environment{}".format(name, "" if marker is None else ": " + marker)
    words = [str(ENVIRONMENTS[name].python), "-m", "pytest", "-q", "--timeout=900"]
    words += ["--junitxml", str(report), *(["-m", marker] if marker else [])]
    return Command(title, (*words, *targets, *options))


def _outcome(done: Done) -> Outcome:
    """Read what a part left behind."""
    words = done.command.words
    if "--junitxml" not in words:
        ok = done.code == 0
        return Outcome(done.command.title, ok, done.seconds, int(ok), int(not ok))
    outcome = Outcome(done.command.title, done.code in (0, NO_TESTS), done.seconds)
    _count(Path(words[words.index("--junitxml") + 1]), outcome)
    if not outcome.ok and not outcome.failed:
        outcome.failed = 1  # a broken collection, an interrupt
    return outcome


def _count(report: Path, outcome: Outcome) -> None:
    if not report.exists():
        return
    for suite in ElementTree.parse(str(report)).getroot().iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        skipped = int(suite.get("skipped", 0))
        outcome.failed += bad
        outcome.skipped += skipped
        outcome.passed += int(suite.get("tests", 0)) - bad - skipped


def _summary(outcomes: list[Outcome], seconds: float) -> int:
    print("\n== summary")
    for part in outcomes:
        mark = "ok    " if part.ok else "FAILED"
        print(f"  {mark} {part.name:62} {part.seconds:6.1f} s")
    print(f"         {'together':62} {seconds:6.1f} s")
    failed = sum(part.failed for part in outcomes)
    skipped = sum(part.skipped for part in outcomes)
    passed = sum(part.passed for part in outcomes)
    extra = f", {skipped} skipped" if skipped else ""
    print(f"{passed} passed, {failed} failed{extra}", flush=True)
    return 0 if all(part.ok for part in outcomes) else 1


if __name__ == "__main__":
    os.chdir(str(ROOT))
    sys.exit(test(sys.argv[1:]))
