"""A campaign through KubernetesPodOperator: real containers, real S3. Not Kubernetes.

The API server is ``tests/services/kube_api.py``; the store is Ceph's RADOS Gateway.
"""

from __future__ import annotations

import os
import subprocess
import threading

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization

from include.cli.environments import ENVIRONMENTS
from include.provenance.pki import development_identity
from include.provenance.verify import verify_video
from include.settings import PROJECT
from include.stages.specs import STAGES
from include.store.s3 import S3Store
from tests.services.ceph_rgw import ceph_rgw
from tests.support.tiny import make_tiny

pytestmark = [pytest.mark.worker, pytest.mark.slow, pytest.mark.containers]

BUCKET = "campaign"


@pytest.fixture(scope="module")
def s3():
    """A bucket on a real server, and how to get to it."""
    with ceph_rgw() as endpoint, pytest.MonkeyPatch.context() as env:
        credentials = {
            "AWS_ACCESS_KEY_ID": endpoint.access_key,
            "AWS_SECRET_ACCESS_KEY": endpoint.secret_key,
        }
        for name, value in credentials.items():
            env.setenv(name, value)
        uri = f"s3://{BUCKET}/ads?endpoint={endpoint.url}"
        S3Store(uri).client.create_bucket(Bucket=BUCKET)
        yield uri, credentials


def give_secrets(api, state, credentials):
    """Put the development signer and the tenant's public consent key where pods look for them."""
    identity = development_identity(state=state)
    key = identity.key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    api.secrets["understudy-store"] = credentials
    api.secrets["understudy-signer"] = {
        "chain.pem": identity.chain_pem,
        "key.pem": key.decode(),
        "anchors.pem": identity.anchors_pem,
    }
    [public] = (state / "consent" / "acme" / "public").glob("*.pem")
    api.config_maps["understudy-consent-keys"] = {f"acme.{public.name}": public.read_text()}


def render(brief, out, environment):
    """``./understudy render`` with these settings."""
    command = [str(ENVIRONMENTS["airflow"].python), "-m", "include.cli.render"]
    return subprocess.run(
        [*command, str(brief), "--out", str(out)],
        cwd=PROJECT,
        env={**os.environ, **environment},
        check=False,
        capture_output=True,
        text=True,
    )


def stage_of(pod):
    return pod.manifest["metadata"]["labels"]["understudy/stage"]


def evict_first(api, stage):
    """Evict the first pod of a stage once it has begun to work."""

    def on_create(pod):
        if stage_of(pod) == stage:
            api.on_create = None

            def later():
                pod.wait_for_line('"start"')
                api.evict(pod)

            threading.Thread(target=later, daemon=True).start()

    api.on_create = on_create


def test_a_campaign_is_delivered_by_pods_though_one_of_them_is_evicted(cluster, s3, tmp_path):
    uri, credentials = s3
    tiny = make_tiny(tmp_path)
    tiny.add("noise", np.random.default_rng(1).integers(0, 255, (400, 400, 3), np.uint8))
    brief = tiny.write()
    state = tiny.settings.state
    give_secrets(cluster.api, state, credentials)
    environment = {
        **cluster.environment,
        "UNDERSTUDY_STORE": uri,
        "UNDERSTUDY_STATE": str(state),
        "UNDERSTUDY_ROOTS": str(tmp_path),
    }
    evict_first(cluster.api, "face_swap")

    done = render(brief, tmp_path / "out", environment)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 2 rows delivered" in done.stdout
    assert (tmp_path / "out/eve/video.mp4").stat().st_size > 10_000
    stages = [stage_of(pod) for pod in cluster.api.created]
    assert sorted(set(stages)) == sorted(STAGES)
    twice = {"ingest_recipients": 2, "face_swap": 2}  # two rows; one pod evicted
    assert {name: n for name in STAGES if (n := stages.count(name)) != 1} == twice
    assert not cluster.api.pods, "pods are deleted"
    anchors = cluster.api.secrets["understudy-signer"]["anchors.pem"]
    assert verify_video(tmp_path / "out/eve/video.mp4", anchors).holds
