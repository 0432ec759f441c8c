"""Stages at model APIs, and on our own machines as long as these keep the deadline."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from include.errors import Preempted
from include.stages.specs import StageSpec
from operators.runtimes.base import OnEvent, Runtime
from operators.runtimes.local import LocalRuntime

if TYPE_CHECKING:
    from include.remote.capacity import Capacity
    from include.remote.routing import Load, Route
    from include.store.lease import Lease

log = logging.getLogger(__name__)

LOOK_S = 3.0
"""How often a task that waits for a slot looks again."""


class RemoteRuntime(LocalRuntime):
    """A child process that has the stage's artifacts made by model APIs.

    A process of its own, so that what strangers send back is opened where stages run, not in
    Airflow's task; ended by SIGTERM it cancels its jobs.
    """

    module = "include.remote"
    secrets = True

    @property
    def was_remote(self) -> bool:
        """See ``Runtime.was_remote``."""
        return True


class HybridRuntime(Runtime):
    """On a slot of our own as soon as one is free, or at an API when that would be too late.

    Args:
        local: runs a stage here.
        remote: runs it at an API; None when none offers it.
        capacity: our own slots.
        decide: judges a load: where to go, and why.
        queued: tasks in front of ours that the slots' leases do not show.
    """

    def __init__(
        self,
        local: Runtime,
        remote: Runtime | None,
        capacity: Capacity,
        decide: Callable[[Load], Route],
        queued: Callable[[], int] = lambda: 0,
    ) -> None:
        self._local, self._remote = local, remote
        self._capacity = capacity
        self._decide = decide
        self._queued = queued
        self._used = local
        self._stop = threading.Event()

    def run(self, request_uri: str, spec: StageSpec, on_event: OnEvent) -> int:
        """See ``Runtime.run``.

        Raises:
            Preempted: the task was ended while it waited.
        """
        slot = self._place(spec)
        if slot is None and self._remote is not None:
            self._used = self._remote
            return self._remote.run(request_uri, spec, on_event)
        with slot or contextlib.nullcontext():
            self._used = self._local
            return self._local.run(request_uri, spec, on_event)

    def _place(self, spec: StageSpec) -> Lease | None:
        """Wait for a slot; None when an API is to do it."""
        with contextlib.ExitStack() as stack:
            shown = False
            while not self._stop.is_set():
                slot = self._capacity.claim()
                if slot is not None:
                    return slot
                found = self._decide(self._measured(own_ticket=shown))
                log.info("%s: %s: %s", spec.name, found.where, found.reason)
                if found.where == "burst" and self._remote is not None:
                    return None
                if not shown:
                    stack.enter_context(self._capacity.ticket())
                    shown = True
                self._stop.wait(LOOK_S)
        raise Preempted(f"{spec.name} was ended while it waited for a slot")

    def _measured(self, *, own_ticket: bool) -> Load:
        load = self._capacity.load()
        waiting = max(0, load.queued - own_ticket) + self._queued()
        return replace(load, queued=waiting)

    @property
    def was_remote(self) -> bool:
        """See ``Runtime.was_remote``."""
        return self._used is not self._local

    def kill(self) -> None:
        """See ``Runtime.kill``."""
        self._stop.set()
        self._used.kill()

    @property
    def last_words(self) -> str:
        """See ``Runtime.last_words``."""
        return self._used.last_words
