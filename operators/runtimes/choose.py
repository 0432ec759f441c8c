"""Which runtime a stage of a shard gets, by the settings and by what model APIs offer."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from include.stages.specs import STAGES, StageSpec
from operators.runtimes.base import Runtime
from operators.runtimes.local import LocalRuntime
from operators.runtimes.remote import HybridRuntime, RemoteRuntime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from include.contracts.plan import ShardPlan
    from include.remote.config import Endpoint
    from include.remote.routing import Load, Route
    from include.settings import Settings
    from include.store import ObjectStore

log = logging.getLogger(__name__)

WAITING = ("scheduled", "queued")
"""States of task instances that Airflow will start as soon as it can."""


def choose_runtime(
    settings: Settings,
    spec: StageSpec,
    shard: ShardPlan,
    store: ObjectStore,
    context: Mapping[str, Any],
) -> Runtime:
    """The runtime for one stage of one shard.

    Args:
        settings: ``runtime`` says what is wanted.
        spec: the stage.
        shard: the plan that it is run with.
        store: where state is shared.
        context: the task's.
    """
    if settings.runtime == "kubernetes":
        from operators.runtimes.kubernetes import KubernetesRuntime
        from operators.runtimes.pod_settings import PodSettings

        return KubernetesRuntime(PodSettings.from_env(), context, threads=settings.threads)
    local = LocalRuntime(settings.worker_python, threads=settings.threads)
    if settings.runtime == "local":
        return local
    endpoint = _endpoint(spec, shard)
    remote = RemoteRuntime(settings.worker_python) if endpoint else None
    if settings.runtime == "remote":
        return remote or local
    if spec.pool != "cpu":
        return local
    from include.remote.capacity import Capacity

    capacity = Capacity(store, spec.pool, settings.slots)
    decide = _decider(settings, spec, shard, store, endpoint, _due(settings, context))
    return HybridRuntime(local, remote, capacity, decide, lambda: _queued(context))


def _endpoint(spec: StageSpec, shard: ShardPlan) -> Endpoint | None:
    """The first endpoint that offers what a shard's rows need of a stage."""
    from include.remote.config import load_remotes

    if not spec.remote or not shard.rows:
        return None
    backend = shard.rows[0].materials[spec.artifacts[-1]].backend
    offers = load_remotes().offering(spec.name, backend.name if backend else "")
    return offers[0][0] if offers else None


def _decider(
    settings: Settings,
    spec: StageSpec,
    shard: ShardPlan,
    store: ObjectStore,
    endpoint: Endpoint | None,
    due: float | None,
) -> Callable[[Load], Route]:
    from include.remote.breaker import Breaker, rules_of
    from include.remote.routing import Work, route
    from include.sharding import OTHER_S, TASK_S, load_times

    times = load_times(store, shard.brief.tenant, shard.template)
    rows = max(1, len(shard.rows))
    each = times.row_seconds()
    names = list(STAGES)
    later = names[names.index(spec.name) + 1 :]
    rest = sum(TASK_S + rows * each[name] for name in later if name in each)
    seconds = TASK_S + rows * each.get(spec.name, OTHER_S)
    work = Work(seconds=seconds, rest_s=rest, deadline=due)
    breaker = Breaker(store, endpoint.name, rules_of(endpoint)) if endpoint else None

    def decide(load: Load) -> Route:
        # Also one that failed, once its time is over: nobody else would find out that it works.
        api = endpoint.name if endpoint and breaker and breaker.admits() else None
        return route(load, work, time.time(), api)

    return decide


def _due(settings: Settings, context: Mapping[str, Any]) -> float | None:
    """When the run should be done, in seconds since 1970."""
    if not settings.deadline_s:
        return None
    run = context.get("dag_run")
    start = getattr(run, "start_date", None) or getattr(run, "run_after", None)
    return start.timestamp() + settings.deadline_s if start else None


def _queued(context: Mapping[str, Any]) -> int:
    """Tasks of this run like ours that Airflow holds back for want of a slot in their pool.

    Those that wait for a slot of ours inside their task show it by a ticket.
    """
    ti = context["ti"]
    count = getattr(ti, "get_ti_count", None)
    if count is None:
        return 0
    try:
        group = ti.task_id.rpartition(".")[0]
        names = [name for name, spec in STAGES.items() if spec.pool == "cpu"]
        tasks = [f"{group}.{name}" if group else name for name in names]
        run_ids, states = [context["run_id"]], list(WAITING)
        return int(count(dag_id=ti.dag_id, run_ids=run_ids, task_ids=tasks, states=states))
    except Exception as error:  # only a measurement; the tickets remain
        log.warning("Airflow does not say how many tasks wait: %s", error)
        return 0
