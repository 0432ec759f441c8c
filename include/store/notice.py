"""What the garbage collector is deleting right now, told to those who may be about to use it.

Collector and users each write first and look afterwards: the collector announces a batch, then
looks for plans; a planner writes its plan, then looks for an announced batch. Reads follow writes
in every store that we use, so at least one of them sees the other. A user that sees a batch waits
until it is over; whatever it asks the store after that is true.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from pydantic import ValidationError

from include.contracts.base import Contract
from include.errors import CorruptArtifact
from include.store.base import ObjectStore

FENCE_S = 20.0
"""The collector deletes nothing any more this long after it announced a batch."""
DEAD_S = 60.0
"""A batch that stands unchanged for this long belongs to a collector that was killed."""
TRUST_S = 1800.0
"""An object that was written this recently is not deleted: the shortest grace is twice as long."""
_LONG_S = 1800.0
"""Longer than clocks may differ (object stores refuse 15 minutes), and any batch takes."""
_POLL_S = 0.1
_NEVER = datetime.min.replace(tzinfo=UTC)


class Notice(Contract):
    """The last batch that was announced, and whether it is going on."""

    number: int
    active: bool
    at: datetime


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

    Returns:
        The number of the last batch that was announced.
    """
    first = read_notice(store, tenant)
    if (datetime.now(UTC) - first.at).total_seconds() > _LONG_S:
        return first.number
    found, give_up = first, time.monotonic() + dead_s
    while found.active and found.number == first.number and time.monotonic() < give_up:
        time.sleep(_POLL_S)
        found = read_notice(store, tenant)
    return found.number
