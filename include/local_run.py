"""Runs a plan's stages one after the other, without a task for each.

For golden sets, for media that are only measured, for benchmarks and tests: no retries, no reviews,
no pools. Each stage is a process of its own, or whatever ``Run.start`` makes of it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from include.contracts.plan import CampaignPlan, ShardRef
from include.contracts.stage import StageRequest, StageResult, StageResultRef, UnitResult
from include.demand import demand
from include.errors import Bug, error_for_exit
from include.remote.fallback import parts
from include.settings import ALLOCATOR, PROJECT, Settings
from include.stages.specs import STAGES, StageSpec, template_stages_of
from include.store import open_store
from include.store.cache import ArtifactCache

Start = Callable[[StageSpec, str], tuple[int, str]]
"""Runs a stage to its end: takes it and where its request lies (``store-uri#object-key``), returns
the exit code and what was said."""


@dataclass
class Run:
    """What the stages of one run said."""

    start: Start | None = None
    """Where stages run; None for processes on this machine."""
    results: dict[tuple[str, str], StageResult] = field(default_factory=dict)
    refs: list[StageResultRef] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    """Names of the stages that a process was started for."""
    exit_codes: dict[tuple[str, str], int] = field(default_factory=dict)
    said: dict[tuple[str, str], str] = field(default_factory=dict)

    def unit(self, stage: str, unit: str) -> UnitResult:
        """A unit's result in a stage. KeyError when the stage did not get to it."""
        for (name, _), result in self.results.items():
            for found in result.units:
                if name == stage and found.id == unit:
                    return found
        raise KeyError((stage, unit))


def stage_env() -> dict[str, str]:
    """What a stage process is given: our environment, few heaps, the project on its path."""
    return {**os.environ, **ALLOCATOR, "PYTHONPATH": str(PROJECT)}


def run_campaign(
    plan: CampaignPlan,
    settings: Settings,
    *,
    run_id: str = "test",
    until: str | None = None,
    threads: int = 1,
    start: Start | None = None,
) -> Run:
    """Run every stage of a plan, in the order of the flow."""
    run = Run(start)
    for spec in STAGES.values():
        shards = [plan.template] if spec.scope == "template" else list(plan.shards)
        for ref in shards:
            run_stage(spec, ref, settings, run, run_id, threads)
        if spec.name == until:
            break
    return run


def run_stage(
    spec: StageSpec,
    ref: ShardRef,
    settings: Settings,
    run: Run,
    run_id: str,
    threads: int = 1,
) -> None:
    """Run one stage for one shard, for the variants of a template and for rows that fell.

    No process is started where there is no work to do.

    Raises:
        UnderstudyError: as its exit code says, when a stage left no result.
    """
    store = open_store(settings.store)
    own, *fallen = parts(store, ref)
    shard = own.shard
    rows = [row for row in shard.rows if row.id not in own.planned]
    wanted = demand(ArtifactCache(store, ref.tenant), shard, spec, rows=tuple(rows))
    folder = f"{ref.tenant}/result/{run_id}/{spec.name}/{Path(ref.plan).stem}"
    where, asked = f"{folder}/001.result.json", f"{folder}/001.request.json"
    if wanted.to_make:
        request = StageRequest(
            stage=spec.name,
            store=settings.store,
            tenant=ref.tenant,
            plan=ref.plan,
            units=wanted.to_make,
            run_id=run_id,
            result=where,
            threads=threads,
        )
        store.put(asked, request.model_dump_json().encode())
        store.delete(where)  # an earlier try's says nothing of this one
        start = run.start or _process(settings)
        code, said = start(spec, f"{settings.store}#{asked}")
        run.processes.append(spec.name)
        run.exit_codes[spec.name, ref.plan] = code
        run.said[spec.name, ref.plan] = said
        if store.head(where) is None:
            message = f"{spec.name} ended with {code} and wrote no result: {said}"
            raise error_for_exit(code, message) if code else Bug(message)
        result = StageResult.model_validate_json(store.get(where))
        result = result.model_copy(update={"units": (*result.units, *wanted.results)})
    else:
        result = StageResult(
            stage=spec.name,
            plan=ref.plan,
            run_id=run_id,
            units=wanted.results,
            started_process=False,
        )
    store.put(where, result.model_dump_json().encode())
    run.results[spec.name, ref.plan] = result
    run.refs.append(_ref(result, where))
    for variant in shard.variants:
        run_stage(spec, variant, settings, run, run_id, threads)
    for part in fallen if spec.scope == "row" else ():
        for needed in (*template_stages_of(spec), spec):
            run_stage(needed, part.ref, settings, run, run_id, threads)


def _process(settings: Settings) -> Start:
    """Stages as processes in the worker's environment."""

    def start(spec: StageSpec, request_uri: str) -> tuple[int, str]:
        command = [str(settings.worker_python), "-m", "include.stages", spec.name]
        done = subprocess.run(
            [*command, "--request", request_uri],
            capture_output=True,
            text=True,
            env=stage_env(),
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return start


def _ref(result: StageResult, where: str) -> StageResultRef:
    count = {status: 0 for status in ("made", "hit", "failed", "skipped", "held")}
    for unit in result.units:
        count[unit.status] += 1
    failed = count["failed"] + count["skipped"]
    return StageResultRef(
        stage=result.stage,
        result=where,
        made=count["made"],
        hit=count["hit"],
        failed=failed,
        held=count["held"],
    )


def events(said: str) -> list[dict[str, object]]:
    """The JSON events in a stage's output."""
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]
