"""docker/compose.yaml: complete, hardened, without a secret; profiles and queues as documented."""

from __future__ import annotations

import re

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
        command = services[name]["command"]
        queues |= set(command[command.index("--queues") + 1].split(","))
    from include.stages.specs import STAGES

    assert queues == {spec.pool for spec in STAGES.values()} | {"default"}


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
