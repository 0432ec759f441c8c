"""Leases: who makes an artifact right now, so that others do not make it too.

A lease saves work and never carries correctness: two holders at a time would make the same artifact
twice, and the first manifest would win. It is an object ``{tenant}/lease/{key}/{epoch}``, created
conditionally (one winner) and rewritten as a heartbeat. Whoever finds it stale creates the
next epoch, again conditionally.

Clocks: a lease is stale when the object was last written more than its ``ttl_s`` before the
*store's* present, which is read from a probe object written at that moment. Both times come
from the store's clock, so the clocks of workers may disagree. The two seconds of tolerance cover
S3's times in whole seconds. A holder on this machine whose process is gone is stale at once.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import uuid
from datetime import UTC, datetime
from types import TracebackType

from pydantic import Field, ValidationError

from include.contracts.base import Contract
from include.errors import LeaseHeld, StoreRefused, StoreUnavailable, UnderstudyError
from include.store.base import ObjectInfo, ObjectMissing, ObjectStore
from include.store.holder import Holder
from include.store.waiting import aside

log = logging.getLogger(__name__)

_BEATS_PER_TTL = 4
_TOLERANCE_S = 2.0


class LeaseRecord(Contract):
    """What a lease object says."""

    token: str
    """Random; tells two leases of one process apart."""
    holder: Holder
    heartbeat: datetime
    """By the holder's clock: for people who read it, not for decisions."""
    ttl_s: float = Field(gt=0)


