"""What the garbage collector is deleting right now, told to those who may be about to use it.

Collector and users each write first and look afterwards: the collector announces a batch, then
looks for plans; a planner writes its plan, then looks for an announced batch. Reads follow writes
in every store that we use, so at least one of them sees the other. A user that sees a batch waits
until it is over; whatever it asks the store after that is true.
"""

from __future__ import annotations

import logging
import threading
import time
from datetime import UTC, datetime

from pydantic import ValidationError

from include.contracts.base import Contract
from include.errors import CorruptArtifact, UnderstudyError
from include.store.base import ObjectStore
from include.store.waiting import aside

log = logging.getLogger(__name__)

FENCE_S = 20.0
"""The collector deletes nothing any more this long after it began to announce a batch, or to say
again that it goes on; nor does it go on where saying so took longer."""
DEAD_S = 60.0
"""A batch that stands unchanged for this long belongs to a collector that was killed."""
TRUST_S = 1800.0
"""An object that was written this recently is not deleted: the shortest grace is twice as long."""
_LONG_S = 1800.0
"""Longer than clocks may differ (object stores refuse 15 minutes), and any batch takes."""
_POLL_S = 0.1
_BEATS_PER_FENCE = 4
_NEVER = datetime.min.replace(tzinfo=UTC)


class Notice(Contract):
    """The last batch that was announced, and whether it is going on."""

    number: int
    active: bool
    at: datetime
    """When that was last said."""


def notice_key(tenant: str) -> str:
    """Where a tenant's notice lies."""
    return f"{tenant}/gc/notice.json"


def read_notice(store: ObjectStore, tenant: str) -> Notice:
    """The notice as it stands; number 0 where nothing was ever collected."""
    try:
        return Notice.model_validate_json(store.get(notice_key(tenant)))
    except (CorruptArtifact, ValidationError):  # absent or unreadable
        return Notice(number=0, active=False, at=_NEVER)


def settled(store: ObjectStore, tenant: str) -> int | None:
    """The number of the last batch if it is over, else None: what is seen now may go away."""
    found = read_notice(store, tenant)
    return None if found.active else found.number


def await_quiet(store: ObjectStore, tenant: str, dead_s: float = DEAD_S) -> int:
    """Wait until the batch that is announced now, if one is, is over.

    It goes on for as long as the notice is renewed. Only what was read after the time was up
    says that it was not.

    Returns:
        The number of the last batch that was announced.
    """
    first = read_notice(store, tenant)
    if (datetime.now(UTC) - first.at).total_seconds() > _LONG_S:
        return first.number
    found, give_up = first, time.monotonic() + dead_s
    while found.active and found.number == first.number:
        time.sleep(_POLL_S)
        last, late = found, time.monotonic() >= give_up
        found = read_notice(store, tenant)
        if found.at != last.at:
            give_up = time.monotonic() + dead_s
        elif late:
            break
    return found.number


class Batch:
    """An announced batch, said again while it goes on; use it in a ``with`` statement.

    Args:
        store: where the notice lies.
        tenant: whose garbage.
        number: of the batch, larger than that of the last.
        fence_s: ``FENCE_S``.

    Raises:
        StoreUnavailable: it could not be announced.
    """

    def __init__(self, store: ObjectStore, tenant: str, number: int, fence_s: float) -> None:
        self._store, self._tenant, self._number, self._fence_s = store, tenant, number, fence_s
        self._stop = threading.Event()
        self._until = time.monotonic() + fence_s
        self._say(active=True)
        self._thread = threading.Thread(target=self._beat, name=f"gc-{number}", daemon=True)

    @property
    def stands(self) -> bool:
        """Whether everybody still waits for this batch, so that it may delete."""
        return time.monotonic() < self._until

    def __enter__(self) -> Batch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._say(active=False)

    def _beat(self) -> None:
        while not self._stop.wait(self._fence_s / _BEATS_PER_FENCE) and self.stands:
            began = time.monotonic()
            try:
                with aside():
                    self._say(active=True)
            except UnderstudyError as error:
                log.warning("The batch %d could not be announced again: %s", self._number, error)
                continue
            if self.stands:  # else somebody may have stopped waiting meanwhile
                self._until = began + self._fence_s

    def _say(self, *, active: bool) -> None:
        notice = Notice(number=self._number, active=active, at=datetime.now(UTC))
        self._store.put(notice_key(self._tenant), notice.model_dump_json().encode())
