"""A campaign through Airflow whose faces and pixels are made by a model API, over S3 and HTTP."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from include.cli.environments import ENVIRONMENTS
from include.contracts.manifest import Manifest
from include.contracts.plan import ShardPlan
from include.features.collect import row_manifests
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.provenance.pki import development_identity
from include.provenance.verify import verify_video
from include.settings import PROJECT
from include.store import open_store
from include.store.cache import ArtifactCache
from include.store.s3 import S3Store
from tests.services.ceph_rgw import Endpoint, ceph_rgw
from tests.services.model_api import TOKEN, ModelApi, model_api
from tests.services.moto_s3 import moto_s3
from tests.support.tiny import Tiny, make_tiny

pytestmark = [pytest.mark.worker, pytest.mark.slow]

SYSTEM_TESTS = os.environ.get("UNDERSTUDY_SYSTEM_TESTS") == "1"
CALL = 0.01
"""Price of a call."""


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch):
    """A bucket; on a real server where it may be installed."""
    with ceph_rgw() if SYSTEM_TESTS else moto_s3() as endpoint:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", endpoint.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", endpoint.secret_key)
        client = S3Store(f"s3://campaign?endpoint={endpoint.url}").client
        client.create_bucket(Bucket="campaign")
        yield endpoint


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    made = make_tiny(tmp_path)
    made.brief["budget"] = {"currency": "USD", "limit": 1}
    made.write()
    return made


def declared(folder: Path, api: ModelApi) -> dict[str, str]:
    """The settings that send swaps and upscaling to an API."""
    price = {"per_call": CALL, "currency": "USD"}
    models = [
        {"stage": "face_swap", "backend": "mesh", **price},
        {"stage": "upscale", "backend": "compact", **price},
    ]
    path = folder / "remotes.yaml"
    endpoint = {"name": "near", "url": api.url, "models": models}
    path.write_text(yaml.safe_dump({"endpoints": [endpoint]}))
    return {
        "UNDERSTUDY_RUNTIME": "remote",
        "UNDERSTUDY_REMOTE": str(path),
        "UNDERSTUDY_REMOTE_TOKEN": TOKEN,
    }


def render(tiny: Tiny, out: Path, store: str, more: dict[str, str]) -> str:
    """``./understudy render``; returns what it prints."""
    environment = {
        **os.environ,
        "UNDERSTUDY_STORE": store,
        "UNDERSTUDY_STATE": str(tiny.settings.state),
        "UNDERSTUDY_ROOTS": str(tiny.root),
        **more,
    }
    command = [str(ENVIRONMENTS["airflow"].python), "-m", "include.cli.render"]
    done = subprocess.run(
        [*command, str(tiny.path), "--out", str(out)],
        cwd=PROJECT, env=environment, check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_at_home(tiny: Tiny, tmp_path: Path) -> dict[str, Manifest]:
    """The row's artifacts, made by processes of our own in another store."""
    settings = tiny.settings.with_store(str(tmp_path / "store"))
    plan = plan_campaign(str(tiny.path), settings)
    run_campaign(plan, settings, until="compose")
    store = open_store(settings.store)
    shard = ShardPlan.model_validate_json(store.get(plan.shards[0].plan))
    made = row_manifests(ArtifactCache(store, plan.tenant), shard.rows[0])
    return {name: parts[0] for name, parts in made.items()}


def test_a_model_api_gives_the_videos_that_own_processes_give_and_each_call_is_paid_once(
    tiny: Tiny, s3: Endpoint, tmp_path: Path
) -> None:
    store = f"s3://campaign/away?endpoint={s3.url}"
    # The server takes no uploads: it has to fetch its inputs by their signed addresses.
    options = ("--slots", "2", "--max-bytes", "0", "--fetch-from", s3.url)
    with model_api(tmp_path / "api", *options, "--price-per-call", str(CALL)) as api:
        settings = declared(tmp_path, api)
        render(tiny, tmp_path / "away", store, settings)
        jobs = api.counts()
        again = render(tiny, tmp_path / "again", store, settings)
        assert "no stage process was started" in again
        assert api.counts() == jobs
    away = json.loads((tmp_path / "away/eve/report.json").read_text())
    own = run_at_home(tiny, tmp_path)
    for stage in ("face_swap", "upscale"):
        assert away["stages"][stage]["remote"]["price"] == CALL
        assert own[stage].remote is None
        assert away["stages"][stage]["key"] == own[stage].key
    composed = own["compose"].outputs["video"].sha256
    assert away["video"]["sha256_before_signing"] == composed, "the same bytes, wherever made"
    anchors = development_identity(state=tiny.settings.state).anchors_pem
    assert verify_video(tmp_path / "away/eve/video.mp4", anchors).holds
