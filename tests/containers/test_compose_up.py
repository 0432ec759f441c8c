"""``docker/compose.yaml`` brought up for real: only with ``UNDERSTUDY_FULL_IMAGES=1``.

A Docker engine in a network namespace of its own, ``docker-compose``, the project's own images, and
a campaign through it, as docker/README tells it. PostgreSQL and Redis are Debian's instead of the
upstream images; the S3 server is Ceph's RADOS Gateway, to which the service ``s3`` leads.
"""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from include.cli.rest import AirflowApi
from include.settings import PROJECT
from include.store import open_store
from tests.containers.test_full_images import EXECUTOR, executor, worker
from tests.services.ceph_rgw import ACCESS_KEY, SECRET_KEY, ceph_rgw
from tests.services.docker import ADDRESS, docker_engine
from tests.services.podman import build
from tests.support.tiny import make_tiny

__all__ = ["executor", "worker"]

pytestmark = [pytest.mark.worker, pytest.mark.slow, pytest.mark.containers]

STAND_INS = "tests/services/images"


@pytest.fixture(scope="module")
def engine(executor):
    with docker_engine() as running:
        running.take(executor)
        yield running


@pytest.fixture(scope="module")
def stand_ins(engine):
    """Images in the place of other projects'; gives the variables that name them."""
    with ceph_rgw() as endpoint:
        engine.lead_out(f"{ADDRESS}:9000", int(endpoint.url.rpartition(":")[2]))
        images = {}
        for name in ("postgres", "redis", "s3"):
            tag = f"localhost/understudy-test-{name}:1"
            more = ("--target", name, "--build-arg", f"S3_AT={ADDRESS}:9000")
            build(tag, f"{STAND_INS}/Dockerfile", *more, context=STAND_INS)
            images[f"{name.upper()}_IMAGE"] = tag
        engine.take(*images.values())
        yield images


@pytest.fixture
def home():
    """A folder that other users may look into."""
    with tempfile.TemporaryDirectory(prefix="understudy-compose-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Project:
    """The compose file, brought up."""

    def __init__(self, engine, home, variables, *profiles):
        self.engine = engine
        self.file = home / "variables"
        self.file.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        options = ["-p", "understudy", "-f", str(PROJECT / "docker/compose.yaml")]
        options += ["--env-file", str(self.file)]
        self.words = ["docker-compose", *options, *(f"--profile={name}" for name in profiles)]

    def __call__(self, *command, check=True):
        return self.engine.run(*self.words, *command, check=check).stdout

    def __enter__(self):
        self("up", "--detach", "--no-build")
        return self

    def __exit__(self, *_):
        self("down", "--volumes", "--timeout", "10", check=False)

    def api(self):
        """The API, logged in as the compose file's user with the password that Airflow made."""
        passwords = self.wait_for(
            lambda: self("exec", "-T", "api-server", "cat", "/airflow/passwords.json")
        )
        port = self.engine.forward(8080)
        return AirflowApi(f"http://127.0.0.1:{port}", "admin", json.loads(passwords)["admin"])

    def settled(self):
        """The containers' states, once no health check is still to come."""
        states = self("ps")
        return "" if "starting" in states else states

    def wait_for(self, condition, seconds=600):
        """Wait until something holds; what the containers said when it never does."""
        end, problem = time.monotonic() + seconds, None
        while time.monotonic() < end:
            try:
                if found := condition():
                    return found
            except Exception as error:
                problem = error
            time.sleep(2)
        said = self("ps", check=False) + self("logs", "--no-color", "--tail=60", check=False)
        raise AssertionError(f"{problem}\n{said[-12000:]}")


def variables(images, home, **more):
    """As docker/compose.env.example asks for them."""
    return {
        "AIRFLOW_IMAGE": EXECUTOR,
        **images,
        "FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JWT_SECRET": secrets.token_urlsafe(32),
        "API_SECRET_KEY": secrets.token_urlsafe(32),
        "POSTGRES_PASSWORD": secrets.token_urlsafe(32),
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
        "MEDIA": home / "media",
        "SETTINGS": home / "settings",
        "SIGNER": home / "signer",
        **more,
    }


def campaign(home):
    """A small campaign among the media, its tenant's public consent key among the settings."""
    for name in ("media", "settings/consent", "signer"):
        (home / name).mkdir(parents=True)
    tiny = make_tiny(home)
    brief = tiny.write()
    for path in [p for p in tiny.root.iterdir() if p.is_file()]:
        shutil.copy(path, home / "media")
    for key in (tiny.settings.state / "consent").glob("*/public/*.pem"):
        shutil.copy(key, home / "settings/consent" / f"{key.parent.parent.name}.{key.name}")
    return brief.name


@pytest.mark.parametrize(
    ("bucket", "profiles", "more"),
    [
        ("local", (), {}),
        (
            "celery",
            ("celery",),
            {"AIRFLOW_EXECUTOR": "CeleryExecutor", "UNDERSTUDY_QUEUES": "cpu,io"},
        ),
    ],
)
def test_the_compose_file_renders_a_campaign(
    engine, stand_ins, home, monkeypatch, bucket, profiles, more
):
    brief = campaign(home)
    store = f"s3://{bucket}/compose"
    values = variables(stand_ins, home, UNDERSTUDY_STORE=store, **more)
    with Project(engine, home, values, *profiles) as project:
        api = project.api()
        project.wait_for(lambda: api.get("dags/campaign_render"))
        project.wait_for(lambda: api.get("pools/cpu"))
        api.patch("dags/campaign_render", {"is_paused": False})
        run = ("campaign_render", api.trigger("campaign_render", {"brief": f"/media/{brief}"}))
        project.wait_for(lambda: api.run_state(*run) in ("success", "failed"), 1500)
        said = project("logs", "--no-color", "--tail=60", "scheduler", check=False)
        assert api.run_state(*run) == "success", said
        tasks = api.task_instances(*run)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        at = f"{store}?endpoint=http://127.0.0.1:{engine.forward(9000)}"
        found = [i.key for i in open_store(at).list("") if i.key.endswith(".mp4")]
        states = project.wait_for(project.settled, 300)
    assert any("published/" in key for key in found), found
    assert "Exit 1" not in states, states
    assert "unhealthy" not in states, states
    assert states.count("(healthy)") == (8 if profiles else 5), states
    queues = {task["task_id"].split(".")[-1]: task["queue"] for task in tasks}
    wanted = ("cpu", "io", "default") if profiles else ("default",) * 3
    assert (queues["compose"], queues["sign"], queues["plan"]) == wanted
