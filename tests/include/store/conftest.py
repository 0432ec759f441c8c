"""The stores that the contract suite runs on.

``directory`` always; S3 is Ceph's RADOS Gateway where ``UNDERSTUDY_SYSTEM_TESTS=1`` allows
installing it (failing to is an error there), else an emulator that the test ids name as one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from include.store import ObjectStore, open_store
from include.store.s3 import S3Store
from tests.services.ceph_rgw import Endpoint, ceph_rgw
from tests.services.moto_s3 import moto_s3

REPOSITORY = Path(__file__).resolve().parents[3]
SYSTEM_TESTS = os.environ.get("UNDERSTUDY_SYSTEM_TESTS") == "1"
S3 = "s3-ceph-rgw" if SYSTEM_TESTS else "s3-emulator-moto"
BUCKET = "contract"

Python = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[Endpoint]:
    with ceph_rgw() if SYSTEM_TESTS else moto_s3() as endpoint, pytest.MonkeyPatch.context() as env:
        env.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key)
        env.setenv("AWS_SECRET_ACCESS_KEY", endpoint.secret_key)
        env.setenv("AWS_CONFIG_FILE", os.devnull)
        env.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        env.setenv("AWS_EC2_METADATA_DISABLED", "true")
        env.setenv("AWS_MAX_ATTEMPTS", "3")
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
            env.delenv(name, raising=False)
        S3Store(f"s3://{BUCKET}?endpoint={endpoint.url}").client.create_bucket(Bucket=BUCKET)
        yield endpoint


@pytest.fixture(params=[S3])
def s3_uri(s3_endpoint: Endpoint) -> str:
    """A prefix of its own in a real bucket."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}?endpoint={s3_endpoint.url}"


@pytest.fixture(params=["directory", S3])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store on every backend."""
    if request.param == "directory":
        return str(tmp_path / "store")
    endpoint: Endpoint = request.getfixturevalue("s3_endpoint")
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:12]}?endpoint={endpoint.url}"


@pytest.fixture
def store(store_uri: str) -> ObjectStore:
    return open_store(store_uri)


@pytest.fixture
def python() -> Iterator[Python]:
    """Start Python processes that can import the project; whatever still runs is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
