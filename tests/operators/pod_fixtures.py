"""Fixtures: pods as local processes behind the small Kubernetes API of ``tests.services``."""

from __future__ import annotations

import asyncio
import os
import subprocess
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from tests.services.kube_api import ImageMissing, KubeApi, kubeconfig

IMAGE = "understudy-worker:test"


class ProcessLauncher:
    """Runs a pod's command with a stand-in for the image's interpreter."""

    def __init__(self, python, scratch):
        self.python, self.scratch = python, scratch

    def __call__(self, pod, environment):
        if pod.container["image"] != IMAGE:
            raise ImageMissing(f"{pod.container['image']}: manifest unknown")
        interpreter, *command = [*pod.container["command"], *pod.container["args"]]
        assert interpreter == "python"
        return subprocess.Popen(
            [str(self.python), *command],
            env={"PATH": os.environ["PATH"], **environment, "TMPDIR": str(self.scratch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


class StateStore(dict):
    """Airflow's task state store, as far as the operator uses it."""

    def set(self, key, value, **_):
        self[key] = value


@pytest.fixture
def cluster(tmp_path, monkeypatch, worker):
    """A cluster that runs the stand-in worker; stages go there by one setting."""
    api = KubeApi(
        ProcessLauncher(tmp_path / "worker-python", tmp_path),
        config_maps={
            "understudy-worker": {},
            "understudy-consent-keys": {},
            "understudy-revoked": {"revoked.txt": ""},
        },
        secrets={"understudy-store": {"AWS_ACCESS_KEY_ID": "key"}, "understudy-signer": {}},
    )
    monkeypatch.setenv("UNDERSTUDY_RUNTIME", "kubernetes")
    monkeypatch.setenv("UNDERSTUDY_POD_IMAGE", IMAGE)
    monkeypatch.setenv("UNDERSTUDY_POD_DEFERRABLE", "0")
    with api.serve() as url:
        api.url = url
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(url, tmp_path / "kubeconfig")))
        yield api


@pytest.fixture
def deferrable(cluster, monkeypatch):
    """The same cluster for a task that leaves its worker."""
    monkeypatch.setenv("UNDERSTUDY_POD_DEFERRABLE", "1")
    return cluster


@pytest.fixture
def pod_context(context):
    """What the pod operator reads of Airflow's context on top of what ours does."""
    ti = context["ti"]
    ti.start_date = datetime.now(UTC)
    ti.xcom_push = lambda key, value: None
    dag = SimpleNamespace(dag_id=ti.dag_id, parent_dag=None)
    return {**context, "dag": dag, "task_state_store": StateStore()}


def run_trigger(deferred):
    """Wait for a deferred task's trigger, as the triggerer does; returns its event."""

    async def first():
        async for event in deferred.trigger.run():
            return event.payload

    return asyncio.run(first())
