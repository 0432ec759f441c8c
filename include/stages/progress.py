"""How far a stage has come, kept in the store beside its request.

For whoever waits elsewhere: a pod's log is gone with its node, and a task that left its worker
reads no log before the end. Written every few seconds at most; failing to write it stops nobody.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from include.errors import UnderstudyError
from include.store import ObjectStore

EVERY_S = 10.0
"""At most one object in this time."""


def progress_key(request: str) -> str:
    """Object key of the progress that belongs to a request.

    Args:
        request: the request's object key, ``….request.json``.
    """
    return request.removesuffix(".request.json") + ".progress.json"


def keep_progress(
    store: ObjectStore, key: str, clock: Callable[[], float] = time.monotonic
) -> Callable[[Mapping[str, Any]], None]:
    """Something that takes events and stores the newest progress among them.

    Args:
        store: where to.
        key: object key.
        clock: seconds that only grow.
    """
    due = clock() + EVERY_S

    def take(event: Mapping[str, Any]) -> None:
        nonlocal due
        if event.get("event") != "progress" or clock() < due:
            return
        due = clock() + EVERY_S
        with contextlib.suppress(UnderstudyError):
            store.put(key, json.dumps(dict(event)).encode())

    return take


def read_progress(store: ObjectStore, key: str) -> str | None:
    """The last progress in words, such as ``eve 50/200``; None when there is none."""
    try:
        event = json.loads(store.get(key))
    except (UnderstudyError, ValueError):
        return None
    return f"{event.get('unit') or ''} {event.get('done')}/{event.get('total')}".strip()
