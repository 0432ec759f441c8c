"""Stages as Kubernetes pods, through KubernetesPodOperator.

The request goes by reference and the result is read from the store, so a pod needs no side
container and no way back. A deferrable task leaves its worker while the pod runs: ``run`` then
raises ``TaskDeferred``, and Airflow goes on with ``StageOperator.resume``, which ends in ``resume``
here.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from include.errors import Misconfigured, Transient, UnderstudyError
from include.stages.specs import StageSpec
from operators.runtimes.base import OnEvent, Runtime, event_in
from operators.runtimes.pod_failures import PodFailure, failure_of
from operators.runtimes.pod_manifest import (
    WORK,
    check_told,
    load_template,
    pod_manifest,
    work_label,
)
from operators.runtimes.pod_needs import PodNeeds, pod_needs
from operators.runtimes.pod_records import PodRecord, read_record, record_key
from operators.runtimes.pod_settings import PodSettings

if TYPE_CHECKING:
    from include.contracts.stage import StageRequest
    from operators.runtimes.pod_operator import StagePod

log = logging.getLogger(__name__)

RESUME = "resume"
"""Method of ``StageOperator`` that a deferred task goes on with."""
_POLL_S = 2.0


class KubernetesRuntime(Runtime):
    """One pod for each request.

    A task whose worker died attaches again to the pod that works for it, as long as that lives;
    a pod that was evicted or deleted, or whose node was lost, is never waited for again.

    Args:
        settings: how pods are made.
        context: the task's context; pods carry its labels.
        threads: what a stage may use.
    """

    def __init__(
        self, settings: PodSettings, context: Mapping[str, Any], *, threads: int = 1
    ) -> None:
        self._settings = settings
        self._context: Any = context
        self._threads = threads
        self._pod: StagePod | None = None
        self._tail: deque[str] = deque(maxlen=20)

    @property
    def last_words(self) -> str:
        """See ``Runtime.last_words``."""
        return "\n".join(self._tail)

    def kill(self) -> None:
        """See ``Runtime.kill``: the pod is deleted."""
        if self._pod is not None:
            self._pod.on_kill()

    def run(self, request_uri: str, spec: StageSpec, on_event: OnEvent) -> int:
        """See ``Runtime.run``.

        Raises:
            UnderstudyError: what happened to the pod says more than an exit code.
            TaskDeferred: the task is deferrable; it goes on in ``resume``.
        """
        attempt = _Attempt(request_uri, spec, self._settings, self._threads)
        pod_class = attempt.needs.pod_class
        check_told(load_template(self._settings, pod_class), pod_class, os.environ)
        self._pod = attempt.make(self._taker(on_event), spec.timeout)
        start = self._pod.execute_async if self._settings.deferrable else self._pod.execute_sync
        code = self._end(attempt, lambda: start(self._context))
        return code if code is not None else self.run(request_uri, spec, on_event)

    def resume(
        self, request_uri: str, spec: StageSpec, on_event: OnEvent, event: Mapping[str, Any]
    ) -> int:
        """See ``Runtime.resume``; raises as ``run`` does."""
        attempt = _Attempt(request_uri, spec, self._settings, self._threads)
        if attempt.judged(str(event["name"])):
            # The task went back to the scheduler since, to wait for another run.
            return self.run(request_uri, spec, on_event)
        self._pod = pod = attempt.make(self._taker(on_event), spec.timeout)
        pod.created = True
        pod.adopt(event.get("adopted"))
        code = self._end(attempt, lambda: pod.trigger_reentry(self._context, dict(event)))
        return code if code is not None else self.run(request_uri, spec, on_event)

    def _taker(self, on_event: OnEvent) -> Callable[[str], None]:
        def take(line: str) -> None:
            event = event_in(line)
            if event is None:
                self._tail.append(line)
            else:
                on_event(event)

        return take

    def _end(self, attempt: _Attempt, wait: Callable[[], Any]) -> int | None:
        """Wait for a pod and judge it.

        Returns:
            The stage's exit code; None when an earlier try's pod failed and another is due.
        """
        from airflow.sdk.exceptions import AirflowException, TaskDeferred

        pod = self._pod
        assert pod is not None  # noqa: S101 - set by the callers
        failure = None
        try:
            wait()
        except TaskDeferred as deferred:
            raise _goes_on_here(deferred) from None
        except Exception as error:
            if not isinstance(error, AirflowException) and not _is_api_error(error):
                raise
            lost = isinstance(error, AirflowException) or getattr(error, "status", None) == 404
            if not pod.created or not lost:
                raise _api_error(error) from error
            failure = failure_of(pod.last_pod, pod.last_events)
        finally:
            self._pod = None
        if failure is None:
            attempt.take_result_of(pod.adopted)
            attempt.record(None, pod.last_pod)
            return 0
        failure = attempt.with_progress(failure)
        attempt.record(failure, pod.last_pod)
        if pod.adopted and pod.adopted != attempt.request_uri and failure.error.retry:
            log.warning("The pod of an earlier try failed (%s); starting another", failure.message)
            return None
        if failure.exit_code is not None:
            self._tail.append(failure.message)
            return failure.exit_code
        raise failure.error(f"{attempt.spec.name}: {failure.message}", code=failure.code)


class _Attempt:
    """One request, and what the store says about the tries before it."""

    def __init__(
        self, request_uri: str, spec: StageSpec, settings: PodSettings, threads: int
    ) -> None:
        from include.stages.runner import load_request
        from include.store import open_store

        self.request_uri, self.spec = request_uri, spec
        self._settings, self._threads = settings, threads
        base, _, self._key = request_uri.partition("#")
        self._store = open_store(base)
        self.request: StageRequest = load_request(request_uri, spec.name)
        self.needs: PodNeeds = pod_needs(
            spec, threads, settings, self._past(), self._backends() if spec.gpu_for else ()
        )

    def make(self, take_line: Callable[[str], None], timeout: timedelta) -> StagePod:
        """The operator of this request's pod; the cluster is not asked yet."""
        from operators.runtimes.pod_operator import StagePod

        settings, stage = self._settings, self.spec.name
        manifest = pod_manifest(
            load_template(settings, self.needs.pod_class),
            self.needs,
            settings,
            stage=stage,
            request_uri=self.request_uri,
            threads=self._threads,
            timeout_s=timeout.total_seconds(),
        )
        request = self.request
        work = work_label(request.store, request.plan, stage, request.chunk)
        return StagePod(
            take_line=take_line,
            pod_template_dict=manifest,
            name=f"stage-{stage.replace('_', '-')}",
            namespace=settings.namespace,
            labels={"understudy/stage": stage, WORK: work},
            kubernetes_conn_id=settings.connection,
            config_file=None if settings.connection else os.environ.get("KUBECONFIG"),
            durable=True,
            deferrable=settings.deferrable,
            execution_timeout=timeout,
            startup_timeout_seconds=settings.start_s,
            schedule_timeout_seconds=settings.start_s,
            startup_check_interval_seconds=1,
            poll_interval=_POLL_S,
            log_events_on_startup=False,
            trigger_kwargs={"request": self.request_uri},
            on_finish_action="delete_succeeded_pod" if settings.keep_failed else "delete_pod",
        )

    def record(self, failure: PodFailure | None, pod: Mapping[str, Any] | None) -> None:
        """Leave for whoever comes next what became of the pod."""
        found = pod or {}
        record = PodRecord(
            pod=(found.get("metadata") or {}).get("name", "unknown"),
            node=(found.get("spec") or {}).get("nodeName"),
            error=failure.error.__name__ if failure else "",
            code=failure.code if failure else "done",
            message=failure.message if failure else "",
            pod_class=self.needs.pod_class,
            memory_mib=self.needs.memory_mib,
            scratch_mib=self.needs.scratch_mib,
        )
        self._store.put(record_key(self._key), record.model_dump_json().encode())

    def judged(self, pod: str) -> bool:
        """Whether this pod's end was recorded already."""
        record = read_record(self._store, self._key)
        return record is not None and record.pod == pod

    def with_progress(self, failure: PodFailure) -> PodFailure:
        """Say how far the stage had come; its log may be gone with its node."""
        from include.stages.progress import progress_key, read_progress

        far = read_progress(self._store, progress_key(self._key))
        if failure.exit_code is not None or far is None:
            return failure
        return replace(failure, message=f"{failure.message}; it had come to {far}")

    def take_result_of(self, adopted: str | None) -> None:
        """Where an earlier try's pod did the work, take its result as this try's."""
        from include.stages.runner import load_request

        if adopted is None or adopted == self.request_uri:
            return
        theirs = load_request(adopted, self.spec.name).result
        self._store.put(self.request.result, self._store.get(theirs))

    def _backends(self) -> set[str]:
        """What the rows of the request are made with."""
        from include.contracts.plan import ShardPlan

        plan = ShardPlan.model_validate_json(self._store.get(self.request.plan))
        artifact = self.spec.artifacts[-1]
        rows = [row for row in plan.rows if row.id in self.request.units]
        named = (row.materials[artifact].backend for row in rows)
        return {backend.name for backend in named if backend is not None}

    def _past(self) -> list[PodRecord]:
        """What the tries before left, oldest first."""
        folder, own = self._key.rpartition("/")[0], record_key(self._key)
        keys = sorted(i.key for i in self._store.list(f"{folder}/") if i.key.endswith(".pod.json"))
        return [PodRecord.model_validate_json(self._store.get(k)) for k in keys if k <= own]


