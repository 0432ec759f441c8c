"""The operator of all stages: ask the cache, start a process only for what is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import Bug, LeaseHeld, UnderstudyError, error_for_exit
from include.stages.specs import STAGES, StageSpec, template_stages_of
from operators.config import task_settings
from operators.queues import stage_queue
from operators.runtimes import NoopRuntime, Runtime
from operators.runtimes.choose import choose_runtime
from operators.runtimes.pod_records import settled_by_pods
from operators.waiting import may_wait, wait_for

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.contracts.plan import ShardPlan, ShardRef
    from include.contracts.stage import StageRequest, StageResult, UnitResult
    from include.demand import Demand
    from include.remote.fallback import Part
    from include.settings import Settings
    from include.store import ObjectStore

PROGRESS_EVERY_S = 10.0
"""At most one progress line in the task log in this time, and one at the end."""


class StageOperator(BaseOperator):
    """Runs one stage for a shard, or does nothing when everything is there already.

    The units whose artifacts exist, and those that no missing artifact is made from, are
    counted as hits without starting a process. The rest goes to the stage process in one
    request. Its exit code becomes an error of ``include.errors``, whose class decides about the
    retry (see ``operators.retries``). What another run makes at the moment is waited for without a
    worker slot and without using up an attempt (see ``operators.waiting``). Variants of a template,
    for rows that try another backend, come after it; what is wrong with one of them is no other
    row's concern.

    Args:
        stage: name of the stage in ``include.stages.specs``.
        shard: a ``ShardRef`` as plain data (templated; usually an XCom). A further item
            ``units`` limits the work to these unit ids; ``chunk`` says which chunk.
        by_chunk: make only one chunk of each artifact, for a task that makes the whole later.
        runtime: where to run the stage, instead of where ``UNDERSTUDY_RUNTIME`` says.

    Returns (XCom): a ``StageResultRef`` as plain data.

    Raises:
        UnderstudyError: as the stage's exit code says.
    """

    template_fields = ("shard",)
    ui_color = "#e8f0ec"

    def __init__(
        self,
        *,
        stage: str,
        shard: Mapping[str, Any],
        runtime: str | None = None,
        by_chunk: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"task_id": stage, **_task_defaults(stage), **kwargs})
        self.stage = stage
        self.shard = shard
        self.runtime = runtime
        self.by_chunk = by_chunk
        self._running: Runtime | None = None
        self._resumed: Mapping[str, Any] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """See the class."""
        return self._execute(context)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Where Airflow goes on after a runtime left the task (see ``Runtime.resume``).

        What this try has settled already is not done again; what the event is about is finished.

        Args:
            context: the task's.
            event: what the trigger said, with the ``request`` that was worked on.
        """
        self._resumed = event
        return self._execute(context)

    def _execute(self, context: Context) -> dict[str, Any]:
        from include.runs import result_ref
        from include.store import open_store

        ref, units = _shard_ref(self.shard)
        store = open_store(ref.store)
        try:
            result = self._work_parts(context, store, ref, units)
        except LeaseHeld as held:
            wait_for(held, context, STAGES[self.stage].timeout)
        done = result_ref(result, self._key(context, ref, "result"))
        return done.model_dump(mode="json")

    def _work_parts(
        self, context: Context, store: ObjectStore, ref: ShardRef, units: list[str] | None
    ) -> StageResult:
        """The shard itself, rows of it that fell to another backend, and the template's variants.

        Returns:
            The shard's own result.
        """
        from include.remote.fallback import parts

        own, *fallen = parts(store, ref)
        result = self._work(context, store, ref, own.shard, own.wanted(units))
        self._after(context, store, ref, result)
        worked: set[str] = set()
        while fallen := [part for part in parts(store, ref)[1:] if part.ref.plan not in worked]:
            if self.by_chunk:  # whoever makes the whole makes what fell
                break
            for part in fallen:
                worked.add(part.ref.plan)
                self._work_fallen(context, store, ref, part, units)
        for variant in own.shard.variants:
            self._try_variant(context, store, variant)
        return result

    def _work_fallen(
        self,
        context: Context,
        store: ObjectStore,
        own: ShardRef,
        part: Part,
        units: list[str] | None,
    ) -> None:
        """Rows that are made with something else; first what their template lacks for it."""
        self.log.warning("%s: %s (%s)", self.stage, part.ref.label, part.fall and part.fall.reason)
        wanted = part.wanted(units)
        if wanted == []:
            return
        ti = context["ti"]
        try:
            for spec in template_stages_of(STAGES[self.stage]):
                self._work(context, store, part.ref, part.shard, None, spec)
            result = self._work(context, store, part.ref, part.shard, wanted)
            self._after(context, store, own, result, part.ref)
        except UnderstudyError as error:
            waits = isinstance(error, LeaseHeld) and self._may_wait(context)
            if waits or (error.retry and ti.try_number <= ti.max_tries):
                raise
            self.log.error("%s: rows that fell are lost: %s", self.stage, error)

    def _after(
        self,
        context: Context,
        store: ObjectStore,
        own: ShardRef,
        result: StageResult,
        ref: ShardRef | None = None,
    ) -> None:
        """Let rows that a model API did not make fall to the next step of their chain."""
        from include.remote.config import load_remotes
        from include.remote.fallback import can_fall, exhausted, fall

        failed = [unit for unit in result.units if can_fall(unit)]
        if not failed or self.by_chunk:
            return
        remotes, lost = load_remotes(), {}
        for unit in failed:
            step = fall(store, own, self.stage, unit, remotes)
            if step is None:
                lost[unit.id] = exhausted(store, own, self.stage, unit)
            else:
                self.log.warning("%s: %s: %s", unit.id, step.said, step.reason)
        if lost:
            units = tuple(lost.get(unit.id, unit) for unit in result.units)
            changed = result.model_copy(update={"units": units})
            key = self._key(context, ref or own, "result")
            store.put(key, changed.model_dump_json().encode())

    def _work(
        self,
        context: Context,
        store: ObjectStore,
        ref: ShardRef,
        shard: ShardPlan,
        units: list[str] | None,
        spec: StageSpec | None = None,
    ) -> StageResult:
        spec = spec or STAGES[self.stage]
        settings = task_settings(store=ref.store)
        request = f"{ref.store}#{self._key(context, ref, 'request', spec)}"
        goes_on = self._resumed is not None and self._resumed["request"] == request
        if self._resumed is not None and not goes_on:
            settled = settled_by_pods(store, request)
            if settled is not None:
                return settled
        wanted = self._demand(store, ref, shard, units, spec)
        if goes_on:
            runtime = self._choose_runtime(settings, spec, shard, store, context)
            return self._run_stage(context, spec, ref, store, settings, wanted, runtime)
        self.log.info("%s: %d to make, %d not", spec.name, len(wanted.to_make), len(wanted.results))
        if wanted.to_make:
            runtime = self._choose_runtime(settings, spec, shard, store, context)
            return self._run_stage(context, spec, ref, store, settings, wanted, runtime)
        return self._nothing_to_do(context, spec, ref, store, wanted)

    def _try_variant(self, context: Context, store: ObjectStore, ref: ShardRef) -> None:
        """Make a variant of the template; the rows that need it fail alone when it cannot be."""
        from include.contracts.plan import ShardPlan

        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        ti = context["ti"]
        try:
            self._work(context, store, ref, shard, None)
        except UnderstudyError as error:
            waits = isinstance(error, LeaseHeld) and self._may_wait(context)
            if waits or (error.retry and ti.try_number <= ti.max_tries):
                raise
            self.log.error("%s: rows that try another backend are lost: %s", self.stage, error)

    def on_kill(self) -> None:
        """Stop the stage with everything it started."""
        if self._running is not None:
            self._running.kill()

    def _demand(
        self,
        store: ObjectStore,
        ref: ShardRef,
        shard: ShardPlan,
        units: list[str] | None,
        spec: StageSpec,
    ) -> Demand:
        from include.demand import demand
        from include.store.cache import ArtifactCache

        rows = None if units is None else tuple(shard.unit(unit) for unit in units)
        cache = ArtifactCache(store, ref.tenant)
        return demand(cache, shard, spec, rows=rows, chunk=self._chunk())

    def _may_wait(self, context: Context) -> bool:
        return may_wait(context, STAGES[self.stage].timeout)

    def _chunk(self) -> int | None:
        return int(self.shard["chunk"]) if self.by_chunk else None

    def _nothing_to_do(
        self, context: Context, spec: StageSpec, ref: ShardRef, store: ObjectStore, wanted: Demand
    ) -> StageResult:
        from include.contracts.stage import StageResult

        result = StageResult(
            stage=spec.name,
            plan=ref.plan,
            run_id=context["run_id"],
            chunk=self._chunk(),
            units=wanted.results,
            started_process=False,
        )
        store.put(self._key(context, ref, "result", spec), result.model_dump_json().encode())
        return result

    def _run_stage(
        self,
        context: Context,
        spec: StageSpec,
        ref: ShardRef,
        store: ObjectStore,
        settings: Settings,
        wanted: Demand,
        runtime: Runtime,
    ) -> StageResult:
        result_key = self._key(context, ref, "result", spec)
        request_key = self._key(context, ref, "request", spec)
        uri = f"{ref.store}#{request_key}"
        events = EventLog(self.log)
        self._running = runtime
        try:
            if self._resumed is not None and self._resumed["request"] == uri:
                event, self._resumed = self._resumed, {"request": None}
                code = runtime.resume(uri, spec, events, event)
            else:
                request = self._request(context, spec, ref, settings, wanted)
                store.put(request_key, request.model_dump_json().encode())
                code = runtime.run(uri, spec, events)
        finally:
            self._running = None
        if code != 0:
            said = events.error or runtime.last_words or "it said nothing"
            error = error_for_exit(code, f"{spec.name} ({ref.label}) ended with {code}: {said}")
            if not (runtime.was_remote and store.head(result_key) and _decided(store, result_key)):
                raise error
        return self._finish(store, result_key, wanted.results)

    def _request(
        self,
        context: Context,
        spec: StageSpec,
        ref: ShardRef,
        settings: Settings,
        wanted: Demand,
    ) -> StageRequest:
        from include.contracts.stage import StageRequest

        ti = context["ti"]
        return StageRequest(
            stage=spec.name,
            store=ref.store,
            tenant=ref.tenant,
            plan=ref.plan,
            units=wanted.to_make,
            run_id=context["run_id"],
            result=self._key(context, ref, "result", spec),
            attempt=max(1, ti.try_number),
            last_attempt=ti.try_number > ti.max_tries,
            may_wait=self._may_wait(context),
            threads=settings.threads,
            chunk=self._chunk(),
        )

    def _choose_runtime(
        self,
        settings: Settings,
        spec: StageSpec,
        shard: ShardPlan,
        store: ObjectStore,
        context: Context,
    ) -> Runtime:
        if self.runtime is not None:
            settings = settings.with_runtime(self.runtime)
        if settings.noop:
            self.log.warning("UNDERSTUDY_NOOP is set: no stage is run, nothing will be published")
            return NoopRuntime()
        return choose_runtime(settings, spec, shard, store, context)

    def _finish(self, store: ObjectStore, key: str, settled: tuple[UnitResult, ...]) -> StageResult:
        """Read what the process wrote and add the units that it was not asked about."""
        from include.contracts.stage import StageResult

        if store.head(key) is None:
            raise Bug(f"{self.stage} ended well but wrote no result to {key}")
        result = StageResult.model_validate_json(store.get(key))
        done = {unit.id for unit in result.units}
        others = tuple(unit for unit in settled if unit.id not in done)
        result = result.model_copy(update={"units": (*result.units, *others)})
        store.put(key, result.model_dump_json().encode())
        return result

    def _key(
        self, context: Context, ref: ShardRef, what: str, spec: StageSpec | None = None
    ) -> str:
        """Where this try's request or result lies: one place for each task, shard and try.

        Variants of the template have places of their own, and so have rows that fell, and what is
        made of the template for these.
        """
        from include.runs import run_prefix

        ti = context["ti"]
        index = "" if ti.map_index is None or ti.map_index < 0 else f"-{ti.map_index:04}"
        prefix = run_prefix(ref.tenant, ti.dag_id, context["run_id"])
        own = _shard_ref(self.shard)[0].plan
        index += "" if ref.plan == own else f"-{PurePosixPath(ref.plan).stem}"
        index += "" if spec is None or spec.name == self.stage else f"-{spec.name}"
        return f"{prefix}/{ti.task_id}{index}/{max(1, ti.try_number):03}.{what}.json"


