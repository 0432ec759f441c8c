"""How long a process waits for its object store: the time during which somebody was waiting.

Threads that wait at the same time count once (the union of their waits, not the sum), so the
figure never exceeds the wall time. Heartbeats, which nobody waits for, are left out.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from include.store.base import ObjectInfo, ObjectStore

_ASIDE = threading.local()
T = TypeVar("T")


class Waiting:
    """A clock that runs while at least one thread is inside ``busy``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        self._total = 0.0

    @property
    def seconds(self) -> float:
        """Waited so far, the wait that is going on included."""
        with self._lock:
            running = time.monotonic() - self._since if self._inside else 0.0
            return self._total + running

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count the time that passes inside."""
        if getattr(_ASIDE, "on", False):
            yield
            return
        with self._lock:
            if not self._inside:
                self._since = time.monotonic()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._total += time.monotonic() - self._since


WAITING = Waiting()
"""This process's."""


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """What this thread asks of a store inside is not waited for by anybody."""
    _ASIDE.on = True
    try:
        yield
    finally:
        _ASIDE.on = False


class TimedStore(ObjectStore):
    """A store whose every answer is waited for on a clock; else it is the store that it wraps."""

    def __init__(self, store: ObjectStore, waiting: Waiting = WAITING) -> None:
        self.store = store
        self._waiting = waiting

    @property
    def uri(self) -> str:
        """The wrapped store's."""
        return self.store.uri

    def get(self, key: str) -> bytes:
        """See ``ObjectStore.get``."""
        with self._waiting.busy():
            return self.store.get(key)

    def chunks(self, key: str) -> Iterator[bytes]:
        """See ``ObjectStore.chunks``; what the caller does between the pieces does not count."""
        yield from self._each(self.store.chunks(key))

    def get_file(self, key: str, dst: Path) -> None:
        """See ``ObjectStore.get_file``."""
        with self._waiting.busy():
            self.store.get_file(key, dst)

    def put(self, key: str, data: bytes) -> None:
        """See ``ObjectStore.put``."""
        with self._waiting.busy():
            self.store.put(key, data)

    def put_file(self, key: str, src: Path) -> None:
        """See ``ObjectStore.put_file``."""
        with self._waiting.busy():
            self.store.put_file(key, src)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """See ``ObjectStore.put_if_absent``."""
        with self._waiting.busy():
            return self.store.put_if_absent(key, data)

    def head(self, key: str) -> ObjectInfo | None:
        """See ``ObjectStore.head``."""
        with self._waiting.busy():
            return self.store.head(key)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See ``ObjectStore.list``; what the caller does between two objects does not count."""
        yield from self._each(self.store.list(prefix))

    def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``."""
        with self._waiting.busy():
            self.store.delete(key)

    def copy(self, src_key: str, dst_key: str) -> None:
        """See ``ObjectStore.copy``."""
        with self._waiting.busy():
            self.store.copy(src_key, dst_key)

    def presign(self, key: str, expires_s: int) -> str:
        """See ``ObjectStore.presign``."""
        with self._waiting.busy():
            return self.store.presign(key, expires_s)

    def sweep(self, older_than_s: float) -> int:
        """See ``ObjectStore.sweep``."""
        with self._waiting.busy():
            return self.store.sweep(older_than_s)

    def _each(self, items: Iterator[T]) -> Iterator[T]:
        while True:
            try:
                with self._waiting.busy():
                    item = next(items)
            except StopIteration:
                return
            yield item
