"""An S3 emulator for tests: moto's server from the tools environment.

It checks neither signatures nor checksums and keeps everything in memory: tests that ran on it
say "emulator" in their ids. It serves from several threads and makes a conditional PUT in two steps
(look, then write), so two racers may both win; here a lock lets it work on one request at a time.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.services.ceph_rgw import Endpoint

_REPOSITORY = Path(__file__).resolve().parents[2]
_START_S = 60


_SERVER = """
import sys
from threading import Lock
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

moto, lock = DomainDispatcherApplication(create_backend_app), Lock()

def one_at_a_time(environ, start_response):
    with lock:
        return moto(environ, start_response)

run_simple("127.0.0.1", int(sys.argv[1]), one_at_a_time, threaded=True)
"""


def tools_python() -> Path:
    """The Python that has moto: in ``$UNDERSTUDY_TOOLS``, else the repository's own tools."""
    tools = os.environ.get("UNDERSTUDY_TOOLS") or _REPOSITORY / ".venv" / "tools" / "bin"
    return Path(tools) / "python"


@contextlib.contextmanager
def moto_s3() -> Iterator[Endpoint]:
    """Start the emulator on a free port and stop it at the end.

    Raises:
        RuntimeError: it does not answer.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [tools_python(), "-c", _SERVER, str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, server)
        yield Endpoint(url)
    finally:
        server.terminate()
        server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"moto of {tools_python()} did not answer at {url}.")
