"""The whole images, and Celery with Redis: only with ``UNDERSTUDY_FULL_IMAGES=1``.

Builds both images with all their packages (about 4 GB on disk and some minutes), checks them, and
renders a campaign through the commands of ``docker/compose.yaml``'s profile ``celery``: PostgreSQL,
Redis and Ceph's RADOS Gateway on the host, Airflow's processes and two workers in containers.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import yaml

from include.chaos.ceph_rgw import free_ports
from include.cli.rest import AirflowApi
from include.settings import PROJECT
from include.store import open_store
from include.store.s3 import S3Store
from tests.services.ceph_rgw import ceph_rgw
from tests.services.podman import build, environment, mirror_options, podman
from tests.support.tiny import make_tiny

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


@pytest.fixture
def home():
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory(prefix="understudy-celery-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Deployment:
    """The processes of the compose file's profile ``celery``, one container each."""

    def __init__(self, image, folder, variables, media):
        self.image, self.folder, self.media = image, folder, media
        (folder / "tmp").mkdir()
        (folder / "tmp").chmod(0o1777)
        self.compose = yaml.safe_load((PROJECT / "docker/compose.yaml").read_text())["services"]
        self.options = [f"--env={name}={value}" for name, value in variables.items()]
        self.running = []

    def command(self, service):
        words = self.compose[service]["command"]
        return [re.sub(r"\$\{(CPU|IO)_SLOTS:-\d\}", "2", word) for word in words]

    def start(self, service, *more, wait=False):
        home = self.folder / "airflow"
        name = f"understudy-celery-{service}"
        podman("rm", "-f", name, check=False)
        arguments = [
            "run", "--rm", "--name", name, *HARDENED, "--user", "50000:0",
            "--volume", f"{self.folder}/tmp:/tmp", "--volume", f"{self.folder}/tmp:/home/airflow",
            "--volume", f"{home}:/airflow", "--volume", f"{self.media}:/media:ro",
            *self.options, self.image, *(more or self.command(service)),
        ]  # fmt: skip
        log = (self.folder / f"{service}.log").open("w")
        process = subprocess.Popen(
            ["podman", *arguments], env=environment(), stdout=log, stderr=log
        )
        if wait:
            assert process.wait(600) == 0, (self.folder / f"{service}.log").read_text()[-3000:]
        else:
            self.running.append((name, process))

    def stop(self):
        for name, _ in self.running:
            podman("kill", name, check=False)
        for _, process in self.running:
            process.wait(60)

    def logs(self):
        return "\n".join(
            f"--- {path.name}\n{path.read_text(errors='replace')[-1500:]}"
            for path in sorted(self.folder.glob("*.log"))
        )


@contextlib.contextmanager
def servers(folder):
    """PostgreSQL and Redis from Debian, on free ports; gives their variables for Airflow."""
    for program in ("redis-server", "pg_createcluster"):
        if not shutil.which(program):
            install = ["apt-get", "install", "-y", "--no-install-recommends"]
            subprocess.run([*install, "redis-server", "postgresql"], check=True)
    postgres, redis = free_ports(2)
    make = ["pg_createcluster", "-d", str(folder / "pg"), "-p", str(postgres), "15", "celery"]
    subprocess.run([*make, "--", "--auth-local=trust", "--auth-host=trust"], check=True)
    control = ["pg_ctlcluster", "--skip-systemctl-redirect", "15", "celery"]
    subprocess.run([*control, "start"], check=True)
    queue = subprocess.Popen(
        ["redis-server", "--bind", "127.0.0.1", "--port", str(redis), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        psql = ["psql", "-h", "127.0.0.1", "-p", str(postgres), "-U", "postgres", "-c"]
        subprocess.run([*psql, "create database airflow"], check=True)
        at = f"postgres@127.0.0.1:{postgres}/airflow"
        yield {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{at}",
            "AIRFLOW__CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{at}",
            "AIRFLOW__CELERY__BROKER_URL": f"redis://127.0.0.1:{redis}/0",
        }
    finally:
        queue.terminate()
        subprocess.run([*control, "-m", "immediate", "stop"], check=False)
        subprocess.run(["pg_dropcluster", "15", "celery"], check=False)


def variables(port, logs_port, uri, endpoint, database):
    """As ``docker/compose.yaml`` sets them, with this test's addresses."""
    return {
        **database,
        "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(48),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(logs_port),
        "UNDERSTUDY_STORE": uri,
        "UNDERSTUDY_STATE": "/airflow/understudy",
        "UNDERSTUDY_ROOTS": "/media",
        "UNDERSTUDY_QUEUES": "cpu,io",
        "AWS_ACCESS_KEY_ID": endpoint.access_key,
        "AWS_SECRET_ACCESS_KEY": endpoint.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def wait_for(condition, deployment, seconds=600):
    """Wait until something holds; the processes' logs when it never does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(Exception):
            if found := condition():
                return found
        time.sleep(2)
    raise AssertionError(deployment.logs())


def test_a_campaign_is_rendered_by_celery_workers_each_with_its_queue(executor, home):
    tiny = make_tiny(home)
    brief = tiny.write()
    shutil.copytree(tiny.settings.state, home / "airflow" / "understudy")
    for path in (home / "airflow", *(home / "airflow").rglob("*")):
        shutil.chown(path, 50000, 0)
    port, logs_port = free_ports(2)
    with ceph_rgw() as endpoint, servers(home) as database, pytest.MonkeyPatch.context() as env:
        env.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key)
        env.setenv("AWS_SECRET_ACCESS_KEY", endpoint.secret_key)
        uri = f"s3://celery/ads?endpoint={endpoint.url}"
        S3Store(uri).client.create_bucket(Bucket="celery")
        values = variables(port, logs_port, uri, endpoint, database)
        deployment = Deployment(executor, home, values, tiny.root)
        deployment.start("migrate", wait=True)
        try:
            deployment.start("api-server", "airflow", "api-server", "--port", str(port))
            for name in ("scheduler", "dag-processor", "worker-cpu", "worker-io"):
                deployment.start(name)
            deployment.start("settings", wait=True)
            api = AirflowApi(f"http://127.0.0.1:{port}")
            wait_for(lambda: api.get("dags/campaign_render"), deployment)
            api.patch("dags/campaign_render", {"is_paused": False})
            run_id = api.trigger("campaign_render", {"brief": f"/media/{brief.name}"})
            run = ("campaign_render", run_id)
            wait_for(lambda: api.run_state(*run) in ("success", "failed"), deployment, 1500)
            assert api.run_state(*run) == "success", deployment.logs()
            tasks = api.task_instances(*run)
        finally:
            deployment.stop()
        videos = [i.key for i in open_store(uri).list("acme/") if "/publish/" in i.key]
    assert videos
    queues = {task["task_id"].split(".")[-1]: task["queue"] for task in tasks}
    assert (queues["compose"], queues["sign"], queues["plan"]) == ("cpu", "io", "default")
