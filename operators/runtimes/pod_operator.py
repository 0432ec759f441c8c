"""KubernetesPodOperator as a stage's pod. Its import costs a second: only tasks that need it do it.

Written against provider 10.25. What is changed: the log's events are taken instead of printed, a
pod that nothing can come of is never attached to again, and the pod's last state is kept for
``pod_failures`` before it is deleted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.pod_manager import PodManager
from kubernetes.client.exceptions import ApiException

from include.errors import Preempted
from operators.runtimes.pod_failures import Pod, is_dead
from operators.runtimes.pod_manifest import REQUEST
from operators.runtimes.pod_start import started

if TYPE_CHECKING:
    from airflow.sdk import Context

TakeLine = Callable[[str], None]
"""Takes one line of what the stage wrote."""


class _Lines(PodManager):
    """Hands the log's lines on instead of printing them."""

    def __init__(self, take: TakeLine, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._take = take

    def container_is_running(self, pod: Any, container_name: str) -> bool:
        """A container on a lost node is running for ever, as far as the API server knows."""
        return not self._is_dead(self.read_pod(pod)) and super().container_is_running(
            pod, container_name
        )

    def await_pod_completion(self, pod: Any, *args: Any, **kwargs: Any) -> Any:
        """Wait for a pod that lives."""
        remote = self.read_pod(pod)
        if self._is_dead(remote):
            return remote
        return super().await_pod_completion(pod, *args, **kwargs)

    async def await_pod_start(self, pod: Any, *args: Any, **kwargs: Any) -> None:
        """Wait for a pod that does not wait for what is missing."""
        await started(super().await_pod_start(pod, *args, **kwargs), lambda: self._look(pod))

    async def _look(self, pod: Any) -> tuple[Pod, list[dict[str, Any]]]:
        plain = self._client.api_client.sanitize_for_serialization
        events = self._client.list_namespaced_event(
            pod.metadata.namespace, field_selector=f"involvedObject.name={pod.metadata.name}"
        )
        return plain(self.read_pod(pod)), [plain(event) for event in events.items]

    def _is_dead(self, remote: Any) -> bool:
        return is_dead(self._client.api_client.sanitize_for_serialization(remote))

    def _log_message(self, message: str, *_args: Any, **_kwargs: Any) -> None:
        for line in message.splitlines():
            self._take(line)


class StagePod(KubernetesPodOperator):
    """One pod of one stage.

    Args:
        take_line: gets each line that the stage writes.
        **kwargs: as KubernetesPodOperator has them.
    """

    def __init__(self, *, take_line: TakeLine, **kwargs: Any) -> None:
        super().__init__(task_id="pod", do_xcom_push=False, **kwargs)
        self._take, self._heard = take_line, False
        self._stopped = False
        self.last_pod: dict[str, Any] | None = None
        """The pod as it was before it was cleaned up; None when it was gone."""
        self.last_events: list[dict[str, Any]] = []
        self.created = False
        """Whether there was a pod at all."""
        self.adopted: str | None = None
        """The request of an earlier try, when its pod is waited for instead of a new one."""

    @cached_property
    def pod_manager(self) -> PodManager:
        """See KubernetesPodOperator."""
        return _Lines(self._take_line, kube_client=self.client, callbacks=self.callbacks)

    def get_or_create_pod(self, pod_request_obj: Any, context: Context) -> Any:
        """Take the pod of a task that was interrupted, if it works still or has succeeded."""
        found = self._standing_pod(context)
        if found is None:
            found = super().get_or_create_pod(pod_request_obj, context)
        self.created = True
        if self._stopped:  # between asking for the pod and hearing of it
            self.pod = found
            super().on_kill()
            raise Preempted("the task was ended while its pod was made", code="pod.stopped")
        if found is not pod_request_obj:
            self.adopt((found.metadata.annotations or {}).get(REQUEST))
            self.log.info("Attached to pod %s, which works on this already", found.metadata.name)
        return found

    def on_kill(self) -> None:
        """Delete the pod, now or as soon as it is known."""
        self._stopped = True
        super().on_kill()

    def adopt(self, request_uri: str | None) -> None:
        """Remember, also over a deferral, that the pod works on an earlier try's request."""
        self.adopted = request_uri
        self.trigger_kwargs = {**(self.trigger_kwargs or {}), "adopted": request_uri}

    def _get_pod_from_task_state_store(self, context: Context) -> Any:
        """Nothing: pods are found by the label of their work, which says more than a name.

        The task's last pod may have worked on another plan, or be dead.
        """
        return None

    def _standing_pod(self, context: Context) -> Any:
        """An earlier try's pod that something can come of.

        Dead ones are marked, so that no search finds them again, and deleted.
        """
        selector = self._build_find_pod_label_selector(context)
        found = self.client.list_namespaced_pod(self.namespace, label_selector=selector).items
        standing = None
        for pod in found:
            plain = self._plain(pod)
            if plain["status"].get("phase") == "Succeeded" or not is_dead(plain):
                standing = pod
                continue
            self.log.info("Pod %s is dead; it is not attached to", pod.metadata.name)
            self.patch_already_checked(pod, reraise=False)
            self.process_pod_deletion(pod, reraise=False)
        return standing

    def _take_line(self, line: str) -> None:
        self._heard = True
        self._take(line)

    def cleanup(self, pod: Any, remote_pod: Any, *args: Any, **kwargs: Any) -> None:
        """Keep what the pod has to say, then clean up."""
        found = remote_pod or pod
        if found:
            if not self._heard:  # it was over before its log could be followed
                with contextlib.suppress(ApiException):
                    self._write_logs(found)
            self._keep_last_state(found)
        super().cleanup(pod, remote_pod, *args, **kwargs)

    def _keep_last_state(self, pod: Any) -> None:
        name, namespace = pod.metadata.name, pod.metadata.namespace
        try:
            self.last_pod = self._plain(self.client.read_namespaced_pod(name, namespace))
        except ApiException as error:
            if error.status != 404:
                raise
            self.last_pod = None
            return
        with contextlib.suppress(ApiException):
            events = self.client.list_namespaced_event(
                namespace, field_selector=f"involvedObject.name={name}"
            )
            self.last_events = [self._plain(event) for event in events.items]

    def _plain(self, thing: Any) -> dict[str, Any]:
        plain: dict[str, Any] = self.client.api_client.sanitize_for_serialization(thing)
        return plain

    def _write_logs(  # type: ignore[override]
        self, pod: Any, follow: bool = False, since_time: datetime | None = None
    ) -> None:
        """Take the log of a pod that was waited for elsewhere."""
        stream = self.client.read_namespaced_pod_log(
            name=pod.metadata.name,
            namespace=pod.metadata.namespace,
            container=self.base_container_name,
            follow=follow,
            _preload_content=False,
        )
        with contextlib.closing(stream):
            for raw in stream:
                self._take_line(raw.decode("utf-8", errors="replace").rstrip("\n"))
