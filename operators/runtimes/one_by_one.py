"""Stages that one task starts one after the other, where the runtime has them."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from include.stages.specs import StageSpec

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.local_run import Start
    from include.settings import Settings

log = logging.getLogger(__name__)


def starter(settings: Settings, context: Context) -> Start | None:
    """How ``include.local_run`` is to start stages inside a task.

    Args:
        settings: ``runtime`` says where stages run.
        context: the task's; pods carry its labels.

    Returns:
        None for processes on this machine, also where the campaigns' go to model APIs.
    """
    if settings.runtime != "kubernetes":
        return None
    from operators.events import EventLog
    from operators.runtimes.kubernetes import KubernetesRuntime
    from operators.runtimes.pod_settings import PodSettings

    pods = replace(PodSettings.from_env(), deferrable=False)  # the task goes on afterwards
    runtime = KubernetesRuntime(pods, context, threads=settings.threads)

    def start(spec: StageSpec, request_uri: str) -> tuple[int, str]:
        events = EventLog(log)
        code = runtime.run(request_uri, spec, events)
        return code, events.error or runtime.last_words

    return start
