"""The campaign of ``bench load``: short renders with a warm template, each a shard of its own.

Real renders are of a short template, compiled beforehand. Replayed ones (see ``faults``) need no
media at all: what their stages would make is made up here, as manifests that all name one blob.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks import fanout_campaign
from benchmarks.loadtest import faults
from benchmarks.simulation.network import Attempt
from include.cli.environments import ENVIRONMENTS
from include.contracts.manifest import BlobRef
from include.contracts.plan import CampaignPlan, ShardPlan, UnitPlan
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.settings import PROJECT, Settings
from include.stages.specs import MAKER
from include.store import open_store
from include.store.cache import ArtifactCache

SHORT = Shape(face_share=0.15, on_screen=0.5, size=(240, 180), seconds=0.8)
"""The template: 0.8 s, half of it with the face."""
LAST_OF_TEMPLATE = "classify_template"


@dataclass(frozen=True)
class Observed:
    """What a cell did."""

    attempts: list[Attempt]
    errors: list[str]
    """Of each attempt, the class of its error; ``NoneType`` for none."""
    lost: dict[int, str]
    wall: float
    load_1min: list[float]
    struck: dict[str, int]
    """Processes that were struck, by kind."""


@dataclass(frozen=True)
class Bench:
    """A store in which the template is compiled and no row is rendered."""

    home: Path
    settings: Settings
    plan: CampaignPlan

    replay: Mapping[str, Any] | None = None
    """See ``faults.install``."""

    @classmethod
    def real(cls, home: Path, settings: Settings, count: int) -> Bench:
        """Make a campaign of so many rows, one a shard, and compile its template.

        Raises:
            SystemExit: a row was rejected, or the template cannot be compiled.
        """
        settings = _settings(home, settings)
        brief = make_campaign(home / "campaign", settings, count, shape=SHORT, upscaler="lanczos")
        plan = _plan(brief, settings)
        alone = plan.model_copy(update={"shards": ()})
        run = run_campaign(alone, settings, run_id="prepare", until=LAST_OF_TEMPLATE)
        bad = {stage: run.said[stage, key] for (stage, key), c in run.exit_codes.items() if c}
        if bad:
            raise SystemExit(f"the template was not compiled: {bad}")
        return cls(home, settings, plan)

    @classmethod
    def replayed(
        cls,
        home: Path,
        settings: Settings,
        count: int,
        times: Mapping[str, Sequence[float]],
        factor: float,
    ) -> Bench:
        """Plan so many rows, one a shard, and make up what their stages would make.

        Args:
            home: the working folder.
            settings: what else is set.
            count: rows.
            times: seconds of each stage, any number of samples.
            factor: what these are multiplied with.
        """
        settings = _settings(home, settings)
        brief = fanout_campaign.make_campaign(home / "campaign", count, 1024, settings)
        plan = _plan(brief, settings)
        made = _make_up(home, plan)
        known = {stage: list(samples) for stage, samples in times.items()}
        replay = {"folder": str(made), "times": known, "factor": factor}
        return cls(home, settings, plan, replay)

    def run(
        self,
        arrivals: Sequence[float],
        *,
        probability: float = 0.0,
        kinds: Sequence[str] = faults.KINDS,
        seed: int = 0,
        usual: Mapping[str, float] | None = None,
    ) -> Observed:
        """Let renders arrive at an idle system with the store as it was prepared.

        Args:
            arrivals: seconds, ascending.
            probability: of a stage process to be struck.
            kinds: by what.
            seed: of the faults and of the delays' jitter.
            usual: seconds that each stage's process takes, which the time of a fault depends on.

        Raises:
            SystemExit: the cell's process failed.
        """
        folder = self.home / "cell"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        store = folder / "store"
        shutil.copytree(self.settings.store, store)
        worker = faults.install(
            folder,
            self.settings.worker_python,
            PROJECT,
            probability=probability,
            kinds=kinds,
            seed=seed,
            usual=usual or {},
            replay=self.replay,
        )
        shards = [
            ref.model_copy(update={"store": str(store)}).model_dump(mode="json")
            for ref in self.plan.shards[: len(arrivals)]
        ]
        slots = {"cpu": self.settings.slots, "io": self.settings.slots}
        spec = {"shards": shards, "arrivals": list(arrivals), "slots": slots, "seed": seed}
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        found = self._run(folder, worker)
        struck = _struck(folder / "struck.jsonl")
        shutil.rmtree(folder)
        return observed(found, struck)

    def _run(self, folder: Path, worker: Path) -> dict[str, Any]:
        python = str(ENVIRONMENTS["airflow"].python)
        out = folder / "found.json"
        env = {
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "UNDERSTUDY_STORE": str(folder / "store"),
            "UNDERSTUDY_STATE": str(self.settings.state),
            "UNDERSTUDY_WORKER_PYTHON": str(worker),
            "UNDERSTUDY_NUDITY_PYTHON": str(self.settings.nudity_python),
            "UNDERSTUDY_THREADS": "1",
        }
        command = [python, "-m", "benchmarks.loadtest.cell", str(folder / "spec.json"), str(out)]
        done = subprocess.run(
            command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False
        )
        if done.returncode or not out.exists():
            raise SystemExit(f"a cell failed:\n{(done.stdout + done.stderr)[-3000:]}")
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def _settings(home: Path, settings: Settings) -> Settings:
    """Settings of a bench, put into our environment too, for the processes we start."""
    roots = (*settings.roots, home)
    os.environ["UNDERSTUDY_ROOTS"] = os.pathsep.join(map(str, roots))
    store = str(home / "store")
    return replace(settings, store=store, roots=roots, shard_size=1, threads=1, chunk_s=0.0)


def _plan(brief: Path, settings: Settings) -> CampaignPlan:
    plan = plan_campaign(str(brief), settings)
    if plan.rejects:
        raise SystemExit(f"a row was rejected: {plan.rejects[0].message}")
    return plan


def _make_up(home: Path, plan: CampaignPlan) -> Path:
    """Put the template's manifests into the store and the rows' beside it, by row and stage."""
    store = open_store(plan.store)
    cache = ArtifactCache(store, plan.tenant)
    file = home / "made-up"
    file.write_bytes(b"made up")
    folder, blob = home / "manifests", None
    template = ShardPlan.model_validate_json(store.get(plan.template.plan)).template
    rows = (ShardPlan.model_validate_json(store.get(ref.plan)).rows[0] for ref in plan.shards)
    for unit in (template, *rows):
        for artifact in unit.materials:
            blob = _made_up(cache, unit, artifact, blob or (file, "application/octet-stream"))
            if unit is template:
                continue
            key = cache.manifest_key(artifact, unit.key(artifact))
            own = folder / unit.id / MAKER[artifact].name
            own.mkdir(parents=True, exist_ok=True)
            (own / key.replace("/", "%")).write_bytes(store.get(key))
            store.delete(key)
    return folder


def _made_up(
    cache: ArtifactCache, unit: UnitPlan, artifact: str, file: tuple[Path, str] | BlobRef
) -> BlobRef:
    manifest = cache.publish(unit.materials[artifact], {"out": file}, {})
    return manifest.outputs["out"]


def _struck(log: Path) -> Counter[str]:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return Counter(str(json.loads(line)["kind"]) for line in lines)


def observed(found: Mapping[str, Any], struck: Mapping[str, int]) -> Observed:
    """Take in what a cell's process wrote."""
    notes = [dict(note) for note in found["attempts"]]
    errors = [str(note.pop("error")) for note in notes]
    return Observed(
        attempts=[Attempt(**note) for note in notes],
        errors=errors,
        lost={int(render): why for render, why in found["lost"].items()},
        wall=found["wall"],
        load_1min=found["load_1min"],
        struck=dict(struck),
    )
