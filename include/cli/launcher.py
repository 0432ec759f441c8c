"""The commands of ``./understudy``. Standard library only, Python 3.8."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from include.cli.environments import ENVIRONMENTS, ROOT, SetupError, ensure

ALL = ("airflow", "worker", "nudity")


@dataclass(frozen=True)
class Command:
    """One command: what it needs and what it becomes."""

    help: str
    environments: tuple[str, ...] = ()
    runs_in: str = ""
    module: str = ""
    """Module that takes over in the environment ``runs_in``."""
    arguments: tuple[str, ...] = ()
    """Put before the user's own."""


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "boots Airflow, renders a sample campaign, verifies every video [--keep-ui] [--out DIR]",
        ALL,
        "airflow",
        "include.cli.demo",
    ),
    "test": Command("lint, types and the whole test suite [--system] [pytest arguments]"),
    "up": Command("starts Airflow and its UI for daily use", ALL, "airflow", "include.cli.up"),
    "down": Command("stops it", ("airflow",), "airflow", "include.cli.up", ("--down",)),
    "render": Command(
        "renders a brief: BRIEF --out DIR [--store URI] [--tier T] [--review ask|reject] "
        "[--airflow]",
        ALL,
        "airflow",
        "include.cli.render",
    ),
    "quote": Command(
        "what a brief would render, and what is wrong with it: BRIEF",
        ("airflow",),
        "airflow",
        "include.cli.quote",
    ),
    "consent": Command(
        "issues a development consent record: MEDIA --subject S --scope A,B --tenant T --out FILE",
        ("airflow",),
        "airflow",
        "include.cli.consent",
    ),
    "drift": Command(
        "compares asset features with the reference: [--tenant T] [--since 7d] [--media BRIEF] "
        "[--out DIR] [--accept KIND]",
        ("airflow", "worker"),
        "airflow",
        "include.cli.drift",
    ),
    "rollout": Command(
        "puts a new backend live, or not: start|watch|status|promote|rollback|log --tenant T "
        "[--backend NAME]",
        ALL,
        "airflow",
        "include.cli.rollout",
    ),
    "store": Command(
        "lifecycle: how long a store keeps what [--store URI] [--apply] [--hot-days N]",
        ("airflow",),
        "airflow",
        "include.cli.store",
    ),
    "gc": Command(
        "deletes what nothing needs any more: [--store URI] [--tenant T] [--grace 7d] [--dry-run]",
        ("airflow",),
        "airflow",
        "include.cli.gc",
    ),
    "devices": Command(
        "GPUs of this machine, how well they are, who uses them: [--drain GPU] [--undrain GPU]",
        ("worker",),
        "worker",
        "include.cli.devices",
    ),
    "verify": Command(
        "checks a video's signature and everything it claims: VIDEO",
        ("worker",),
        "worker",
        "include.provenance.verify",
    ),
    "backends": Command(
        "lists backends with licence and origin: list; or adds your upscaler: declare WEIGHTS "
        "--name N --licence L --origin O",
        ("worker",),
        "worker",
        "include.backends",
    ),
    "stage": Command("one stage by hand: NAME --request FILE", ALL, "worker", "include.stages"),
    "bench": Command("a benchmark: NAME (stages, upscale, ...)", ALL, "worker"),
    "chaos": Command(
        "breaks a campaign in every way at hand and checks what is promised: [--rounds N] "
        "[--faults A,B] [--seed S] [--store dir|s3] [--database sqlite|postgres]",
        ALL,
        "airflow",
        "include.cli.chaos",
    ),
    "lock": Command("resolves the lock files again from the .in files"),
}
PLANNED = ("housekeeping",)
"""Commands that a later version brings."""


def main(argv: list[str]) -> int:
    """Run a command; returns the exit code, or never when another program takes over."""
    name, rest = (argv[0], argv[1:]) if argv else ("help", [])
    if name in ("help", "-h", "--help"):
        sys.stdout.write(usage())
        return 0
    if name in PLANNED:
        sys.stderr.write(f"understudy: {name} is not there yet; a later version brings it\n")
        return 2
    if name not in COMMANDS:
        sys.stderr.write(f"understudy: there is no command {name!r}\n\n{usage()}")
        return 2
    try:
        return _run(name, rest)
    except SetupError as error:
        sys.stderr.write(f"\nunderstudy: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nunderstudy: stopped\n")
        return 130


def _benchmarks() -> list[str]:
    """Benchmarks that can be run: the modules with a command line of their own."""
    modules = sorted((ROOT / "benchmarks").glob("[a-z]*.py"))
    return [p.stem for p in modules if "def main(" in p.read_text(encoding="utf-8")]


def _run(name: str, rest: list[str]) -> int:
    command = COMMANDS[name]
    if name == "test":
        from include.cli.checks import test

        return test(rest)
    if name == "lock":
        from include.cli.locks import lock

        return lock(rest)
    ensure(command.environments)
    if name == "bench":
        found = _benchmarks()
        if not rest or rest[0] not in found:
            sys.stderr.write("understudy: bench NAME, one of: {}\n".format(", ".join(found)))
            return 2
        hand_over(command.runs_in, "benchmarks." + rest[0], rest[1:])
    hand_over(command.runs_in, command.module, [*command.arguments, *rest])


def hand_over(environment: str, module: str, arguments: list[str]) -> NoReturn:
    """Become a module's process in an environment. Does not return."""
    python = str(ENVIRONMENTS[environment].python)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(python, [python, "-m", module, *arguments], child_environment())


def child_environment() -> dict[str, str]:
    """The environment of everything that the launcher starts."""
    env = dict(os.environ)
    env["PYTHONPATH"] = str(ROOT)
    env.pop("VIRTUAL_ENV", None)
    env.pop("PYTHONHOME", None)
    env.setdefault("UNDERSTUDY_STATE", str(ROOT / ".understudy" / "state"))
    env.setdefault("UNDERSTUDY_WORKER_PYTHON", str(ENVIRONMENTS["worker"].python))
    env.setdefault("UNDERSTUDY_NUDITY_PYTHON", str(ENVIRONMENTS["nudity"].python))
    for name in ("UNDERSTUDY_STORE", "UNDERSTUDY_STATE"):
        value = env.get(name)
        if value and "://" not in value:
            env[name] = str(Path(value).resolve())
    return env


def usage() -> str:
    """What ``./understudy help`` prints."""
    lines = ["Understudy: personalised video ads at campaign scale.", "", "./understudy COMMAND"]
    lines += [f"  {name:9}{command.help}" for name, command in COMMANDS.items()]
    lines += ["", "First use makes the environments (.venv), later use finds them.", ""]
    return "\n".join(lines)
