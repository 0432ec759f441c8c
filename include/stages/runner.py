"""Runs one stage for the units of a request: cache, lease, work, manifest, result."""

from __future__ import annotations

import importlib
import resource
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from include.contracts.manifest import BackendRef, KeyMaterial, Manifest
from include.contracts.plan import TEMPLATE_UNIT, ShardPlan, UnitPlan
from include.contracts.stage import StageRequest, StageResult, UnitResult
from include.demand import demand
from include.errors import Bug, LeaseHeld, OutOfMemory, StoreUnavailable, UnderstudyError, Usage
from include.keys import BACKEND_OF, chunk_material
from include.settings import Settings
from include.stages.chunked import Part, make_chunk, run_chunked
from include.stages.context import (
    Cost,
    Events,
    Hold,
    Inputs,
    Output,
    Span,
    StageContext,
)
from include.stages.specs import STAGES, StageSpec
from include.store import ObjectMissing, open_object, open_store
from include.store.cache import ArtifactCache
from include.store.disk_errors import FULL
from include.store.lease import Lease
from include.store.waiting import WAITING, TimedStore
from include.verdict import lacks_detector
from models.registry import backend

Run = Callable[[StageContext, str], "Output | Hold"]
"""A stage's code: the context and the artifact's name to what was made."""
RunChunk = Callable[[StageContext, str, int], Output]
"""The same for one chunk only, by its number."""


@dataclass(frozen=True)
class _Cost:
    """Wall and processor seconds since a moment; children that ended are counted."""

    wall: float
    cpu: float
    io: float
    """Of the wall time, what was spent waiting for the store."""

    @classmethod
    def now(cls) -> _Cost:
        own = resource.getrusage(resource.RUSAGE_SELF)
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
        return cls(time.monotonic(), cpu, WAITING.seconds)

    def since(self) -> _Cost:
        now = _Cost.now()
        return _Cost(now.wall - self.wall, now.cpu - self.cpu, now.io - self.io)


def peak_mib() -> float:
    """Largest resident memory so far of this process or of one of its children, in MiB.

    Our own comes from the kernel's high-water mark: ``ru_maxrss`` would begin with the size of
    whoever started us.
    """
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return max(_high_water_kib(), child) / 1024


def _high_water_kib() -> int:
    try:
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1])
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def load_request(uri: str, stage: str) -> StageRequest:
    """Read a request.

    Args:
        uri: a file, ``s3://bucket/key``, or ``store-uri#object-key``.
        stage: the stage that it must be for.

    Raises:
        Usage: it is missing, malformed, or for another stage.
    """
    try:
        if "#" in uri:
            base, _, key = uri.partition("#")
            data = TimedStore(open_store(base)).get(key)
        else:
            store, key = open_object(uri)
            data = TimedStore(store).get(key)
        request = StageRequest.model_validate_json(data)
    except (ObjectMissing, Usage) as error:
        raise Usage(f"request {uri}: {error.message}", code="request.missing") from error
    except ValidationError as error:
        raise Usage(f"request {uri}: {error}", code="request.malformed") from error
    if request.stage != stage:
        raise Usage(f"request {uri} is for stage {request.stage}, not {stage}", code="request")
    return request


@dataclass(frozen=True)
class Elsewhere:
    """Code that has artifacts made on another machine instead of by the stage's own code."""

    whole: Run
    chunk: RunChunk
    at_once: int = 1
    """How many units to work on at a time."""


def run_stage(
    request: StageRequest, events: Events, elsewhere: Elsewhere | None = None
) -> StageResult:
    """Work through a request and write its result.

    Each unit fails or succeeds alone. An error is raised only when it decides the whole
    attempt: a template that cannot be used, or a row that a retry may save.

    Args:
        request: what to do.
        events: takes what is to be told.
        elsewhere: makes the artifacts, where that is not done here.

    Raises:
        UnderstudyError: its exit code tells the operator whether to retry.
    """
    spec = STAGES[request.stage]
    start = _Cost.now()
    cache = ArtifactCache(TimedStore(open_store(request.store)), request.tenant)
    shard = ShardPlan.model_validate_json(cache.store.get(request.plan))
    units = _units(shard, request)
    events.emit("start", total=len(units))
    rows = units if spec.scope == "row" else None
    settled = demand(cache, shard, spec, rows=rows, chunk=request.chunk)
    results = {result.id: result for result in settled.results}
    errors: list[UnderstudyError] = []
    with tempfile.TemporaryDirectory(prefix=f"understudy-{spec.name}-common-") as folder:
        common = Inputs(Path(folder))
        work = _Work(spec, shard, cache, request, events, common, elsewhere)
        with common.closing:
            made = _run_units(work, [unit for unit in units if unit.id in settled.to_make])
            for unit in units:
                if unit.id in settled.to_make:
                    results[unit.id], error = next(made)
                    errors += [error] if error else []
                events.emit("unit", unit=unit.id, data=results[unit.id].model_dump(mode="json"))
    cost = start.since()
    result = StageResult(
        stage=spec.name,
        plan=request.plan,
        run_id=request.run_id,
        chunk=request.chunk,
        units=tuple(results[unit.id] for unit in units),
        seconds=cost.wall,
        cpu_seconds=cost.cpu,
        io_seconds=cost.io,
        peak_mib=peak_mib(),
        remote=elsewhere is not None,
    )
    cache.store.put(request.result, result.model_dump_json().encode())
    _raise_what_decides(spec, errors, request)
    events.emit("result", data={"result": request.result})
    return result


