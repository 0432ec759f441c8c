"""``./understudy lock``: resolves the lock files. Standard library only, Python 3.8."""

from __future__ import annotations

import sys

from include.cli.environments import ROOT, TOOLS, ensure, run, step, torch_options
from include.cli.pip_settings import current_uv_environment

_WORKER = ("--override", "docker/worker/overrides.txt")
LOCKS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("requirements.txt", ("requirements.in",)),
    ("docker/worker/requirements.txt", ("docker/worker/requirements.in", *_WORKER)),
    (
        "docker/worker/requirements-cuda.txt",
        (
            "docker/worker/requirements.in",
            *_WORKER,
            "--constraint",
            "docker/worker/requirements.txt",
        ),
    ),
    (
        "docker/airflow/requirements.txt",
        ("docker/airflow/requirements.in", "--constraint", "requirements.txt"),
    ),
    ("docker/nudity/requirements.txt", ("docker/nudity/requirements.in",)),
    ("tests/locks/airflow.txt", ("requirements.txt", "tests/requirements.in")),
    (
        "tests/locks/worker.txt",
        ("docker/worker/requirements.txt", "tests/requirements.in", *_WORKER),
    ),
    ("tests/locks/tools.txt", ("tests/tools.in",)),
)
"""Each lock and what it is made from."""


def lock(arguments: list[str]) -> int:
    """Resolve every lock again; versions stay unless ``--upgrade`` is given.

    Locks hold names and versions only: no addresses, and torch without a local version tag, so
    that a CPU build satisfies it where one is offered.
    """
    ensure([])
    settings = current_uv_environment(TOOLS.python)
    settings["UV_CUSTOM_COMPILE_COMMAND"] = "./understudy lock"
    for target, sources in LOCKS:
        command = [str(TOOLS.path / "bin" / "uv"), "pip", "compile", "--python-version", "3.11"]
        command += ["--no-emit-find-links", "--no-emit-index-url", "--no-header"]
        command += ["--no-annotate", "-q", *arguments, "-o", target, *sources]
        env = dict(settings)
        (ROOT / target).touch()
        if "cuda" in target:
            env.pop("UV_FIND_LINKS", None)  # where CPU builds of torch lie
        else:
            command += torch_options(target, settings)
            _mark_torch(target, "+cpu")  # the build to prefer: the plain one needs all of CUDA
        with step(target):
            try:
                run(command, "lock", env, cwd=str(ROOT))
            finally:
                _mark_torch(target, "")
    sys.stdout.write("Locks are up to date; environments follow on the next command.\n")
    return 0


def _mark_torch(target: str, tag: str) -> None:
    """Give torch this local version tag in a lock."""
    path = ROOT / target
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [line.split("+")[0] + tag if line.startswith("torch==") else line for line in lines]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
