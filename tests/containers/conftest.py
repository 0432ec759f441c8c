"""Containers from the worker's image, pods made of them, and a real S3 server."""

from __future__ import annotations

import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from include.cli.environments import ENVIRONMENTS
from include.settings import PROJECT
from tests.services.kube_api import KubeApi, kubeconfig
from tests.services.pod_containers import PodmanLauncher
from tests.services.podman import build

SYSTEM_TESTS = os.environ.get("UNDERSTUDY_SYSTEM_TESTS") == "1"
IMAGE = "localhost/understudy-worker:test"

FULL_IMAGES = os.environ.get("UNDERSTUDY_FULL_IMAGES") == "1"
OF_FULL_IMAGES = ("test_full_images.py", "test_compose_up.py")


def pytest_collection_modifyitems(config, items):
    """Only where servers and containers may be installed; there nothing is skipped.

    Tests of whole images are imported like all, or they would rot, and left out unless asked for.
    """
    here = Path(__file__).parent
    if not FULL_IMAGES:
        left_out = [i for i in items if i.path.parent == here and i.path.name in OF_FULL_IMAGES]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    why = pytest.mark.skip(reason="installs podman and Ceph: set UNDERSTUDY_SYSTEM_TESTS=1")
    for item in items:
        if here in item.path.parents and not SYSTEM_TESTS:
            item.add_marker(why)


@pytest.fixture(scope="session")
def worker_image():
    """The image of docker/worker up to its packages, which ``mounts`` brings: see docker/README."""
    return build(IMAGE, "docker/worker/Dockerfile", "--target", "code")


def mounts():
    """The locked packages of this machine's environments, where the image has its own."""
    nudity = ENVIRONMENTS["nudity"].path / "lib/python3.11/site-packages"
    return [
        (sysconfig.get_paths()["purelib"], "/opt/worker/lib/python3.11/site-packages"),
        (str(nudity), "/opt/nudity/lib/python3.11/site-packages"),
    ]


@dataclass
class Cluster:
    """The small API with its settings."""

    api: KubeApi
    environment: dict[str, str]


@pytest.fixture
def cluster(worker_image, tmp_path):
    """Pods as containers; configuration as docker/kubernetes has it, secrets still to be filled."""
    launcher = PodmanLauncher(tmp_path / "volumes", mounts())
    config_maps = {"understudy-revoked": {"revoked.txt": ""}}
    for part in yaml.safe_load_all((PROJECT / "docker/kubernetes/configuration.yaml").read_text()):
        config_maps[part["metadata"]["name"]] = part["data"]
    api = KubeApi(launcher, config_maps=config_maps, secrets={"understudy-store": {}})
    launcher.api = api
    with api.serve() as url:
        config = kubeconfig(url, tmp_path / "kubeconfig")
        environment = {
            "UNDERSTUDY_RUNTIME": "kubernetes",
            "UNDERSTUDY_POD_IMAGE": worker_image,
            "KUBECONFIG": str(config),
        }
        yield Cluster(api, environment)
