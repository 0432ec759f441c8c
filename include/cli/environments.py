"""The virtual environments: made from locks, once. Standard library only, Python 3.8."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from include.cli.pip_settings import current_uv_environment, has_cpu_torch

ROOT = Path(__file__).resolve().parent.parent.parent
STAMP = "understudy.json"
"""In each environment, written last: digests of the locks that it holds."""


class SetupError(Exception):
    """An environment cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Environment:
    """One virtual environment and the locks that fill it."""

    name: str
    lock: str
    test_lock: str = ""
    """What the tests need on top; holds the lock's packages too."""

    @property
    def path(self) -> Path:
        """Its folder: below ``UNDERSTUDY_ENVIRONMENTS``, by default ``.venv``."""
        return Path(os.environ.get("UNDERSTUDY_ENVIRONMENTS") or ROOT / ".venv") / self.name

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.path / "bin" / "python"

    def locks(self, tests: bool) -> tuple[str, ...]:
        """The locks that it has to hold."""
        return (self.lock, self.test_lock) if tests and self.test_lock else (self.lock,)


ENVIRONMENTS: dict[str, Environment] = {
    env.name: env
    for env in (
        Environment("airflow", "requirements.txt", "tests/locks/airflow.txt"),
        Environment("worker", "docker/worker/requirements.txt", "tests/locks/worker.txt"),
        Environment("nudity", "docker/nudity/requirements.txt"),
    )
}
TOOLS = Environment("tools", "tests/locks/tools.txt")
_TOOLS_NEEDED = ("uv", "ruff")
"""Of the tools lock, what running needs; the tests need all of it."""


def ensure(names: Sequence[str], *, tests: bool = False) -> None:
    """Make sure that these environments exist and hold their locks.

    Does nothing, quickly, when they do. Two launchers at a time take turns.

    Raises:
        SetupError: one cannot be made.
    """
    wanted = [ENVIRONMENTS[name] for name in names]
    if _tools_ready(tests) and all(is_ready(env, tests=tests) for env in wanted):
        return
    TOOLS.path.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time():
        if not _tools_ready(tests):
            _make_tools(tests)
        for env in wanted:
            if not is_ready(env, tests=tests):
                _make(env, tests)


def is_ready(env: Environment, *, tests: bool = False) -> bool:
    """Whether an environment holds its locks as they are now."""
    held = _stamp(env)
    return env.python.exists() and all(held.get(lock) == _digest(lock) for lock in env.locks(tests))


def _tools_ready(tests: bool) -> bool:
    held = _stamp(TOOLS)
    what = "all" if tests else "needed"
    return (TOOLS.path / "bin" / "uv").exists() and _digest(TOOLS.lock) in (
        held.get(what),
        held.get("all"),
    )


def _stamp(env: Environment) -> dict[str, str]:
    try:
        held = json.loads((env.path / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _digest(lock: str) -> str:
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def pinned(lock: str, name: str) -> str:
    """The version that a lock pins a package to.

    Raises:
        SetupError: it does not.
    """
    text = (ROOT / lock).read_text(encoding="utf-8")
    match = re.search(rf"^{re.escape(name)}==([^\s;]+)", text, re.MULTILINE)
    if not match:
        raise SetupError(f"{lock} pins no {name}; run ./understudy lock")
    return match.group(1)


def _make_tools(tests: bool) -> None:
    env = TOOLS
    needed = [f"{name}=={pinned(env.lock, name)}" for name in _TOOLS_NEEDED]
    (env.path / STAMP).unlink() if (env.path / STAMP).exists() else None
    with step("tools environment", "uv, ruff" + (", test servers" if tests else "")):
        if not (env.path / "bin" / "pip").exists():
            shutil.rmtree(env.path, ignore_errors=True)
            try:
                run([sys.executable, "-m", "venv", str(env.path)], "tools")
            except SetupError as error:
                raise SetupError(
                    f"{error}\npython3 cannot make a virtual environment; install its venv module "
                    "(Debian, Ubuntu: apt install python3-venv) and run this again"
                ) from error
        what = ["-r", str(ROOT / env.lock)] if tests else needed
        run([str(env.python), "-m", "pip", "install", "-q", "--no-deps", *what], "tools")
    _write_stamp(env, {"all" if tests else "needed": _digest(env.lock)})


def _make(env: Environment, tests: bool) -> None:
    uv = str(TOOLS.path / "bin" / "uv")
    settings = current_uv_environment(TOOLS.python)
    locks = env.locks(tests)
    fresh = _stamp(env).get(env.lock) != _digest(env.lock) or not env.python.exists()
    count = sum("==" in line for line in (ROOT / locks[-1]).read_text().splitlines())
    with step(f"{env.name} environment", f"{count} packages"):
        if (env.path / STAMP).exists():
            (env.path / STAMP).unlink()
        if fresh:
            try:
                run(
                    [uv, "venv", "-q", "--clear", "--python", "3.11", str(env.path)],
                    env.name,
                    settings,
                )
            except SetupError as error:
                raise SetupError(
                    f"{error}\nPython 3.11 was not found and could not be fetched; install it "
                    "(Debian, Ubuntu: apt install python3.11; or pyenv install 3.11) and run this "
                    "again"
                ) from error
        command = [uv, "pip", "install", "-q", "--compile-bytecode", "--no-deps"]
        command += ["--python", str(env.python), "-r", str(ROOT / locks[-1])]
        run(command + torch_options(locks[-1], settings), env.name, settings)
    _write_stamp(env, {lock: _digest(lock) for lock in locks})


def torch_options(lock: str, settings: dict[str, str]) -> list[str]:
    """Ask for torch's CPU build where pip would fetch gigabytes of CUDA."""
    if "UV_TORCH_BACKEND" in settings or "\ntorch==" not in (ROOT / lock).read_text():
        return []
    if has_cpu_torch(settings.get("UV_FIND_LINKS", ""), pinned(lock, "torch")):
        return []
    return ["--torch-backend", "cpu"]


def _write_stamp(env: Environment, held: dict[str, str]) -> None:
    part = env.path / (STAMP + ".part")
    part.write_text(json.dumps(held, indent=1), encoding="utf-8")
    os.replace(part, env.path / STAMP)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    with open(TOOLS.path.parent / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def step(what: str, detail: str = "") -> Iterator[None]:
    """Announce a long step on stderr and say how long it took."""
    start = time.monotonic()
    text = "  {}{} ... ".format(what, f" ({detail})" if detail else "")
    sys.stderr.write(text)
    sys.stderr.flush()
    try:
        yield
    except BaseException:
        sys.stderr.write(f"failed after {time.monotonic() - start:.0f} s\n")
        raise
    sys.stderr.write(f"{time.monotonic() - start:.1f} s\n")


def run(
    command: list[str], name: str, env: dict[str, str] | None = None, *, cwd: str | None = None
) -> None:
    """Run a set-up command; keep what it said.

    Raises:
        SetupError: it failed; the message ends with its last words.
    """
    log = ROOT / ".understudy" / "logs" / ("setup-" + name + ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as stream:
        stream.write("$ " + " ".join(command) + "\n")
        stream.flush()
        code = subprocess.call(command, stdout=stream, stderr=subprocess.STDOUT, env=env, cwd=cwd)
    if code != 0:
        tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        raise SetupError(
            "{} environment: {} ended with {}\n{}\nThe whole log is {}".format(
                name, Path(command[0]).name, code, "\n".join(tail), log
            )
        )
