"""The audit log: who did what to what, and when; append only, each record chained to the last.

One JSON object a record, ``<tenant>/audit/<yyyy>/<mm>/<number>.json``. A record's place is decided
by the record before it and taken with a conditional put, so of two writers one gets the place and
the other chains to it: nothing is overwritten and the chain never forks. A month is ended by a
record that names the next one; the first record's place is decided by ``<tenant>/audit/begun``.

A change of any record, a gap or a reordering shows in ``verify``. Two things a chain alone cannot
show: that its newest records were cut off, and that somebody who may write to the store made all of
it anew. Whoever needs that keeps the newest digest somewhere else.

Subjects are digests and ids, never names, texts or media.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from include.contracts.base import Contract, Sha256, Slug, canonical_json, digest_json
from include.errors import CorruptArtifact, StoreUnavailable
from include.store import ObjectStore
from include.store.bulk import in_parallel

Ident = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/+@=-]{0,199}$")]
"""A digest or an id: no spaces, so no sentence and no full name gets in."""
Action = Annotated[str, StringConstraints(pattern=r"^[a-z_]+(\.[a-z_]+)+$")]
Month = Annotated[str, StringConstraints(pattern=r"^\d{4}/\d{2}$")]

BEGUN = "audit.begun"
MONTH_CLOSED = "audit.month_closed"
_TRIES = 200
_BATCH = 256


class AuditRecord(Contract):
    """One record."""

    schema_version: Literal[1] = 1
    tenant: Slug
    number: int = Field(ge=1)
    """From 1 (``audit.begun``) without gaps, through all months."""
    previous: Sha256 | None
    """``digest`` of the record before; None for the first."""
    at: datetime
    """UTC, never before the record before."""
    by: Ident
    """Account, command or run."""
    action: Action
    """Such as ``rollout.promoted``."""
    subject: dict[str, Ident] = Field(default_factory=dict)
    """What it was done to: digests and ids by role."""
    next_month: Month | None = None
    """In the last record of a month: where the next record is."""
    nonce: str
    """Random: tells a writer its own record from another's."""
    digest: Sha256
    """Of the record's canonical JSON without this field."""

    @property
    def folder(self) -> str:
        """Month in which the record after this one lies, unless a month is closed first."""
        return self.next_month or month_of(self.at)


def ident(text: str) -> str:
    """Text as an id: what cannot be in one becomes ``_``."""
    cleaned = re.sub(r"[^A-Za-z0-9._:/+@=-]", "_", text)[:200]
    return cleaned if re.match(r"[A-Za-z0-9]", cleaned) else f"x{cleaned}"[:200]


def month_of(at: datetime) -> str:
    """``yyyy/mm`` in UTC."""
    return at.astimezone(UTC).strftime("%Y/%m")


def append(
    store: ObjectStore,
    tenant: str,
    action: str,
    *,
    by: str,
    subject: Mapping[str, str],
    now: datetime | None = None,
) -> AuditRecord:
    """Add a record at the end of a tenant's log.

    Args:
        store: where.
        tenant: whose log.
        action: what was done, such as ``rollout.promoted``.
        by: who did it: an account or a run; see ``ident`` for free text.
        subject: digests and ids by role.
        now: the time; default now. A clock that runs behind the log's gets the log's time.

    Returns:
        The record as stored.

    Raises:
        ValidationError: action, actor or subject are not of that form.
        CorruptArtifact: the newest record cannot be read; see ``verify``.
        StoreUnavailable: as the store says, or too many writers at a time (``audit.busy``).
    """
    wanted = now or datetime.now(UTC)
    for attempt in range(_TRIES):
        head = _head(store, tenant, month_of(wanted))
        if head is None:
            _begin(store, tenant, by, wanted)
            continue
        at = max(wanted, head.at, _first_of(head.folder))
        if month_of(at) > head.folder:
            closing = {"by": by, "action": MONTH_CLOSED, "next_month": month_of(at)}
            _take(store, _record(tenant, head, at=max(head.at, _first_of(head.folder)), **closing))
            continue
        record = _record(tenant, head, at=at, by=by, action=action, subject=dict(subject))
        if _take(store, record):
            return record
        time.sleep(random.uniform(0, 0.02 * min(attempt + 1, 10)))
    raise StoreUnavailable(
        f"the audit log of {tenant} is written by too many at a time; run it again",
        code="audit.busy",
    )


def _begin(store: ObjectStore, tenant: str, by: str, now: datetime) -> None:
    """Write the first record, where whoever came first says that it lies."""
    marker = f"{tenant}/audit/begun"
    store.put_if_absent(marker, now.isoformat().encode())
    at = datetime.fromisoformat(store.get(marker).decode())
    _take(store, _record(tenant, None, at=at, by=by, action=BEGUN))


