"""Our own slots as leases in the store, and how many tasks take or await one: measured, not set."""

from __future__ import annotations

import contextlib
import random
import uuid

from include.errors import LeaseHeld
from include.remote.routing import Load
from include.remote.shared import SHARED
from include.store import ObjectStore
from include.store.lease import Lease, live_leases


class Capacity:
    """The slots of one pool of machines.

    Args:
        store: where all who share the machines meet.
        pool: its name.
        slots: how many there are.
    """

    def __init__(self, store: ObjectStore, pool: str, slots: int) -> None:
        self._store = store
        self._name = f"capacity-{pool}-"
        self.slots = slots

    def claim(self) -> Lease | None:
        """Take a slot that is free; None when none is. Release it when done."""
        for number in random.sample(range(self.slots), self.slots):
            with contextlib.suppress(LeaseHeld):
                return Lease.acquire(self._store, SHARED, f"{self._name}slot-{number}")
        return None

    def ticket(self) -> Lease:
        """Show that somebody waits. Release it when not."""
        return Lease.acquire(self._store, SHARED, f"{self._name}wait-{uuid.uuid4().hex[:16]}")

    def load(self) -> Load:
        """How many slots are taken, and how many tasks show that they wait."""
        live = live_leases(self._store, SHARED, self._name)
        taken = {name for name in live if name.startswith(f"{self._name}slot-")}
        return Load(self.slots, len(taken), len(live) - len(taken))
