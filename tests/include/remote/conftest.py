"""A tiny campaign whose rows are ready to be upscaled, and copies of it to upscale in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from include.contracts.manifest import Manifest
from include.contracts.plan import CampaignPlan, ShardPlan
from include.contracts.stage import StageRequest, StageResult, UnitResult
from include.local_run import Run, events, run_stage
from include.planning import plan_campaign
from include.settings import PROJECT
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from tests.services.model_api import SECRET, TOKEN, ModelApi, model_api
from tests.support.tiny import make_tiny, tiny_environment

BEFORE_SWAP = (
    "ingest_template",
    "track_face",
    "measure_template",
    "analyse_face",
    "ingest_recipients",
    "measure_inputs",
)


@dataclass
class World:
    """A planned campaign in a store of its own."""

    plan: CampaignPlan
    store: str
    python: Path
    remotes: Path
    env: dict[str, str]

    @property
    def cache(self) -> ArtifactCache:
        return ArtifactCache(open_store(self.store), self.plan.tenant)

    @property
    def shard(self) -> ShardPlan:
        return ShardPlan.model_validate_json(self.cache.store.get(self.plan.shards[0].plan))

    def made(self, artifact: str) -> Manifest | None:
        return self.cache.lookup(artifact, self.shard.rows[0].key(artifact))

    def declare(self, **content: object) -> None:
        self.remotes.write_text(yaml.safe_dump(content))

    def offer(self, api: ModelApi, stage: str = "upscale", **model: object) -> None:
        """Declare one endpoint that offers the stage's built-in backend."""
        backend = {"upscale": "compact", "face_swap": "mesh"}[stage]
        models = [{"stage": stage, "backend": backend, "connect_s": 2, **model}]
        self.declare(endpoints=[{"name": "near", "url": api.url, "models": models}])

    def start(
        self, stage: str = "upscale", module: str = "include.remote", **more: object
    ) -> subprocess.Popen[str]:
        request = StageRequest(
            stage=stage,
            store=self.store,
            tenant=self.plan.tenant,
            plan=self.plan.shards[0].plan,
            units=tuple(row.id for row in self.shard.rows),
            run_id="test",
            result="acme/run/result.json",
            **more,
        )
        self.cache.store.put("acme/run/request.json", request.model_dump_json().encode())
        uri = f"{self.store}#acme/run/request.json"
        return subprocess.Popen(
            [str(self.python), "-m", module, stage, "--request", uri],
            cwd=PROJECT,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, stage: str = "upscale", **more: object) -> tuple[int, UnitResult, list]:
        """Run a stage at the declared endpoints: exit code, the row's result, events."""
        process = self.start(stage, **more)
        said, noise = process.communicate(timeout=300)
        assert self.cache.store.head("acme/run/result.json"), said + noise
        result = StageResult.model_validate_json(self.cache.store.get("acme/run/result.json"))
        return process.returncode, result.units[0], events(said)


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The campaign with everything but ``face_swap`` and what follows it."""
    root = tmp_path_factory.mktemp("remote")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in tiny_environment(root).items():
            patch.setenv(name, value)
        tiny = make_tiny(root)
        tiny.settings = replace(tiny.settings, worker_python=Path(sys.executable))
        tiny.brief["budget"] = {"currency": "USD", "limit": 1.0}
        plan = plan_campaign(str(tiny.write()), tiny.settings)
        run = Run()
        for name in BEFORE_SWAP:
            ref = plan.template if STAGES[name].scope == "template" else plan.shards[0]
            run_stage(STAGES[name], ref, tiny.settings, run, "test")
        assert set(run.exit_codes.values()) == {0}, run.said
        env = {**os.environ, "PYTHONPATH": str(PROJECT)}
        yield World(plan, plan.store, tiny.settings.worker_python, root / "none.yaml", env)


@pytest.fixture(scope="session")
def swapped(ready: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same with the face swapped, here."""
    world = copied(ready, tmp_path_factory.mktemp("swapped"))
    process = world.start("face_swap", "include.stages")
    assert process.wait(timeout=300) == 0, process.communicate()
    process.communicate()
    return world


def copied(world: World, root: Path) -> World:
    store = root / "store"
    shutil.copytree(world.store, store)
    env = {
        **world.env,
        "UNDERSTUDY_STORE": str(store),
        "UNDERSTUDY_REMOTE": str(root / "remotes.yaml"),
        "UNDERSTUDY_REMOTE_TOKEN": TOKEN,
        "UNDERSTUDY_REMOTE_WEBHOOK_SECRET": SECRET,
    }
    return World(world.plan, str(store), world.python, root / "remotes.yaml", env)


@pytest.fixture
def world(swapped: World, tmp_path: Path) -> World:
    return copied(swapped, tmp_path)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ModelApi]:
    with model_api(tmp_path / "api") as running:
        yield running


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    process.send_signal(number)
    process.communicate()
