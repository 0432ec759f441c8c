"""docker/compose.yaml: complete, hardened, without a secret; profiles and queues as documented."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from include.settings import PROJECT

pytestmark = pytest.mark.airflow

COMPOSE = PROJECT / "docker/compose.yaml"
AIRFLOW = {"api-server", "scheduler", "dag-processor", "triggerer", "worker-cpu", "worker-io"}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load(COMPOSE.read_text())


def test_airflows_processes_run_read_only_without_rights(compose):
    for name in (*AIRFLOW, "migrate", "settings", "bucket"):
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"].split(":")[0] != "0"


def test_dependencies_exist_and_those_waited_for_have_a_health_check(compose):
    services = compose["services"]
    for service in services.values():
        needs = service.get("depends_on") or {}
        if isinstance(needs, list):
            needs = {name: {} for name in needs}
        for name, how in needs.items():
            assert name in services
            if how.get("condition") == "service_healthy":
                assert "healthcheck" in services[name]


def test_airflows_processes_have_a_health_check_of_their_own(compose):
    """The image's own asks for the API server, which the others do not run."""
    for name in AIRFLOW - {"api-server"}:
        test = " ".join(compose["services"][name]["healthcheck"]["test"])
        assert "jobs check" in test or "inspect ping" in test


def test_celery_is_a_profile_with_a_queue_for_each_class(compose):
    services = compose["services"]
    in_profile = {name for name, service in services.items() if service.get("profiles")}
    assert in_profile == {"redis", "worker-cpu", "worker-io"}
    queues = set()
    for name in ("worker-cpu", "worker-io"):
        command = shlex.split(" ".join(services[name]["command"]))
        queues |= set(command[command.index("--queues") + 1].split(","))
    from include.stages.specs import STAGES

    assert queues == {spec.pool for spec in STAGES.values()} | {"default"}


def filled(text, given):
    """Compose's own substitution of ``${NAME:-default}`` and ``$$``."""
    text = re.sub(r"\$\{([A-Z_0-9]+):-([^}]*)\}", lambda m: given.get(m[1]) or m[2], text)
    return text.replace("$$", "$")


def environment_of(service, given):
    """What a service's processes see of ours, as compose fills it in."""
    named = service["environment"].items()
    return {n: filled(str(v), given) for n, v in named if n.startswith("UNDERSTUDY_")}


@pytest.mark.parametrize(
    ("given", "slots", "pool"),
    [
        ({}, 2, 2),
        ({"CPU_SLOTS": "3"}, 3, 3),
        ({"CPU_SLOTS": "3", "UNDERSTUDY_RUNTIME": "hybrid"}, 3, 7),
        ({"CPU_SLOTS": "3", "UNDERSTUDY_RUNTIME": "hybrid", "UNDERSTUDY_BURST": "9"}, 3, 12),
    ],
)
def test_one_variable_is_our_slots_and_hybrid_has_room_for_what_is_at_an_api(
    compose, monkeypatch, given, slots, pool
):
    """The pool and the Celery worker have to let in tasks that only wait for an API."""
    from include.settings import Settings

    services = compose["services"]
    for name, value in environment_of(services["scheduler"], given).items():
        monkeypatch.setenv(name, value)
    settings = Settings.from_env()
    assert (settings.slots, settings.pool_slots) == (slots, pool)
    loads = "from operators.inprocess import load_settings; load_settings()"
    assert services["settings"]["command"] == ["python", "-c", loads]
    worker = services["worker-cpu"]
    assert worker["command"][:2] == ["sh", "-c"]
    asked = "exec airflow celery worker --queues cpu --concurrency "
    words = filled(worker["command"][2], given).replace(asked, "printf %s ")
    done = subprocess.run(
        ["sh", "-c", words],
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROJECT),
            **environment_of(worker, given),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == str(pool)


def test_no_secret_is_written_down_and_every_one_is_asked_for():
    text = COMPOSE.read_text()
    example = (PROJECT / "docker/compose.env.example").read_text()
    asked = set(re.findall(r"\$\{([A-Z0-9_]+):\?", text))
    assert {"FERNET_KEY", "JWT_SECRET", "POSTGRES_PASSWORD", "S3_SECRET_KEY"} <= asked
    for name in asked:
        assert re.search(rf"^{name}=$", example, re.MULTILINE), f"{name} is in the example, empty"
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if re.search(r"(PASSWORD|SECRET|_KEY)\b", key) and value.strip():
            assert "${" in value or value.strip().startswith("/"), line


def test_every_image_can_be_replaced(compose):
    for service in compose["services"].values():
        assert re.fullmatch(r"\$\{[A-Z0-9_]+:-[^}]+\}", service["image"])
