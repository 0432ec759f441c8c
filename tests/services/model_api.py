"""The reference server as a process of its own, started, restarted and killed by tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import urllib3

from include.settings import PROJECT

TOKEN = "a-token-that-only-tests-know"
SECRET = "a-secret-that-only-tests-know"


class ModelApi:
    """One server on one folder; every start takes the same port."""

    def __init__(self, root: Path, python: Path | str = sys.executable) -> None:
        self.root, self.python = root, str(python)
        self.url = ""
        self.options: list[str] = []
        self._process: subprocess.Popen[str] | None = None
        self._pool = urllib3.PoolManager(retries=False)

    def start(self, *options: str) -> None:
        self.options = list(options) or self.options
        port = self.url.rpartition(":")[2] or "0"
        command = [self.python, "-m", "include.remote.server", "--root", str(self.root)]
        self._process = subprocess.Popen(
            [*command, "--port", port, *self.options],
            cwd=PROJECT,
            env={
                **os.environ,
                "UNDERSTUDY_REMOTE_TOKEN": TOKEN,
                "UNDERSTUDY_REMOTE_WEBHOOK_SECRET": SECRET,
            },
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()

    def stop(self, *, kill: bool = False) -> None:
        if self._process is None:
            return
        (self._process.kill if kill else self._process.terminate)()
        self._process.wait()
        assert self._process.stdout
        self._process.stdout.close()
        self._process = None

    def ask(self, method: str, path: str, token: str = TOKEN, **more: object):
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return self._pool.request(method, self.url + path, headers=headers, **more)

    def counts(self) -> dict[str, int]:
        return self.ask("GET", "/v1/health").json()


@contextlib.contextmanager
def model_api(root: Path, *options: str, python: Path | str = sys.executable) -> Iterator[ModelApi]:
    """A server until the block ends; ``python`` is the interpreter of a worker's environment."""
    api = ModelApi(root, python)
    api.start(*options)
    try:
        yield api
    finally:
        api.stop()
