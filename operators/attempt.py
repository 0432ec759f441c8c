"""One try of a stage's task: ask the cache, start a process only for what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from include.contracts.plan import ShardPlan, ShardRef
from include.contracts.stage import StageRequest, StageResult, UnitResult
from include.demand import Demand, demand
from include.errors import Bug, LeaseHeld, UnderstudyError, error_for_exit
from include.remote.config import load_remotes
from include.remote.fallback import Part, can_fall, exhausted, fall, parts
from include.runs import result_ref, run_prefix
from include.stages.specs import StageSpec, template_stages_of
from include.store import ObjectStore, open_store
from include.store.cache import ArtifactCache
from operators.config import task_settings
from operators.events import EventLog
from operators.runtimes import NoopRuntime, Runtime
from operators.runtimes.choose import choose_runtime
from operators.runtimes.pod_records import settled_by_pods
from operators.waiting import may_wait

if TYPE_CHECKING:
    from airflow.sdk import Context


@dataclass(frozen=True)
class Piece:
    """What one request is about."""

    spec: StageSpec
    ref: ShardRef
    shard: ShardPlan
    units: list[str] | None = None
    """Only these; None for all."""


class Attempt:
    """One try: the shard itself, rows of it that fell to another backend, the template's variants.

    Args:
        spec: the stage.
        shard: see ``operators.stage.StageOperator``.
        context: the task's.
        log: the task's.
        by_chunk: make only one chunk of each artifact.
        runtime: where to run the stage, instead of where ``UNDERSTUDY_RUNTIME`` says.
        resumed: what a trigger said, with the ``request`` that was worked on, when a runtime had
            left the task. What this try has settled by then is not done again.
    """

    def __init__(
        self,
        spec: StageSpec,
        shard: Mapping[str, Any],
        context: Context,
        log: Any,
        *,
        by_chunk: bool = False,
        runtime: str | None = None,
        resumed: Mapping[str, Any] | None = None,
    ) -> None:
        self._spec = spec
        self._ref, self._units = _shard_ref(shard)
        self._chunk = int(shard["chunk"]) if by_chunk else None
        self._context = context
        self._ti = context["ti"]
        self._log = log
        self._runtime = runtime
        self._resumed = resumed
        self._store: ObjectStore = open_store(self._ref.store)
        self._settings = task_settings(store=self._ref.store)
        self._running: Runtime | None = None

    def run(self) -> dict[str, Any]:
        """Make what is missing.

        Returns:
            A ``StageResultRef`` as plain data.

        Raises:
            LeaseHeld: another run makes it now.
            UnderstudyError: as the stage's exit code says.
        """
        own, *fallen = parts(self._store, self._ref)
        piece = Piece(self._spec, self._ref, own.shard, own.wanted(self._units))
        result = self._work(piece)
        self._let_fall(piece, result)
        worked: set[str] = set()
        while fallen := [p for p in parts(self._store, self._ref)[1:] if p.ref.plan not in worked]:
            if self._chunk is not None:  # whoever makes the whole makes what fell
                break
            for part in fallen:
                worked.add(part.ref.plan)
                self._work_fallen(part)
        for variant in own.shard.variants:
            self._try_variant(variant)
        return result_ref(result, self._key(piece, "result")).model_dump(mode="json")

    def kill(self) -> None:
        """Stop the stage with everything it started."""
        if self._running is not None:
            self._running.kill()

    def _work_fallen(self, part: Part) -> None:
        """Rows that are made with something else; first what their template lacks for it."""
        why = part.fall and part.fall.reason
        self._log.warning("%s: %s (%s)", self._spec.name, part.ref.label, why)
        wanted = part.wanted(self._units)
        if wanted == []:
            return
        with self._alone("rows that fell"):
            for spec in template_stages_of(self._spec):
                self._work(Piece(spec, part.ref, part.shard))
            piece = Piece(self._spec, part.ref, part.shard, wanted)
            self._let_fall(piece, self._work(piece))

    def _try_variant(self, ref: ShardRef) -> None:
        """Make a variant of the template; the rows that need it fail alone when it cannot be."""
        shard = ShardPlan.model_validate_json(self._store.get(ref.plan))
        with self._alone("rows that try another backend"):
            self._work(Piece(self._spec, ref, shard))

    @contextlib.contextmanager
    def _alone(self, rows: str) -> Iterator[None]:
        """What fails in here for good is no other row's concern."""
        try:
            yield
        except UnderstudyError as error:
            waits = isinstance(error, LeaseHeld) and self._may_wait
            if waits or (error.retry and self._ti.try_number <= self._ti.max_tries):
                raise
            self._log.error("%s: %s are lost: %s", self._spec.name, rows, error)

    def _let_fall(self, piece: Piece, result: StageResult) -> None:
        """Let rows that a model API did not make fall to the next step of their chain."""
        failed = [unit for unit in result.units if can_fall(unit)]
        if not failed or self._chunk is not None:
            return
        name, remotes = self._spec.name, load_remotes()
        lost: dict[str, UnitResult] = {}
        for unit in failed:
            step = fall(self._store, self._ref, name, unit, remotes)
            if step is None:
                lost[unit.id] = exhausted(self._store, self._ref, name, unit)
            else:
                self._log.warning("%s: %s: %s", unit.id, step.said, step.reason)
        if lost:
            units = tuple(lost.get(unit.id, unit) for unit in result.units)
            self._put(piece, "result", result.model_copy(update={"units": units}))

    def _work(self, piece: Piece) -> StageResult:
        """One request, or none where nothing is missing."""
        uri = self._uri(piece)
        goes_on = self._resumed is not None and self._resumed["request"] == uri
        if self._resumed is not None and not goes_on:
            settled = settled_by_pods(self._store, uri)
            if settled is not None:
                return settled
        wanted = self._demand(piece)
        if goes_on:
            return self._run_stage(piece, wanted)
        name = piece.spec.name
        self._log.info("%s: %d to make, %d not", name, len(wanted.to_make), len(wanted.results))
        if wanted.to_make:
            return self._run_stage(piece, wanted)
        return self._nothing_to_do(piece, wanted)

    def _demand(self, piece: Piece) -> Demand:
        units = piece.units
        rows = None if units is None else tuple(piece.shard.unit(unit) for unit in units)
        cache = ArtifactCache(self._store, piece.ref.tenant)
        return demand(cache, piece.shard, piece.spec, rows=rows, chunk=self._chunk)

    def _nothing_to_do(self, piece: Piece, wanted: Demand) -> StageResult:
        result = StageResult(
            stage=piece.spec.name,
            plan=piece.ref.plan,
            run_id=self._context["run_id"],
            chunk=self._chunk,
            units=wanted.results,
            started_process=False,
        )
        self._put(piece, "result", result)
        return result

    def _run_stage(self, piece: Piece, wanted: Demand) -> StageResult:
        uri, events = self._uri(piece), EventLog(self._log)
        runtime = self._choose_runtime(piece)
        self._running = runtime
        try:
            if self._resumed is not None and self._resumed["request"] == uri:
                event, self._resumed = self._resumed, {"request": None}
                code = runtime.resume(uri, piece.spec, events, event)
            else:
                self._put(piece, "request", self._request(piece, wanted))
                code = runtime.run(uri, piece.spec, events)
        finally:
            self._running = None
        if code != 0:
            said = events.error or runtime.last_words or "it said nothing"
            what = f"{piece.spec.name} ({piece.ref.label})"
            error = error_for_exit(code, f"{what} ended with {code}: {said}")
            if not (runtime.was_remote and self._is_decided(piece)):
                raise error
        return self._finish(piece, wanted.results)

    def _request(self, piece: Piece, wanted: Demand) -> StageRequest:
        return StageRequest(
            stage=piece.spec.name,
            store=piece.ref.store,
            tenant=piece.ref.tenant,
            plan=piece.ref.plan,
            units=wanted.to_make,
            run_id=self._context["run_id"],
            result=self._key(piece, "result"),
            attempt=max(1, self._ti.try_number),
            last_attempt=self._ti.try_number > self._ti.max_tries,
            may_wait=self._may_wait,
            threads=self._settings.threads,
            chunk=self._chunk,
        )

    def _choose_runtime(self, piece: Piece) -> Runtime:
        settings = self._settings
        if self._runtime is not None:
            settings = settings.with_runtime(self._runtime)
        if settings.noop:
            self._log.warning("UNDERSTUDY_NOOP is set: no stage is run, nothing will be published")
            return NoopRuntime()
        return choose_runtime(settings, piece.spec, piece.shard, self._store, self._context)

    def _finish(self, piece: Piece, settled: tuple[UnitResult, ...]) -> StageResult:
        """Read what the process wrote and add the units that it was not asked about."""
        key = self._key(piece, "result")
        if self._store.head(key) is None:
            raise Bug(f"{self._spec.name} ended well but wrote no result to {key}")
        result = StageResult.model_validate_json(self._store.get(key))
        done = {unit.id for unit in result.units}
        others = tuple(unit for unit in settled if unit.id not in done)
        result = result.model_copy(update={"units": (*result.units, *others)})
        self._put(piece, "result", result)
        return result

    def _is_decided(self, piece: Piece) -> bool:
        """Whether a retry would help no row: all that failed, did so for good or at a breaker."""
        key = self._key(piece, "result")
        if self._store.head(key) is None:
            return False
        units = StageResult.model_validate_json(self._store.get(key)).units
        return all(unit.code == "remote.breaker_open" for unit in units if unit.retry)

    @property
    def _may_wait(self) -> bool:
        return may_wait(self._context, self._spec.timeout)

    def _put(self, piece: Piece, what: str, body: StageRequest | StageResult) -> None:
        self._store.put(self._key(piece, what), body.model_dump_json().encode())

    def _uri(self, piece: Piece) -> str:
        return f"{piece.ref.store}#{self._key(piece, 'request')}"

    def _key(self, piece: Piece, what: str) -> str:
        """Where this try's request or result lies: one place for each task, shard and try.

        Variants of the template have places of their own, and so have rows that fell, and what is
        made of the template for these.
        """
        ti, ref = self._ti, piece.ref
        index = "" if ti.map_index is None or ti.map_index < 0 else f"-{ti.map_index:04}"
        index += "" if ref.plan == self._ref.plan else f"-{PurePosixPath(ref.plan).stem}"
        index += "" if piece.spec.name == self._spec.name else f"-{piece.spec.name}"
        prefix = run_prefix(ref.tenant, ti.dag_id, self._context["run_id"])
        return f"{prefix}/{ti.task_id}{index}/{max(1, ti.try_number):03}.{what}.json"


def _shard_ref(shard: Mapping[str, Any]) -> tuple[ShardRef, list[str] | None]:
    """Split a task's input into the shard's reference and the units asked for, if any."""
    names = set(ShardRef.model_fields)
    ref = ShardRef.model_validate({k: v for k, v in shard.items() if k in names})
    units = shard.get("units")
    return ref, list(units) if units is not None else None
