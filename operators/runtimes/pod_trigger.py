"""What the triggerer runs for a stage's pod: the provider's trigger, which sees what is missing.

Needs the right to list events beside the provider's own; without it a pod that waits in vain is
given up only when ``UNDERSTUDY_POD_START_S`` is over.
"""

from __future__ import annotations

from typing import Any

from airflow.providers.cncf.kubernetes.triggers.pod import ContainerState, KubernetesPodTrigger
from kubernetes.client import ApiClient

from operators.runtimes.pod_failures import Pod
from operators.runtimes.pod_start import started


class StagePodTrigger(KubernetesPodTrigger):
    """Waits for one pod of one stage."""

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """See KubernetesPodTrigger."""
        return f"{__name__}.{type(self).__name__}", super().serialize()[1]

    async def _wait_for_pod_start(self) -> ContainerState:
        return await started(super()._wait_for_pod_start(), self._look)

    async def _look(self) -> tuple[Pod, list[dict[str, Any]]]:
        plain = ApiClient().sanitize_for_serialization
        pod = plain(await self._get_pod())
        events = await self.hook.get_pod_events(self.pod_name, self.pod_namespace)
        return pod, [plain(event) for event in events.items]
