"""The interface of a runtime: run one stage on one request, wherever that is."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from include.errors import Bug
from include.stages.specs import StageSpec

OnEvent = Callable[[Mapping[str, Any]], None]
"""Takes one event (see ``include.contracts.stage.Event``) as plain data, as it arrives."""


class Runtime(ABC):
    """Runs stages; one instance serves one task and runs one stage at a time."""

    @abstractmethod
    def run(self, request_uri: str, spec: StageSpec, on_event: OnEvent) -> int:
        """Run a stage to its end.

        Args:
            request_uri: where the stage reads its request: ``store-uri#object-key``.
            spec: the stage, with what it needs to run.
            on_event: called for each event the stage reports, in order.

        Returns:
            The exit code of the stage contract; negative when a signal ended the process.

        Raises:
            UnderstudyError: the runtime knows more than an exit code says.
        """

    def resume(
        self, request_uri: str, spec: StageSpec, on_event: OnEvent, event: Mapping[str, Any]
    ) -> int:
        """Go on where ``run`` left the task, for runtimes that do not wait in the worker.

        Args:
            request_uri: as for ``run``.
            spec: as for ``run``.
            on_event: as for ``run``.
            event: what the trigger said.

        Returns:
            As ``run``.
        """
        raise Bug(f"{type(self).__name__} does not leave its task")

    @abstractmethod
    def kill(self) -> None:
        """Stop the running stage with everything it started. Safe to call at any time."""

    @property
    def was_remote(self) -> bool:
        """Whether the last run was at model APIs, whose failures a fallback may mend."""
        return False

    @property
    @abstractmethod
    def last_words(self) -> str:
        """The end of what the stage wrote outside the contract, for error messages."""


def event_in(line: str) -> Mapping[str, Any] | None:
    """The event in a line of a stage's output; None for anything else (a library's chatter)."""
    if not line.startswith("{"):
        return None
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None
