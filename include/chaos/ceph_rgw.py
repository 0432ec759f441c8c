"""A real S3 server in a folder: Ceph's RADOS Gateway with one monitor and one OSD.

Needs root and Debian's packages ``PACKAGES``. Daemons can be killed and started again, and can live
in a network namespace of their own.
"""

from __future__ import annotations

import contextlib
import ctypes
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")
PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "radosgw-admin")
ACCESS_KEY = "understudy-test"
SECRET_KEY = "understudy-test-secret"

_START_S = 120
_PR_SET_PDEATHSIG = 1

_CONF = """\
[global]
fsid = {fsid}
mon_host = [v2:127.0.0.1:{mon},v1:127.0.0.1:{mon_v1}]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
keyring = {home}/keyring
run_dir = {home}
pid_file =
admin_socket = {home}/$name.asok
log_file = {home}/$name.log
mon_cluster_log_file = {home}/cluster.log
mon_data = {home}/mon
osd_data = {home}/osd
rgw_data = {home}/rgw
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
osd_crush_chooseleaf_type = 0
max_open_files = 0
osd_objectstore = bluestore
bluestore_block_size = 10737418240
osd_memory_target = 943718400
rgw_frontends = beast endpoint={host}:{rgw} tcp_nodelay=1
"""


@dataclass(frozen=True)
class Endpoint:
    """Where the server listens, and a user that it knows."""

    url: str
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY


def installed() -> bool:
    """Whether Ceph's programs are there."""
    return all(map(shutil.which, PROGRAMS))


class Cluster:
    """One monitor, one OSD and one gateway.

    Args:
        home: an empty folder for configuration, data and logs.
        host: the address that the gateway listens on.
        enter: words put before every command, such as ``nsenter --net=...``.
    """

    def __init__(self, home: Path, host: str = "127.0.0.1", enter: Sequence[str] = ()) -> None:
        self.home = home
        self.host = host
        self.enter = tuple(enter)
        self.conf = ["-c", str(home / "ceph.conf")]
        self.fsid = str(uuid.uuid4())
        self.mon, self.mon_v1, self.rgw = free_ports(3)
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._commands: dict[str, tuple[str, ...]] = {}

    @property
    def url(self) -> str:
        """Of the gateway."""
        return f"http://{self.host}:{self.rgw}"

    def start(self) -> Endpoint:
        """Make the cluster and start it; returns when it answers.

        Raises:
            RuntimeError: it did not start; the message has its last words.
        """
        for folder in ("mon", "osd", "rgw"):
            (self.home / folder).mkdir()
        (self.home / "ceph.conf").write_text(
            _CONF.format(
                fsid=self.fsid,
                home=self.home,
                mon=self.mon,
                mon_v1=self.mon_v1,
                rgw=self.rgw,
                host=self.host,
            )
        )
        self._make_keys()
        self._start_monitor()
        self._start_osd()
        self._daemon("radosgw", "-n", "client.rgw")
        self._run(
            "radosgw-admin", *self.conf, "-n", "client.rgw", "user", "create", "--uid=test",
            "--display-name=test", f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}",
        )  # fmt: skip
        self._wait_for(self.url)
        return Endpoint(self.url)

    def kill(self, program: str) -> None:
        """``kill -9`` of one daemon: ``radosgw``, ``ceph-osd`` or ``ceph-mon``."""
        self.daemons[program].kill()
        self.daemons[program].wait()

    def restart(self, program: str) -> None:
        """Start a daemon again that was killed; returns at once."""
        self._spawn(program)

    def stop(self) -> None:
        """Kill the daemons: their data go too, and an orderly end takes 20 s."""
        for daemon in self.daemons.values():
            daemon.kill()
        for daemon in self.daemons.values():
            daemon.wait()

    def _make_keys(self) -> None:
        keyring = str(self.home / "keyring")
        capabilities = {
            "mon.": [("mon", "allow *")],
            "client.admin": [("mon", "allow *"), ("osd", "allow *"), ("mgr", "allow *")],
            "client.rgw": [("mon", "allow rw"), ("osd", "allow rwx")],
            "osd.0": [("mon", "allow profile osd"), ("osd", "allow *")],
        }
        for name, caps in capabilities.items():
            flags = [word for cap in caps for word in ("--cap", *cap)]
            create = [] if Path(keyring).exists() else ["--create-keyring"]
            self._run("ceph-authtool", *create, keyring, "--gen-key", "-n", name, *flags)

    def _start_monitor(self) -> None:
        monmap = str(self.home / "monmap")
        address = f"[v2:127.0.0.1:{self.mon},v1:127.0.0.1:{self.mon_v1}]"
        self._run("monmaptool", "--create", "--fsid", self.fsid, "--addv", "a", address, monmap)
        keyring = str(self.home / "keyring")
        self._run(
            "ceph-mon", *self.conf, "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring
        )
        self._daemon("ceph-mon", "-i", "a")

    def _start_osd(self) -> None:
        osd = str(uuid.uuid4())
        self._run("ceph", *self.conf, "osd", "new", osd)
        self._run("ceph-osd", *self.conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._run(
            "ceph", *self.conf, "osd", "crush", "add", "osd.0", "1.0", "host=here", "root=default"
        )
        self._daemon("ceph-osd", "-i", "0")

    def _daemon(self, program: str, *flags: str) -> None:
        self._commands[program] = (*self.enter, program, "-f", *self.conf, *flags)
        self._spawn(program)

    def _spawn(self, program: str) -> None:
        with open(self.home / f"{program}.out", "ab") as log:
            self.daemons[program] = subprocess.Popen(
                self._commands[program], stdout=log, stderr=log, preexec_fn=_die_with_parent
            )

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            (*self.enter, *command), check=False, capture_output=True, text=True, timeout=_START_S
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}{self._logs()}")

    def _wait_for(self, url: str) -> None:
        give_up = time.monotonic() + _START_S
        while time.monotonic() < give_up and all(d.poll() is None for d in self.daemons.values()):
            if answers(url):
                return
            time.sleep(0.1)
        raise RuntimeError(f"The RADOS gateway did not answer at {url}.{self._logs()}")

    def _logs(self) -> str:
        found = sorted(self.home.glob("*.out"))
        return "".join(f"\n--- {path.name}\n{path.read_text()[-1500:]}" for path in found)


def answers(url: str) -> bool:
    """Whether an HTTP server answers at a URL, not through a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(urllib.error.URLError, OSError):
        opener.open(url, timeout=5).close()
        return True
    return False


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody uses now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