def _run_units(
    work: _Work, units: list[UnitPlan]
) -> Iterator[tuple[UnitResult, UnderstudyError | None]]:
    """Each unit's result, in order."""
    at_once = work.elsewhere.at_once if work.elsewhere else 1
    if at_once == 1 or len(units) < 2:
        yield from (_run_unit(work, unit) for unit in units)
        return
    with ThreadPoolExecutor(min(at_once, len(units))) as pool:
        yield from pool.map(lambda unit: _run_unit(work, unit), units)


def _units(shard: ShardPlan, request: StageRequest) -> tuple[UnitPlan, ...]:
    try:
        return tuple(shard.unit(name) for name in request.units)
    except KeyError as error:
        raise Usage(f"the plan {request.plan} has no unit {error}", code="request.unit") from error


def _raise_what_decides(
    spec: StageSpec, errors: list[UnderstudyError], request: StageRequest
) -> None:
    if spec.scope == "template" and errors:
        raise errors[0]
    held = [error for error in errors if isinstance(error, LeaseHeld)]
    worth_it = [error for error in errors if error.retry and error not in held]
    if worth_it and not request.last_attempt:
        raise worth_it[0]
    if held and (request.may_wait or not request.last_attempt):
        raise held[0]


@dataclass(frozen=True)
class _Work:
    """What all units of a request share."""

    spec: StageSpec
    shard: ShardPlan
    cache: ArtifactCache
    request: StageRequest
    events: Events
    common: Inputs
    elsewhere: Elsewhere | None = None

    def context(self, unit: UnitPlan, scratch: Path) -> StageContext:
        """One unit's context."""
        return StageContext(
            spec=self.spec,
            shard=self.shard,
            unit=unit,
            cache=self.cache,
            scratch=scratch,
            settings=Settings.from_env().with_store(self.request.store),
            events=self.events,
            run_id=self.request.run_id,
            threads=self.request.threads,
            common=self.common,
        )


def _run_unit(work: _Work, unit: UnitPlan) -> tuple[UnitResult, UnderstudyError | None]:
    spec, events = work.spec, work.events
    start = _Cost.now()
    held: Hold | None = None
    try:
        for artifact in spec.artifacts:
            if work.request.chunk is not None:
                _make_one_chunk(work, artifact, unit)
                continue
            held = _make(work, artifact, unit) or held
    except UnderstudyError as error:
        failure = error
    except MemoryError:
        failure = OutOfMemory(f"{spec.name} ran out of memory on {unit.id}")
    except Exception as error:  # a bug in one row must not lose the others
        failure = from_the_system(error) or Bug(
            f"{spec.name} failed on {unit.id}: {type(error).__name__}: {error}"
        )
        events.emit("warning", unit=unit.id, message=traceback.format_exc())
    else:
        cost = start.since()
        return UnitResult(
            id=unit.id,
            status="held" if held else "made",
            key=unit.key(spec.artifacts[-1]),
            code=held.code if held else None,
            message=held.reason if held else None,
            seconds=round(cost.wall, 3),
            cpu_seconds=round(cost.cpu, 3),
            io_seconds=round(cost.io, 3),
        ), None
    message = failure.message
    if unit.id != TEMPLATE_UNIT and unit.id not in message:
        message = f"{unit.id}: {message}"
    events.emit("error", unit=unit.id, message=message, data={"code": failure.code})
    cost = start.since()
    return UnitResult(
        id=unit.id,
        status="failed",
        key=unit.key(spec.artifacts[-1]),
        code=failure.code,
        message=message,
        retry=failure.retry,
        seconds=round(cost.wall, 3),
        cpu_seconds=round(cost.cpu, 3),
        io_seconds=round(cost.io, 3),
    ), failure


def from_the_system(error: Exception) -> UnderstudyError | None:
    """What the system refused to any code, as the error that decides the retry; None for a bug."""
    if isinstance(error, OSError) and error.errno in FULL:
        return StoreUnavailable(
            f"no space for scratch files below {tempfile.gettempdir()} ({error}); free some space "
            "there or set TMPDIR to a larger disk; the run then resumes",
            code="disk.full",
        )
    return None


