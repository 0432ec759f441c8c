"""Stages as local processes, each in a session of its own with an environment of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import IO

from include.remote.config import SECRETS
from include.settings import ALLOCATOR, PROJECT, Settings
from include.stages.specs import StageSpec
from operators.runtimes.base import OnEvent, Runtime, event_in

GUARD = Path(__file__).with_name("guard.py")
GRACE_S = 5.0
"""How long a stage may take to end by itself after SIGTERM."""

_PASSED_ON = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "CUDA_VISIBLE_DEVICES",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ]
)
_PREFIXES = ("UNDERSTUDY_", "AWS_")
_WITHHELD = frozenset({"UNDERSTUDY_DATABASE_URL"})


def stage_environment(threads: int, *, secrets: bool = False) -> dict[str, str]:
    """What a stage process sees of our environment: no Airflow settings, no database.

    Args:
        threads: for the libraries that ask the environment.
        secrets: whether it may have what is to be shown to model APIs.
    """
    env = {
        name: value
        for name, value in os.environ.items()
        if (name in _PASSED_ON or name.startswith(_PREFIXES))
        and name not in _WITHHELD
        and (secrets or not name.startswith(SECRETS))
    }
    env.setdefault("UNDERSTUDY_STATE", str(Settings.from_env().state))
    count = str(threads)
    return {
        **env,
        **ALLOCATOR,
        "PYTHONPATH": str(PROJECT),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
    }


class LocalRuntime(Runtime):
    """A child process in the stage worker's virtual environment."""

    module = "include.stages"
    """What the child runs."""
    secrets = False
    """Whether it is given the secrets of model APIs."""

    def __init__(self, python: Path, *, threads: int = 1) -> None:
        self._python = python
        self._threads = threads
        self._process: subprocess.Popen[str] | None = None
        self._tail: deque[str] = deque(maxlen=20)

    @property
    def last_words(self) -> str:
        """See ``Runtime.last_words``."""
        return "\n".join(self._tail)

    def run(self, request_uri: str, spec: StageSpec, on_event: OnEvent) -> int:
        """See ``Runtime.run``."""
        self._tail.clear()
        theirs, ours = os.pipe()
        command = [str(self._python), "-m", self.module, spec.name, "--request", request_uri]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GUARD), str(theirs), *command],
                cwd=PROJECT,
                env=stage_environment(self._threads, secrets=self.secrets),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,
                text=True,
                errors="replace",
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._process = process
        ended = threading.Thread(target=_outlive, args=(process, ours), daemon=True)
        ended.start()
        try:
            self._follow(process, on_event)
        finally:
            self.kill()
            ended.join()
            self._process = None
        return int(process.returncode)

    def _follow(self, process: subprocess.Popen[str], on_event: OnEvent) -> None:
        noise = threading.Thread(target=self._keep, args=(process.stderr,), daemon=True)
        noise.start()
        for line in process.stdout or ():
            event = event_in(line)
            if event is None:
                self._tail.append(line.rstrip())
            else:
                on_event(event)
        noise.join()

    def _keep(self, stream: IO[str] | None) -> None:
        for line in stream or ():
            self._tail.append(line.rstrip())

    def kill(self) -> None:
        """See ``Runtime.kill``: SIGTERM to the group, then SIGKILL after a grace period.

        Airflow calls this from a signal handler too, so it takes no lock.
        """
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        while process.returncode is None and time.monotonic() < end:
            time.sleep(0.05)
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _outlive(process: subprocess.Popen[str], life: int) -> None:
    """Wait for the stage, then let the guard end what it left behind.

    A forgotten helper would otherwise hold the stage's output open, and us with it.
    """
    process.wait()
    time.sleep(0.1)
    os.close(life)
