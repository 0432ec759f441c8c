"""Lines on the terminal while a campaign runs: one for each task that ends."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

_NAMES = {
    "read_brief": "brief read",
    "validate_rows": "rows checked",
    "plan": "planned",
    "collect_reviews": "reviews collected",
    "report": "report written",
}


@dataclass
class Progress:
    """Prints tasks as they end, each once."""

    stream: IO[str] = field(default_factory=lambda: sys.stdout)
    _seen: set[tuple[Any, ...]] = field(default_factory=set)
    _start: float = field(default_factory=time.monotonic)

    def line(self, text: str) -> None:
        """Print a line with the time since the start."""
        self.stream.write(f"  {time.monotonic() - self._start:6.1f} s  {text}\n")
        self.stream.flush()

    def task(self, instance: Mapping[str, Any]) -> None:
        """Print a task that has ended; anything else, and what was printed before, is ignored.

        Args:
            instance: ``task_id``, ``map_index``, ``state``, ``seconds`` or ``duration``, and
                optionally ``label`` or ``rendered_map_index``, ``try_number``, ``message``.
        """
        state = str(instance.get("state"))
        if state not in ("success", "failed", "up_for_retry", "awaiting_input"):
            return
        key = (instance["task_id"], instance["map_index"], state, instance.get("try_number"))
        if key in self._seen:
            return
        self._seen.add(key)
        self.line(describe(instance, state))


def describe(instance: Mapping[str, Any], state: str) -> str:
    """One task in words: ``face_swap  anna … tom (8)  12.3 s``."""
    task_id = str(instance["task_id"])
    name = _NAMES.get(task_id, task_id.rpartition(".")[2])
    label = instance.get("label") or instance.get("rendered_map_index") or ""
    seconds = instance.get("seconds", instance.get("duration")) or 0.0
    text = f"{name:18} {label:28} {seconds:6.1f} s"
    if state == "awaiting_input":
        return f"{name:18} {label:28} waits for a person"
    if state == "up_for_retry":
        return f"{text}  failed, will be tried again"
    if state == "failed":
        first = str(instance.get("message") or "see the task's log").strip().splitlines()[0]
        return f"{text}  FAILED: {first}"
    return text
