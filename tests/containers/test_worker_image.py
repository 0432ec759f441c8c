"""The worker's image and the class templates, as a container really gets them."""

from __future__ import annotations

import copy
import json

import pytest
import yaml

from include import errors
from include.settings import PROJECT
from operators.runtimes.pod_failures import failure_of
from tests.services.podman import podman

pytestmark = [pytest.mark.worker, pytest.mark.slow, pytest.mark.containers]

LOOK = """
import json, os
from pathlib import Path
status = dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())
def writable(path):
    try:
        Path(path, "probe").write_text("x")
    except OSError:
        return False
    return True
secret = Path("/etc/understudy/signer/key.pem")
print(json.dumps({
    "uid": os.getuid(), "gid": os.getgid(),
    "capabilities": [status["CapEff"], status["CapBnd"]],
    "no_new_privileges": status["NoNewPrivs"],
    "writable": [p for p in ("/", "/opt/understudy", "/tmp", "/scratch") if writable(p)],
    "secret": secret.read_text() if secret.exists() else None,
    "secret_writable": writable(secret.parent),
    "compiled": len(list(Path("/opt/understudy").rglob("*.pyc"))),
    "sources": len(list(Path("/opt/understudy").rglob("*.py"))),
}))
"""


def pod_of(cluster, pod_class, name, command, memory="512Mi"):
    """A pod of a class, with a command of ours."""
    template = yaml.safe_load((PROJECT / f"docker/kubernetes/pods/{pod_class}.yaml").read_text())
    pod = copy.deepcopy(template)
    pod["metadata"] |= {"name": name, "namespace": "understudy-stages"}
    [container] = pod["spec"]["containers"]
    container |= {"image": cluster.environment["UNDERSTUDY_POD_IMAGE"], "args": []}
    container |= {"command": command, "resources": {"limits": {"memory": memory}}}
    container.setdefault("volumeMounts", []).append({"name": "scratch", "mountPath": "/scratch"})
    pod["spec"].setdefault("volumes", []).append({"name": "scratch", "emptyDir": {}})
    return pod


def ended(pod, seconds=120):
    """Wait for a pod's end; what it said."""
    with pod.news:
        assert pod.news.wait_for(lambda: pod.exit_code is not None, seconds)
    return "\n".join(line for _, line in pod.lines)


def test_a_signing_pod_can_write_to_its_scratch_only_and_has_no_rights(cluster):
    cluster.api.secrets["understudy-signer"] = {"key.pem": "the key"}
    pod = cluster.api.create(pod_of(cluster, "io", "look", ["python", "-c", LOOK]))
    seen = json.loads(ended(pod))
    assert (seen["uid"], seen["gid"]) == (10001, 10001)
    assert seen["capabilities"] == ["0000000000000000"] * 2
    assert seen["no_new_privileges"] == "1"
    assert seen["writable"] == ["/scratch"]
    assert (seen["secret"], seen["secret_writable"]) == ("the key", False)
    assert seen["compiled"] >= seen["sources"]


def test_the_self_test_passes_in_a_read_only_container(cluster):
    command = ["python", "-m", "include.stages", "--self-test"]
    pod = cluster.api.create(pod_of(cluster, "cpu", "self-test", command, memory="2048Mi"))
    said = ended(pod)
    assert pod.exit_code == 0, said


def test_a_container_over_its_memory_limit_is_out_of_memory(cluster):
    fill = "x = [bytearray(1 << 20) for _ in range(4096)]"
    pod = cluster.api.create(pod_of(cluster, "cpu", "fill", ["python", "-c", fill], memory="100Mi"))
    ended(pod)
    failure = failure_of(pod.shown())
    assert (failure.error, failure.code) == (errors.OutOfMemory, "pod.oom")


def test_an_image_that_is_nowhere_is_a_usage_error(cluster):
    wrong = pod_of(cluster, "cpu", "nowhere", ["python"])
    wrong["spec"]["containers"][0]["image"] = "localhost/nowhere:1"
    failure = failure_of(cluster.api.create(wrong).shown())
    assert (failure.error, failure.code) == (errors.Misconfigured, "pod.image")


def test_a_pod_that_is_deleted_is_asked_to_end_first(cluster):
    wait = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('asked', flush=True), sys.exit(143)))\n"
        "print('working', flush=True)\n"
        "time.sleep(100)"
    )
    pod = cluster.api.create(pod_of(cluster, "cpu", "wait", ["python", "-c", wait]))
    pod.wait_for_line("working")
    cluster.api.delete(pod)
    assert ended(pod).splitlines() == ["working", "asked"]
    assert pod.exit_code == 143


def test_the_image_says_what_it_is_and_who_it_runs_as(worker_image):
    [found] = json.loads(podman("image", "inspect", worker_image).stdout)
    config = found["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "-m", "include.stages"]
    assert config["Labels"]["org.opencontainers.image.title"] == "Understudy stage worker"
    assert not [v for v in config["Env"] if "SECRET" in v or "PASSWORD" in v or "INDEX" in v]