def _goes_on_here(deferred: Any) -> BaseException:
    """The same deferral, but with our trigger, and the task goes on with our operator's method.

    What that has to know travels in the trigger's event: ``dag.test()`` drops a deferral's own
    arguments.
    """
    from airflow.sdk.exceptions import TaskDeferred

    from operators.runtimes.pod_trigger import StagePodTrigger

    trigger = StagePodTrigger(**deferred.trigger.serialize()[1])
    return TaskDeferred(trigger=trigger, method_name=RESUME, timeout=deferred.timeout)


def _is_api_error(error: Exception) -> bool:
    from kubernetes.client.exceptions import ApiException
    from kubernetes.config.config_exception import ConfigException
    from urllib3.exceptions import HTTPError

    return isinstance(error, ApiException | ConfigException | HTTPError)


def _api_error(error: Exception) -> UnderstudyError:
    """What a refusal or silence of the API server means for the task."""
    status = getattr(error, "status", None)
    said = f"{getattr(error, 'reason', '') or ''} {getattr(error, 'body', '') or error}".strip()
    if isinstance(status, int) and status < 500 and status not in (0, 404, 408, 409, 429):
        if status == 403 and "exceeded quota" in said:
            return Transient(f"the namespace's quota is used up: {said}", code="pod.quota")
        return Misconfigured(
            f"the API server refuses the pod ({status}): {said}; correct the template or the role "
            "of Airflow's service account",
            code="pod.refused",
        )
    if type(error).__name__ in ("ConfigException", "AirflowNotFoundException"):
        return Misconfigured(
            f"there is no way to the cluster: {said}; see UNDERSTUDY_POD_CONNECTION",
            code="pod.connection",
        )
    return Transient(f"the API server cannot be used at the moment: {said}", code="pod.api")
