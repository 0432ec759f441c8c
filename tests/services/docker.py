"""A Docker engine for tests, in a network namespace of its own, for ``docker-compose``.

Podman cannot stand in here: its health checks need systemd, and compose files wait for them. The
engine has no registry; images come from podman. Needs root and Debian's packages; what fails is an
error, never a skip.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from include.chaos.ceph_rgw import free_ports
from tests.services import debian
from tests.services.podman import environment as podman_environment

PACKAGES = ("docker.io", "containerd", "docker-compose", "iptables", "iproute2", "socat")
ADDRESS = "192.0.2.1"
"""Of the namespace's host, for servers that containers shall reach (a range of RFC 5737)."""

_START_S = 60


class Engine:
    """A running engine.

    Args:
        folder: for its images, volumes and socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace = f"us-{uuid.uuid4().hex[:8]}"
        self.enter = ("nsenter", f"--net=/run/netns/{self.namespace}")
        self.socket = f"unix://{folder}/docker.sock"
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Make the namespace and start the engine in it.

        Raises:
            RuntimeError: it did not answer; its last words are in the message.
        """
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        for command in ("link set lo up", f"addr add {ADDRESS}/32 dev lo"):
            subprocess.run([*self.enter, "ip", *command.split()], check=True)
        places = [f"--{n}={self.folder}/{n}" for n in ("data-root", "exec-root", "pidfile")]
        log = (self.folder / "dockerd.log").open("wb")
        command = [*self.enter, "dockerd", *places, "--host", self.socket]
        self._children.append(subprocess.Popen(command, stdout=log, stderr=log))
        give_up = time.monotonic() + _START_S
        while self.run("docker", "info", check=False).returncode:
            if time.monotonic() > give_up or self._children[0].poll() is not None:
                raise RuntimeError((self.folder / "dockerd.log").read_text()[-3000:])
            time.sleep(0.5)

    def run(
        self, *command: str, check: bool = True, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a client of the engine.

        Raises:
            RuntimeError: it failed, and ``check`` was asked for.
        """
        names = {**os.environ, "DOCKER_HOST": self.socket, **variables}
        done = subprocess.run(command, env=names, check=False, capture_output=True, text=True)
        if check and done.returncode:
            said = (done.stderr or done.stdout)[-3000:]
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return done

    def take(self, *images: str) -> None:
        """Copy images from podman, under the names that podman knows them by."""
        save = ["podman", "save", "--multi-image-archive", *images]
        with subprocess.Popen(save, stdout=subprocess.PIPE, env=podman_environment()) as saving:
            load = ["docker", "load", "--quiet"]
            names = {**os.environ, "DOCKER_HOST": self.socket}
            subprocess.run(load, stdin=saving.stdout, env=names, check=True, capture_output=True)
        if saving.returncode:
            raise RuntimeError(f"{' '.join(save)} ended with {saving.returncode}")

    def forward(self, port: int) -> int:
        """Have a free port of this machine's 127.0.0.1 lead to one of the namespace's."""
        [outside] = free_ports(1)
        self._lead((), f"127.0.0.1:{outside}", self.enter, f"127.0.0.1:{port}")
        return outside

    def lead_out(self, address: str, port: int) -> None:
        """Have an address and port of the namespace lead to a port of this machine's 127.0.0.1."""
        here = ("nsenter", f"--net=/proc/{os.getpid()}/ns/net")
        self._lead(self.enter, address, here, f"127.0.0.1:{port}")

    def _lead(
        self, there: tuple[str, ...], address: str, behind: tuple[str, ...], target: str
    ) -> None:
        """Listen in one namespace, connect in another."""
        host, _, port = address.partition(":")
        listen = f"TCP-LISTEN:{port},bind={host},fork,reuseaddr"
        connect = f"{' '.join(behind)} socat STDIO TCP:{target}".replace(":", "\\:")
        self._children.append(subprocess.Popen([*there, "socat", listen, f"EXEC:{connect}"]))

    def stop(self) -> None:
        """End the engine and what belongs to it; containers end with it."""
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(60)
        subprocess.run(["ip", "netns", "del", self.namespace], check=False)


@contextlib.contextmanager
def docker_engine() -> Iterator[Engine]:
    """Install what it takes, start an engine, and take it all away at the end."""
    programs = ("dockerd", "containerd", "docker-compose", "iptables", "ip", "socat")
    debian.install(PACKAGES, lambda: all(map(shutil.which, programs)))
    folder = Path(tempfile.mkdtemp(prefix="understudy-docker-"))
    engine = Engine(folder)
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        shutil.rmtree(folder, ignore_errors=True)