class Lease:
    """A lease that is held, kept alive by a background thread until ``release``.

    Use as a context manager::

        with Lease.acquire(store, tenant, key) as lease:
            ...  # lease.held turns False if somebody took it over
    """

    def __init__(self, store: ObjectStore, prefix: str, epoch: int, record: LeaseRecord) -> None:
        self.epoch = epoch
        self._store = store
        self._prefix = prefix
        self._record = record
        self._lost = threading.Event()
        self._stop = threading.Event()
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{epoch}", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls, store: ObjectStore, tenant: str, key: str, ttl_s: float = 60.0) -> Lease:
        """Take the lease of an artifact.

        Args:
            store: where leases are kept: the same store for everybody who competes.
            tenant: first segment of the lease's key.
            key: the artifact's key.
            ttl_s: how long without a heartbeat until others may take over.

        Raises:
            LeaseHeld: somebody alive holds it; give the slot back and try again later.
            StoreUnavailable: as the store says.
        """
        prefix = f"{tenant}/lease/{key}/"
        record = LeaseRecord(
            token=uuid.uuid4().hex,
            holder=Holder.here(),
            heartbeat=datetime.now(UTC),
            ttl_s=ttl_s,
        )
        seen = _epochs(store, prefix)
        _refuse_if_live(store, prefix, seen, key)
        epoch = max(seen, default=0) + 1
        name = _name(prefix, epoch)
        if not store.put_if_absent(name, _body(record)) and not _is_ours(store, name, record):
            raise _held(key, _read(store, name))
        # A slow racer may have decided on an outdated listing; with two epochs alive both retreat.
        try:
            rivals = {e: i for e, i in _epochs(store, prefix).items() if e != epoch}
            _refuse_if_live(store, prefix, rivals, key)
        except UnderstudyError:
            store.delete(name)
            raise
        for old in rivals:
            store.delete(_name(prefix, old))
        return cls(store, prefix, epoch, record)

    @property
    def held(self) -> bool:
        """False once released, taken over, or not renewed for ``ttl_s``."""
        fresh = time.monotonic() - self._beaten < self._record.ttl_s
        return fresh and not self._lost.is_set() and not self._stop.is_set()

    def release(self) -> None:
        """Give the lease up; more than once is fine. An unreachable store is only logged."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        if not self._lost.is_set():
            try:
                self._store.delete(_name(self._prefix, self.epoch))
            except (StoreUnavailable, StoreRefused) as error:
                log.warning(
                    "Lease %s%d stays until it is stale: %s", self._prefix, self.epoch, error
                )

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _beat(self) -> None:
        while not self._stop.wait(self._record.ttl_s / _BEATS_PER_TTL):
            try:
                with aside():
                    self._renew()
            except UnderstudyError as error:
                log.warning("Heartbeat of %s%d failed: %s", self._prefix, self.epoch, error)
            if self._lost.is_set():
                log.warning("Lease %s%d was taken over.", self._prefix, self.epoch)
                return

    def _renew(self) -> None:
        """Rewrite the object, unless it is gone or a later epoch stands: then it is lost."""
        epochs = _epochs(self._store, self._prefix)
        if max(epochs, default=0) != self.epoch:
            self._lost.set()
            if self.epoch in epochs:
                self._store.delete(_name(self._prefix, self.epoch))
            return
        record = self._record.model_copy(update={"heartbeat": datetime.now(UTC)})
        self._store.put(_name(self._prefix, self.epoch), _body(record))
        self._beaten = time.monotonic()


def live_leases(store: ObjectStore, tenant: str, beginning: str) -> set[str]:
    """The keys of leases that are held by somebody alive.

    Args:
        store: where leases are kept.
        tenant: first segment of the leases' keys.
        beginning: what the keys of the artifacts, or whatever is leased, begin with.
    """
    root = f"{tenant}/lease/"
    names = {info.key[len(root) :].rpartition("/")[0] for info in store.list(root + beginning)}
    live = set()
    for name in names:
        prefix = f"{root}{name}/"
        try:
            _refuse_if_live(store, prefix, _epochs(store, prefix), name)
        except LeaseHeld:
            live.add(name)
    return live


def _refuse_if_live(
    store: ObjectStore, prefix: str, epochs: dict[int, ObjectInfo], key: str
) -> None:
    now: datetime | None = None
    for epoch, info in epochs.items():
        record = _read(store, _name(prefix, epoch))
        if record is None or record.holder.is_dead():
            continue
        now = now or store_time(store, prefix)
        if (now - info.modified).total_seconds() <= record.ttl_s + _TOLERANCE_S:
            raise _held(key, record)


def store_time(store: ObjectStore, prefix: str) -> datetime:
    """Read the store's clock from the time stamp of an object written now.

    Args:
        store: the store.
        prefix: where to write it; it is deleted at once.
    """
    probe = f"{prefix}probe-{uuid.uuid4().hex}"
    try:
        store.put(probe, b"")
        info = store.head(probe)
    finally:
        store.delete(probe)
    if info is None:
        raise StoreUnavailable(f"{store.uri} lost an object that was just written.", where=probe)
    return info.modified


def _epochs(store: ObjectStore, prefix: str) -> dict[int, ObjectInfo]:
    found = ((info.key[len(prefix) :], info) for info in store.list(prefix))
    return {int(name): info for name, info in found if name.isdecimal()}


def _read(store: ObjectStore, name: str) -> LeaseRecord | None:
    """Return the record, or None when it is gone or is no lease of ours (counts as stale)."""
    with contextlib.suppress(ObjectMissing, ValidationError):
        return LeaseRecord.model_validate_json(store.get(name))
    return None


def _is_ours(store: ObjectStore, name: str, record: LeaseRecord) -> bool:
    """Tell a lost race from our own write whose reply was lost."""
    found = _read(store, name)
    return found is not None and found.token == record.token


def _held(key: str, record: LeaseRecord | None) -> LeaseHeld:
    who = f"process {record.holder.pid} on {record.holder.host}" if record else "another process"
    return LeaseHeld(f"{who} is making artifact {key} now; try again later.", where=key)


def _name(prefix: str, epoch: int) -> str:
    return f"{prefix}{epoch:08d}"


def _body(record: LeaseRecord) -> bytes:
    return record.model_dump_json().encode()
