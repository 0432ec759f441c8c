"""A real S3 server for tests: Ceph's RADOS Gateway with one monitor and one OSD, in a folder.

Needs root and Debian's packages, which ``install`` fetches; so only where the system may be
changed (``UNDERSTUDY_SYSTEM_TESTS=1``). A failure to start is an error, never a skip.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from include.chaos.ceph_rgw import ACCESS_KEY, PACKAGES, SECRET_KEY, Cluster, Endpoint, installed
from tests.services import debian

__all__ = ["ACCESS_KEY", "SECRET_KEY", "Endpoint", "ceph_rgw", "install"]


def install() -> None:
    """Install Ceph from Debian's archive unless it is there.

    Raises:
        RuntimeError: apt-get failed; its last lines are in the message.
    """
    debian.install(PACKAGES, installed)


@contextlib.contextmanager
def ceph_rgw() -> Iterator[Endpoint]:
    """Install, start and, at the end, stop a gateway whose data live in a temporary folder."""
    install()
    home = Path(tempfile.mkdtemp(prefix="rgw-"))
    cluster = Cluster(home)
    try:
        yield cluster.start()
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)
