"""A stage's events as lines of the task log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

PROGRESS_EVERY_S = 10.0
"""At most one progress line in the task log in this time, and one at the end."""


class EventLog:
    """Turns events into lines; remembers the last error."""

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