def _decided(store: ObjectStore, result: str) -> bool:
    """Whether a retry would not help any row: all that failed, did so for good or at a breaker."""
    from include.contracts.stage import StageResult

    units = StageResult.model_validate_json(store.get(result)).units
    return all(unit.code == "remote.breaker_open" for unit in units if unit.retry)


def _task_defaults(stage: str) -> dict[str, Any]:
    spec = STAGES[stage]
    queue = stage_queue(spec)
    return {
        **({"queue": queue} if queue else {}),
        "pool": spec.pool,
        "execution_timeout": spec.timeout,
        "map_index_template": "{{ task.shard['label'] }}",
    }


def stage_defaults(stage: str) -> dict[str, Any]:
    """Arguments for ``StageOperator.partial``, which knows no defaults of its own."""
    return {"stage": stage, **_task_defaults(stage)}


class EventLog:
    """Turns a stage's events into lines of the task log; remembers the last error."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._next = 0.0
        self.error: str | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        kind, unit = event.get("event"), event.get("unit") or ""
        message = event.get("message") or ""
        if kind == "error":
            self.error = message or self.error
            self._log.error("%s %s", unit, message)
        elif kind == "warning":
            self._log.warning("%s %s", unit, message)
        elif kind == "progress":
            self._progress(event, unit, message)
        else:
            self._log.info("%s %s %s", kind, unit, message)

    def _progress(self, event: Mapping[str, Any], unit: str, message: str) -> None:
        done, total = event.get("done"), event.get("total")
        now = time.monotonic()
        if now < self._next and done != total:
            return
        self._next = now + PROGRESS_EVERY_S
        self._log.info("%s %s/%s %s", unit, done, total, message)


def _shard_ref(shard: Mapping[str, Any]) -> tuple[ShardRef, list[str] | None]:
    """Split a task's input into the shard's reference and the units asked for, if any."""
    from include.contracts.plan import ShardRef

    names = set(ShardRef.model_fields)
    ref = ShardRef.model_validate({k: v for k, v in shard.items() if k in names})
    units = shard.get("units")
    return ref, list(units) if units is not None else None
