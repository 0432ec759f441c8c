"""What faults are made with: the right victims, a slow proxy, a clock that jumps."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from include.chaos.faults import inject
from include.chaos.processes import TOKEN, send, stage_mains, stage_processes
from include.chaos.proxy import SlowProxy
from include.chaos.schedule import Planned
from include.chaos.world import World
from include.settings import PROJECT

STAGE = """
import subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(helper.pid, flush=True)
helper.wait()
"""


@pytest.fixture
def stage() -> Iterator[Callable[[str], tuple[subprocess.Popen[str], int]]]:
    """Starts something that looks like a stage, with a helper, for a token."""
    started = []

    def start(token: str) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-c", STAGE, "-m", "include.stages", "compose"]
        process = subprocess.Popen(
            command,
            env={**os.environ, TOKEN: token},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_only_our_own_stages_and_their_helpers_are_victims(
    stage: Callable[[str], tuple[subprocess.Popen[str], int]],
) -> None:
    ours, helper = stage("one")
    stage("another")
    assert {p.pid for p in stage_processes("one")} == {ours.pid, helper}
    assert [p.pid for p in stage_mains("one")] == [ours.pid]
    assert stage_processes("nobody") == []
    assert send(helper, signal.SIGKILL)
    assert ours.wait(20) == 0
    assert not send(ours.pid, signal.SIGKILL)


class Hello(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        pass


def test_a_proxy_passes_on_everything_and_delays_it_when_told() -> None:
    server = HTTPServer(("127.0.0.1", 0), Hello)
    Thread(target=server.serve_forever, daemon=True).start()
    proxy = SlowProxy("127.0.0.1", server.server_port)
    try:
        for delay in (0.0, 0.3):
            proxy.delay_s = delay
            start = time.monotonic()
            assert urllib.request.urlopen(proxy.url).read() == b"hello"
            assert time.monotonic() - start >= 2 * delay  # there and back
        server.shutdown()
        server.server_close()
        with pytest.raises(OSError):  # noqa: PT011 (whatever the system calls it)
            urllib.request.urlopen(proxy.url)
    finally:
        proxy.close()


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler: no clock-jump either")
def test_a_clock_jumps_for_a_running_process_and_only_its_wall_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_WORKER_PYTHON", sys.executable)
    world = World()
    world.scratch = tmp_path
    world._make_clock()
    code = """
import subprocess, sys, time
while sys.stdin.readline():
    subprocess.run(["true"], timeout=20, check=True)
    time.sleep(0.01)
    print(time.time(), time.monotonic(), flush=True)
"""
    process = subprocess.Popen(
        [tmp_path / "python", "-c", code],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for jump in (0, 7200, -90, 0):
            world.jump(jump)
            process.stdin.write("\n")
            process.stdin.flush()
            wall, steady = map(float, process.stdout.readline().split())
            assert abs(wall - time.time() - jump) < 30
            assert abs(steady - time.monotonic()) < 30
    finally:
        process.communicate()


def test_a_disk_is_filled_to_the_last_page_and_emptied_again() -> None:
    if os.getuid() != 0:
        pytest.skip("mounting needs root; without it there is no disk-full either")
    world = World()
    with tempfile.TemporaryDirectory() as folder:
        world.scratch = Path(folder)
        world._make_disk()
        try:
            if world.disk is None:
                pytest.skip("this system mounts nothing; there is no disk-full either")
            done = inject(world, Planned("disk-full", 0.5, 5.0, 1), lambda: True)
            assert done is not None
            assert done.heal is not None
            with pytest.raises(OSError, match="No space left"):
                (world.disk / "tmp" / "more").write_bytes(b"x" * (1 << 16))
            done.heal()
            (world.disk / "tmp" / "more").write_bytes(b"x" * (1 << 16))
        finally:
            world.stop()
