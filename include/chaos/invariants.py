"""What must hold after every round, checked from outside: the store's bytes and Airflow's records.

Each check returns what it found wrong, in words; nothing found means that the promise held.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.chaos.campaign import units_of
from include.cli.demo import verify
from include.contracts.manifest import Manifest
from include.contracts.plan import CampaignPlan, UnitPlan
from include.report import report_prefix
from include.runs import run_prefix
from include.settings import Settings
from include.store import ObjectStore, open_store
from include.store.cache import ArtifactCache

FILES = {
    "thumbnail.jpg": ("compose", "thumbnail"),
    "captions.vtt": ("compose", "captions"),
    "video.mp4": ("sign", "video"),
}
"""What is published beside the report: artifact and output by name. Said here once more, on
purpose: a check from outside does not ask the code that it checks."""
RANDOM = frozenset({"sign", "publish"})
"""Artifacts that are not the same twice: a signature is random, a report has times."""
ATTEMPTS_PER_SUCCESS = 2.0
"""More task attempts for each task that succeeded would be a retry cascade."""


def digests(plan: CampaignPlan) -> dict[tuple[str, str], dict[str, str]]:
    """Digest of every output of every artifact that a plan's rows and template have, and verdicts.

    Returns:
        By artifact and key: digest by output.
    """
    store = open_store(plan.store)
    cache = ArtifactCache(store, plan.tenant)
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name, manifest in _manifests(cache, _units(plan)):
        outputs = {output: blob.sha256 for output, blob in manifest.outputs.items()}
        if "verdict" in manifest.facts:
            outputs["verdict"] = str(manifest.facts["verdict"])
        found[name, manifest.key] = outputs
    return found


def _units(plan: CampaignPlan) -> list[UnitPlan]:
    shards = units_of(plan)
    return [shards[0].template, *(row for shard in shards for row in shard.rows)]


def _manifests(cache: ArtifactCache, units: Iterable[UnitPlan]) -> Iterable[tuple[str, Manifest]]:
    for unit in units:
        for name, material in unit.materials.items():
            manifest = cache.lookup(name, material.key())
            if manifest is not None:
                yield name, manifest


def published_prefix(tenant: str, campaign: str, recipient: str) -> str:
    """Where a recipient's files are published."""
    return f"{tenant}/published/{campaign}/{recipient}"


def nobody_lost(plan: CampaignPlan, recipients: Iterable[str]) -> list[str]:
    """Everybody in the table is delivered."""
    store = open_store(plan.store)
    missing = [
        r
        for r in recipients
        if store.head(f"{published_prefix(plan.tenant, plan.campaign, r)}/video.mp4") is None
    ]
    return [f"{recipient} was never delivered" for recipient in missing]


def everybody_told(plan: CampaignPlan, run_id: str, recipients: Iterable[str]) -> list[str]:
    """A run's results.csv has a line for everybody, and a reason for who is missing."""
    store = open_store(plan.store)
    key = f"{report_prefix(plan.tenant, plan.campaign, run_id)}/results.csv"
    if store.head(key) is None:
        return [f"{run_id} wrote no report"]
    text = store.get(key).decode("utf-8-sig")
    lines = {line["recipient"]: line for line in csv.DictReader(io.StringIO(text))}
    wrong = [f"{run_id}: {r} is not in results.csv" for r in recipients if r not in lines]
    return wrong + [
        f"{run_id}: {name} is missing without a reason"
        for name, line in lines.items()
        if line["status"] != "delivered" and not (line["code"] and line["message"])
    ]


def same_outputs(
    made: Mapping[tuple[str, str], Mapping[str, str]],
    reference: Mapping[tuple[str, str], Mapping[str, str]],
) -> list[str]:
    """What was made has the digests that the undisturbed run's had, before signing."""
    wrong = []
    for (name, key), outputs in made.items():
        if name in RANDOM:
            continue
        expected = reference.get((name, key))
        if expected is None:
            wrong.append(f"{name} {key[:12]} was never made undisturbed: keys differ")
        elif dict(outputs) != dict(expected):
            differ = [o for o in outputs if outputs[o] != expected.get(o)]
            wrong.append(f"{name} {key[:12]} came out different: {', '.join(differ)}")
    return wrong


def whole_store(store: ObjectStore, tenant: str) -> list[str]:
    """Every blob has the bytes that its name says; nothing half-written can be seen."""
    wrong = []
    for info in store.list(f"{tenant}/"):
        if info.key.endswith(".part"):
            wrong.append(f"{info.key} is half a file")
        if info.key.startswith(f"{tenant}/blob/"):
            digest = hashlib.sha256()
            for chunk in store.chunks(info.key):
                digest.update(chunk)
            if digest.hexdigest() != info.key.rpartition("/")[2]:
                wrong.append(f"{info.key} holds other bytes")
    return wrong


