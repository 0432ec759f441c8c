"""Waiting for a pod to start, unless it waits for what is not there.

Kubernetes waits for ever for a secret or config map that nobody makes, and the operator for as long
as a node and its image may take. Somebody may be making it at this moment, and kubelets are
sometimes late to see one: only what stays missing counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from operators.runtimes.pod_failures import Pod, missing

T = TypeVar("T")
log = logging.getLogger(__name__)

Look = Callable[[], Awaitable[tuple[Pod, Sequence[Mapping[str, Any]]]]]
"""Reads the pod and its events."""

MISSING_S = 20.0
"""How long something may be missing."""
LOOK_S = 5.0
"""How often to look."""


async def started(start: Coroutine[Any, Any, T], look: Look) -> T:
    """What ``start`` gives.

    Args:
        start: waits for the pod to start.
        look: reads the pod and its events, meanwhile.

    Raises:
        PodLaunchTimeoutException: it waits in vain; the message says for what.
    """
    waits, vain = asyncio.ensure_future(start), asyncio.ensure_future(_in_vain(look))
    try:
        await asyncio.wait({waits, vain}, return_when=asyncio.FIRST_COMPLETED)
        if waits.done():
            return waits.result()
        from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException

        raise PodLaunchTimeoutException(vain.result())
    finally:
        for task in (waits, vain):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _in_vain(look: Look) -> str:
    """Come back once something has been missing for ``MISSING_S``; says what."""
    since: float | None = None
    while True:
        await asyncio.sleep(LOOK_S)
        try:
            failure = missing(*await look())
        except Exception as error:  # without the right to look, the start's own limit holds
            log.debug("It cannot be seen what the pod waits for: %s", error)
            continue
        now = time.monotonic()
        since = (now if since is None else since) if failure else None
        if failure and since is not None and now - since >= MISSING_S:
            return failure.message
