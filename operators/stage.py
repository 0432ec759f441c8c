"""The operator of all stages: ask the cache, start a process only for what is missing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import Bug, UnderstudyError, error_for_exit
from include.stages.specs import STAGES, StageSpec
from operators.config import task_settings
from operators.queues import stage_queue
from operators.runtimes import Runtime, choose_runtime

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.contracts.plan import ShardPlan, ShardRef
    from include.contracts.stage import StageRequest, StageResult, UnitResult
    from include.demand import Demand
    from include.settings import Settings
    from include.store import ObjectStore

PROGRESS_EVERY_S = 10.0
"""At most one progress line in the task log in this time, and one at the end."""


@dataclass(frozen=True)
class Resumed:
    """Where a task goes on that was left while its stage ran elsewhere."""

    plan: str
    """Object key of the plan that was being worked on: the shard's own or a variant's."""
    event: Mapping[str, Any]


class StageOperator(BaseOperator):
    """Runs one stage for a shard, or does nothing when everything is there already.

    The units whose artifacts exist, and those that no missing artifact is made from, are
    counted as hits without starting a process. The rest goes to the stage process in one
    request. Its exit code becomes an error of ``include.errors``, whose class decides about the
    retry (see ``operators.retries``). Variants of a template, for rows that try another backend,
    come after it; what is wrong with one of them is no other row's concern.

    Args:
        stage: name of the stage in ``include.stages.specs``.
        shard: a ``ShardRef`` as plain data (templated; usually an XCom). A further item
            ``units`` limits the work to these unit ids; ``chunk`` says which chunk.
        by_chunk: make only one chunk of each artifact, for a task that makes the whole later.
        runtime: where to run the stage: ``local``, ``kubernetes``; by default as
            ``UNDERSTUDY_RUNTIME`` says.

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

    def execute(self, context: Context) -> dict[str, Any]:
        """See the class."""
        return self._work_through(context, None)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Where Airflow goes on after a runtime left the task (see ``Runtime.resume``).

        Args:
            context: the task's.
            event: what the trigger said, with the object key ``plan`` of what was worked on.
        """
        return self._work_through(context, Resumed(event["plan"], event))

    def _work_through(self, context: Context, resumed: Resumed | None) -> dict[str, Any]:
        """The shard, then its template's variants; from where the task was left, if it was."""
        from include.contracts.plan import ShardPlan
        from include.contracts.stage import StageResult
        from include.runs import result_ref
        from include.store import open_store

        ref, units = _shard_ref(self.shard)
        store = open_store(ref.store)
        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        own = self._key(context, ref, "result")
        if resumed is None or resumed.plan == ref.plan:
            result = self._work(context, store, ref, shard, units, resumed)
        else:
            result = StageResult.model_validate_json(store.get(own))
        for variant in _from(shard.variants, resumed):
            self._try_variant(context, store, variant, resumed)
        return result_ref(result, own).model_dump(mode="json")

    def _work(
        self,
        context: Context,
        store: ObjectStore,
        ref: ShardRef,
        shard: ShardPlan,
        units: list[str] | None,
        resumed: Resumed | None,
    ) -> StageResult:
        spec = STAGES[self.stage]
        settings = task_settings(store=ref.store)
        wanted = self._demand(store, ref, shard, units)
        if resumed is not None and resumed.plan == ref.plan:
            return self._run_stage(context, spec, ref, store, settings, wanted, resumed)
        self.log.info("%s: %d to make, %d not", spec.name, len(wanted.to_make), len(wanted.results))
        if wanted.to_make:
            return self._run_stage(context, spec, ref, store, settings, wanted, None)
        return self._nothing_to_do(context, ref, store, wanted)

    def _try_variant(
        self, context: Context, store: ObjectStore, ref: ShardRef, resumed: Resumed | None
    ) -> None:
        """Make a variant of the template; the rows that need it fail alone when it cannot be."""
        from include.contracts.plan import ShardPlan

        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        ti = context["ti"]
        try:
            self._work(context, store, ref, shard, None, resumed)
        except UnderstudyError as error:
            if error.retry and ti.try_number <= ti.max_tries:
                raise
            self.log.error("%s: rows that try another backend are lost: %s", self.stage, error)

    def on_kill(self) -> None:
        """Stop the stage with everything it started."""
        if self._running is not None:
            self._running.kill()

    def _demand(
        self, store: ObjectStore, ref: ShardRef, shard: ShardPlan, units: list[str] | None
    ) -> Demand:
        from include.demand import demand
        from include.store.cache import ArtifactCache

        rows = None if units is None else tuple(shard.unit(unit) for unit in units)
        cache = ArtifactCache(store, ref.tenant)
        return demand(cache, shard, STAGES[self.stage], rows=rows, chunk=self._chunk())

    def _chunk(self) -> int | None:
        return int(self.shard["chunk"]) if self.by_chunk else None

    def _nothing_to_do(
        self, context: Context, ref: ShardRef, store: ObjectStore, wanted: Demand
    ) -> StageResult:
        from include.contracts.stage import StageResult

        result = StageResult(
            stage=self.stage,
            plan=ref.plan,
            run_id=context["run_id"],
            chunk=self._chunk(),
            units=wanted.results,
            started_process=False,
        )
        store.put(self._key(context, ref, "result"), result.model_dump_json().encode())
        return result

    def _run_stage(
        self,
        context: Context,
        spec: StageSpec,
        ref: ShardRef,
        store: ObjectStore,
        settings: Settings,
        wanted: Demand,
        resumed: Resumed | None,
    ) -> StageResult:
        result_key = self._key(context, ref, "result")
        request_key = self._key(context, ref, "request")
        if resumed is None:
            request = self._request(context, ref, settings, wanted)
            store.put(request_key, request.model_dump_json().encode())
        uri = f"{ref.store}#{request_key}"
        runtime = choose_runtime(self.runtime, settings, context)
        events = EventLog(self.log)
        self._running = runtime
        try:
            if resumed is None:
                code = runtime.run(uri, spec, events)
            else:
                code = runtime.resume(uri, spec, events, resumed.event)
        finally:
            self._running = None
        if code != 0:
            said = events.error or runtime.last_words or "it said nothing"
            raise error_for_exit(code, f"{spec.name} ({ref.label}) ended with {code}: {said}")
        return self._finish(store, result_key, wanted.results)

    def _request(
        self, context: Context, ref: ShardRef, settings: Settings, wanted: Demand
    ) -> StageRequest:
        from include.contracts.stage import StageRequest

        ti = context["ti"]
        return StageRequest(
            stage=self.stage,
            store=ref.store,
            tenant=ref.tenant,
            plan=ref.plan,
            units=wanted.to_make,
            run_id=context["run_id"],
            result=self._key(context, ref, "result"),
            attempt=max(1, ti.try_number),
            last_attempt=ti.try_number > ti.max_tries,
            threads=settings.threads,
            chunk=self._chunk(),
        )

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

    def _key(self, context: Context, ref: ShardRef, what: str) -> str:
        """Where this try's request or result lies: one place for each task, shard and try.

        Variants of the template have places of their own.
        """
        from include.runs import run_prefix

        ti = context["ti"]
        index = "" if ti.map_index is None or ti.map_index < 0 else f"-{ti.map_index:04}"
        prefix = run_prefix(ref.tenant, ti.dag_id, context["run_id"])
        own = _shard_ref(self.shard)[0].plan
        index += "" if ref.plan == own else f"-{PurePosixPath(ref.plan).stem}"
        return f"{prefix}/{ti.task_id}{index}/{max(1, ti.try_number):03}.{what}.json"


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


def _from(variants: Sequence[ShardRef], resumed: Resumed | None) -> Sequence[ShardRef]:
    """The variants that are still to do: all, or from the one where the task was left."""
    plans = [variant.plan for variant in variants]
    if resumed is None or resumed.plan not in plans:
        return variants
    return variants[plans.index(resumed.plan) :]


def _shard_ref(shard: Mapping[str, Any]) -> tuple[ShardRef, list[str] | None]:
    """Split a task's input into the shard's reference and the units asked for, if any."""
    from include.contracts.plan import ShardRef

    names = set(ShardRef.model_fields)
    ref = ShardRef.model_validate({k: v for k, v in shard.items() if k in names})
    units = shard.get("units")
    return ref, list(units) if units is not None else None
