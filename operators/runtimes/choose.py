"""Which runtime a task gets: by one setting (``UNDERSTUDY_RUNTIME``), or by its operator."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.errors import Usage
from operators.runtimes.base import Runtime
from operators.runtimes.local import LocalRuntime
from operators.runtimes.noop import NoopRuntime

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.settings import Settings

log = logging.getLogger(__name__)

KNOWN = ("local", "kubernetes")


def choose_runtime(name: str | None, settings: Settings, context: Context) -> Runtime:
    """The runtime that a task's stage runs in.

    Args:
        name: what the operator asks for; None leaves it to the settings.
        settings: the task's.
        context: the task's.

    Raises:
        Usage: there is no runtime of that name.
    """
    name = name or settings.runtime
    if name not in KNOWN:
        raise Usage(f"there is no runtime {name!r}; known: {', '.join(KNOWN)}")
    if settings.noop:
        log.warning("UNDERSTUDY_NOOP is set: no stage is run, nothing will be published")
        return NoopRuntime()
    if name == "kubernetes":
        from operators.runtimes.kubernetes import KubernetesRuntime
        from operators.runtimes.pod_settings import PodSettings

        return KubernetesRuntime(PodSettings.from_env(), context, threads=settings.threads)
    return LocalRuntime(settings.worker_python, threads=settings.threads)