def published_whole(plan: CampaignPlan, settings: Settings) -> list[str]:
    """What is published is complete, of one piece, and its signature verifies."""
    store = open_store(plan.store)
    cache = ArtifactCache(store, plan.tenant)
    wrong: list[str] = []
    expected = {"report.json", *FILES}
    for unit in _units(plan)[1:]:
        prefix = published_prefix(plan.tenant, plan.campaign, unit.id)
        there = {info.key[len(prefix) + 1 :] for info in store.list(f"{prefix}/")}
        if there - expected:
            wrong.append(f"{unit.id}: published besides: {', '.join(sorted(there - expected))}")
        if "video.mp4" not in there:
            continue
        if expected - there:
            wrong.append(f"{unit.id}: a video without {', '.join(sorted(expected - there))}")
            continue
        wrong += _of_one_piece(store, cache, unit, prefix)
        wrong += _verifies(store, unit.id, prefix, settings)
    return wrong


def _of_one_piece(
    store: ObjectStore, cache: ArtifactCache, unit: UnitPlan, prefix: str
) -> list[str]:
    """The published files are those of the manifests, and the report is about them."""
    wrong = []
    made: dict[str, Manifest | None] = {
        name: cache.lookup(name, unit.key(name)) for name in ("compose", "sign", "publish")
    }
    lost = [name for name, manifest in made.items() if manifest is None]
    if lost:
        return [f"{unit.id}: published, but {', '.join(lost)} does not exist"]
    for name, (artifact, output) in FILES.items():
        manifest = made[artifact]
        bytes_there = hashlib.sha256(store.get(f"{prefix}/{name}")).hexdigest()
        if manifest is None or bytes_there != manifest.outputs[output].sha256:
            wrong.append(f"{unit.id}: {name} is not what {artifact} made")
    video = json.loads(store.get(f"{prefix}/report.json"))["video"]
    signed, composed = made["sign"], made["compose"]
    if signed is None or video["sha256"] != signed.outputs["video"].sha256:
        wrong.append(f"{unit.id}: report.json is about another video")
    if composed is None or video["sha256_before_signing"] != composed.outputs["video"].sha256:
        wrong.append(f"{unit.id}: report.json is about another unsigned video")
    return wrong


def _verifies(store: ObjectStore, recipient: str, prefix: str, settings: Settings) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / recipient / "video.mp4"
        path.parent.mkdir()
        store.get_file(f"{prefix}/video.mp4", path)
        verdict = verify(path, settings)
    return [] if verdict.ok else [f"{recipient}: does not verify: {verdict.said}"]


@dataclass(frozen=True)
class Attempts:
    """How often work was tried."""

    tried: int
    """Attempts of tasks."""
    succeeded: int
    """Tasks that succeeded."""
    most: int
    """Attempts of the task that was tried most often."""
    stages: int
    """Stage processes that were asked for."""

    @property
    def per_success(self) -> float:
        """Attempts for each task that succeeded."""
        return self.tried / self.succeeded if self.succeeded else float(self.tried)


def count_attempts(
    tasks: Iterable[Mapping[str, Any]], plan: CampaignPlan | None, dag_id: str, run_id: str
) -> Attempts:
    """Count a run's attempts, by Airflow's records and by the requests in the store."""
    tries = [(int(t["try_number"] or 0), t["state"]) for t in tasks]
    stages = 0
    if plan is not None:
        store = open_store(plan.store)
        found = store.list(run_prefix(plan.tenant, dag_id, run_id) + "/")
        stages = sum(info.key.endswith(".request.json") for info in found)
    return Attempts(
        tried=sum(number for number, _ in tries),
        succeeded=sum(state == "success" for _, state in tries),
        most=max((number for number, _ in tries), default=0),
        stages=stages,
    )


def within_budget(
    tasks: Iterable[Mapping[str, Any]], *, scheduler_kills: int, limit: float = ATTEMPTS_PER_SUCCESS
) -> list[str]:
    """No task was tried more often than its retries allow, and all together not much more.

    Args:
        tasks: a run's task instances, as Airflow's API gives them.
        scheduler_kills: a scheduler that died gives a task one more try each time.
        limit: the most attempts for each task that succeeded.
    """
    tasks = list(tasks)
    wrong = [
        f"{t['task_id']}[{t['map_index']}] was tried {t['try_number']} times, its retries allow "
        f"{t['max_tries'] + 1}"
        for t in tasks
        if int(t["try_number"] or 0) > int(t["max_tries"]) + 1 + scheduler_kills
    ]
    done = [t for t in tasks if t["state"] == "success"]
    tried = sum(int(t["try_number"] or 0) for t in tasks)
    if done and tried / len(done) > limit:
        wrong.append(f"{tried} attempts for {len(done)} tasks that succeeded")
    return wrong