def _first_of(month: str) -> datetime:
    """The moment at which a month begins."""
    return datetime.strptime(f"{month}/01", "%Y/%m/%d").replace(tzinfo=UTC)


def _record(tenant: str, head: AuditRecord | None, **fields: object) -> AuditRecord:
    body = {
        "tenant": tenant,
        "number": head.number + 1 if head else 1,
        "previous": head.digest if head else None,
        "nonce": uuid.uuid4().hex,
        **fields,
    }
    draft = AuditRecord.model_validate({**body, "digest": "0" * 64})
    return draft.model_copy(update={"digest": _digest(draft)})


def _digest(record: AuditRecord) -> str:
    return digest_json(record.model_dump(mode="json", exclude={"digest"}))


def _take(store: ObjectStore, record: AuditRecord) -> bool:
    """Put a record in its place; False when another record has it."""
    key, body = key_of(record), canonical_json(record.model_dump(mode="json"))
    # A lost reply makes a store say "taken" of our own record: contents decide.
    return store.put_if_absent(key, body) or store.get(key) == body


def key_of(record: AuditRecord) -> str:
    """Where a record lies."""
    return f"{record.tenant}/audit/{month_of(record.at)}/{record.number:012d}.json"


def _head(store: ObjectStore, tenant: str, month: str) -> AuditRecord | None:
    """The newest record. Listed is one month; all of them only where that one is empty."""
    prefix = f"{tenant}/audit/"
    keys = _keys(store, f"{prefix}{month}/") or _keys(store, prefix)
    if not keys:
        return None
    head = _read(store.get(keys[-1]), keys[-1])
    while head.next_month:
        keys = _keys(store, f"{prefix}{head.next_month}/")
        if not keys:
            break
        head = _read(store.get(keys[-1]), keys[-1])
    return head


def _keys(store: ObjectStore, prefix: str) -> list[str]:
    return [info.key for info in store.list(prefix) if info.key.endswith(".json")]


def _read(body: bytes, key: str) -> AuditRecord:
    try:
        return AuditRecord.model_validate_json(body)
    except ValidationError as error:
        raise CorruptArtifact(
            f"audit record {key} cannot be read; verify the log, and restore the record from a "
            "backup",
            code="audit.broken",
            where=key,
        ) from error


def records(store: ObjectStore, tenant: str) -> Iterator[AuditRecord]:
    """Every record, oldest first, unchecked.

    Raises:
        CorruptArtifact: one cannot be read.
    """
    for key, body in _bodies(store, tenant):
        yield _read(body, key)


def tail(store: ObjectStore, tenant: str, most: int) -> list[AuditRecord]:
    """The newest records, oldest of them first, unchecked.

    Raises:
        CorruptArtifact: one cannot be read.
    """
    keys = _keys(store, f"{tenant}/audit/")[-most:]
    bodies = in_parallel(store.get, keys)
    return [_read(body, key) for key, body in zip(keys, bodies, strict=True)]


def _bodies(store: ObjectStore, tenant: str) -> Iterator[tuple[str, bytes]]:
    keys = _keys(store, f"{tenant}/audit/")
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        yield from zip(batch, in_parallel(store.get, batch), strict=True)


@dataclass(frozen=True)
class Verified:
    """What a reader found."""

    records: int
    """Records that hold, from the first on."""
    head: Sha256 | None
    """Digest of the last of them."""
    broken: str | None = None
    """Object key of the first record that does not hold."""
    problem: str = ""
    """What is wrong with it."""

    @property
    def holds(self) -> bool:
        """Whether the whole log does."""
        return self.broken is None


def verify(store: ObjectStore, tenant: str) -> Verified:
    """Check every record and its link to the one before; stops at the first that does not hold."""
    last: AuditRecord | None = None
    for key, body in _bodies(store, tenant):
        problem = _problem(key, body, last, tenant)
        if problem:
            count = last.number if last else 0
            return Verified(count, last.digest if last else None, key, problem)
        last = _read(body, key)
    return Verified(last.number if last else 0, last.digest if last else None)


def _problem(key: str, body: bytes, last: AuditRecord | None, tenant: str) -> str:
    try:
        record = AuditRecord.model_validate_json(body)
    except ValidationError as error:
        return f"it is no audit record: {error.errors(include_url=False)[0]['msg']}"
    if record.digest != _digest(record):
        return "its content was changed: its digest is another"
    number = last.number + 1 if last else 1
    if record.number != number:
        return f"record {number} is missing before it, or it was put in another's place"
    if key != key_of(record) or record.tenant != tenant:
        return "it lies in another place than it was written to"
    if record.previous != (last.digest if last else None):
        return "it was not chained to the record that stands before it"
    if last and (record.at < last.at or month_of(record.at) != last.folder):
        return "its time does not follow the record before it"
    return ""