def _make(work: _Work, artifact: str, unit: UnitPlan) -> Hold | None:
    """Make one artifact under a lease, unless it exists."""
    spec, cache = work.spec, work.cache
    material = unit.materials[artifact]
    key = material.key()
    if _stands(work, cache.lookup(artifact, key)):
        return None
    check_current(spec, material)
    with (
        Lease.acquire(cache.store, cache.tenant, key),
        tempfile.TemporaryDirectory(prefix=f"understudy-{spec.name}-") as folder,
    ):
        before = cache.lookup(artifact, key)
        if _stands(work, before):  # made while we waited for the lease
            return None
        start = _Cost.now()
        context = work.context(unit, Path(folder))
        run = work.elsewhere.whole if work.elsewhere else run_code
        with context.closing:
            made = run(context, artifact)
            if isinstance(made, Hold):
                return made
            if before is not None:
                cache.quarantine(artifact, key)
            _publish(cache, material, made, start)
    return None


def _stands(work: _Work, found: Manifest | None) -> bool:
    """Whether an artifact exists and is all that can be made here.

    A verdict that was reached where the nudity detector is not installed is replaced once it is.
    """
    if found is None or not lacks_detector(found):
        return found is not None
    safety = importlib.import_module("include.stages.safety")
    settings = Settings.from_env().with_store(work.request.store)
    return not safety.shared_detector(work.common, settings).available()


def _publish(cache: ArtifactCache, material: KeyMaterial, made: Output, start: _Cost) -> Manifest:
    took = start.since()
    cost = made.cost or Cost(took.wall, took.cpu, peak_mib(), io_seconds=took.io)
    return cache.publish(
        material,
        made.files,
        dict(made.facts),
        seconds=round(cost.seconds, 3),
        cpu_seconds=round(cost.cpu_seconds, 3),
        io_seconds=round(cost.io_seconds, 3),
        peak_mib=round(cost.peak_mib, 1),
        remote=cost.remote,
    )


def run_code(ctx: StageContext, artifact: str) -> Output | Hold:
    """Run a stage's own code for one artifact, chunk by chunk where it works in chunks."""
    module = importlib.import_module(f"include.stages.{ctx.spec.name}")
    if ctx.spec.chunked:
        return run_chunked(module, ctx, artifact, _Publisher())
    run: Run = module.run
    return run(ctx, artifact)


class _Publisher:
    """Stores a chunk with what it cost since the one before."""

    def __init__(self) -> None:
        self._start = _Cost.now()

    def __call__(self, ctx: StageContext, artifact: str, span: Span, made: Output) -> Part:
        material = chunk_material(ctx.owner(artifact).materials[artifact], span.index)
        manifest = _publish(ctx.cache, material, made, self._start)
        self._start = _Cost.now()
        return Part(manifest.outputs, manifest.facts)


def _make_one_chunk(work: _Work, artifact: str, unit: UnitPlan) -> None:
    """Make the one chunk that a request asks for."""
    spec, request = work.spec, work.request
    material = unit.materials[artifact]
    if work.cache.lookup(artifact, material.key()):
        return
    check_current(spec, material)
    if work.elsewhere is not None:
        _make_chunk_elsewhere(work, work.elsewhere.chunk, artifact, unit)
        return
    module = importlib.import_module(f"include.stages.{spec.name}")
    with tempfile.TemporaryDirectory(prefix=f"understudy-{spec.name}-") as folder:
        context = work.context(unit, Path(folder))
        spans = module.spans(context)
        if request.chunk is None or request.chunk >= len(spans):
            raise Usage(f"{spec.name} has no chunk {request.chunk}", code="request.chunk")
        make_chunk(module, context, artifact, spans[request.chunk], _Publisher())


def _make_chunk_elsewhere(work: _Work, run: RunChunk, artifact: str, unit: UnitPlan) -> None:
    index = work.request.chunk or 0
    material = chunk_material(unit.materials[artifact], index)
    cache, key = work.cache, material.key()
    if cache.lookup(material.stage, key):
        return
    with (
        Lease.acquire(cache.store, cache.tenant, key),
        tempfile.TemporaryDirectory(prefix=f"understudy-{work.spec.name}-") as folder,
    ):
        if cache.lookup(material.stage, key) is None:
            start = _Cost.now()
            _publish(cache, material, run(work.context(unit, Path(folder)), artifact, index), start)


def check_current(spec: StageSpec, material: KeyMaterial) -> None:
    """Refuse a plan that other code or weights made: its key would promise what we cannot make.

    Raises:
        Usage: ``plan.outdated``.
    """
    named = material.backend
    here = None
    if named is not None:
        package = BACKEND_OF[material.stage]
        found = backend(package, named.name)
        here = BackendRef(
            name=found.name, version=found.version, weights_sha256=found.weights_sha256
        )
    if material.stage_version != spec.version or named != here:
        raise Usage(
            f"the plan was made for {spec.name} {material.stage_version} with {named}, but this "
            f"worker has {spec.version} with {here}; plan the campaign again",
            code="plan.outdated",
        )
