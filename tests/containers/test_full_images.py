"""The whole images, with all their packages: only with ``UNDERSTUDY_FULL_IMAGES=1``.

About 4 GB on disk and some minutes. What runs in them together is in ``test_compose_up``.
"""

from __future__ import annotations

import json

import pytest

from tests.services.podman import build, mirror_options, podman

pytestmark = [
    pytest.mark.worker,
    pytest.mark.slow,
    pytest.mark.containers,
]

WORKER, EXECUTOR = "localhost/understudy-worker:full", "localhost/understudy-airflow:executor"
HARDENED = ("--no-healthcheck", "--read-only", "--read-only-tmpfs=false", "--cap-drop=all",
            "--security-opt=no-new-privileges")  # fmt: skip


@pytest.fixture(scope="module")
def worker():
    return build(WORKER, "docker/worker/Dockerfile", "--target", "worker", *mirror_options())


@pytest.fixture(scope="module")
def executor(worker):
    more = ("--target", "executor", "--build-arg", f"WORKER={worker}", *mirror_options())
    return build(EXECUTOR, "docker/airflow/Dockerfile", *more)


def test_the_worker_image_is_healthy_and_keeps_no_mirror(worker):
    assert podman("run", "--rm", *HARDENED, worker).returncode == 0
    [found] = json.loads(podman("image", "inspect", worker).stdout)
    health = found["Healthcheck"]["Test"]
    assert health == ["CMD", "python", "-m", "include.stages", "--self-test"]
    look = "cat /etc/pip.conf /etc/uv/uv.toml 2>/dev/null; env"
    looked = podman("run", "--rm", "--entrypoint", "sh", worker, "-c", look)
    assert "index" not in looked.stdout
