"""Garbage collection by reachability: deletes what nothing needs, and nothing that a render needs.

**What goes.** Manifests whose time is over by the policy and that no live plan names; then blobs
that no manifest and no live plan names, if they were written before the grace period began. A
manifest goes before its blobs, so a collector that is killed leaves artifacts that exist or
blobs without a manifest, which the next one removes. Other objects are never touched.

**Why a running render loses nothing.** Let a *use* be a plan (it names every key that its render
will ask for, see ``live``), and let the collector delete in batches, each announced by a notice
(``include.store.notice``) *before* it looks for new plans and deletes.

1. A plan that was there at that look is honoured by the batch: what it names is not deleted.
2. A plan that came later was written after the announcement. Its planner looks for a notice after
   writing, sees the batch, and waits until it is over. Batches after that fall under 1.
3. So nothing that a render looks up after its plan is settled is deleted while the plan is live.
   Source files are looked up before the plan is written; the planner remembers the batch number
   from before that and copies missing ones again if the number has changed.
4. A blob that a stage is about to name is in no plan. ``ArtifactCache.publish`` relies on a stored
   blob only if it was written less than ``TRUST_S`` ago; an older one it writes again, then looks
   for a notice, waits, and makes sure that the blob is there. Doomed blobs were written before the
   grace period began, counted from the start of the collection, and are looked at once more within
   the batch: one that was just written is spared, whenever its manifest comes.

What is left: a collector that stops for ``DEAD_S - FENCE_S`` within a single deletion, after it
looked at its clock, and then goes on could delete what was just looked up. Even then nothing wrong
is served: an artifact exists only with all that it names, so a row fails as transient and is made
again.
"""

from __future__ import annotations

import itertools
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from include.errors import CorruptArtifact, LeaseHeld, Usage
from include.retention.live import LivePlans
from include.retention.policy import Retention, artifacts, worth_of
from include.store.base import ObjectInfo, ObjectStore
from include.store.bulk import in_parallel
from include.store.lease import Lease, store_time
from include.store.notice import FENCE_S, TRUST_S, Notice, notice_key, read_notice

log = logging.getLogger(__name__)

BATCH = 500
"""Objects deleted under one announcement; a planner may have to wait for that long."""

_LEAF = re.compile(r"[^/]+/.+/[0-9a-f]{2}/[0-9a-f]{64}")


@dataclass
class Collected:
    """What one collection found and did."""

    tenant: str
    dry_run: bool
    plans: int = 0
    """Live plans, by shard."""
    kept: int = 0
    """Artifacts that stay."""
    doomed: dict[str, int] = field(default_factory=dict)
    """Artifacts that go, by name."""
    blobs: int = 0
    bytes: int = 0
    blobs_kept: int = 0
    leftovers: int = 0
    """Interrupted uploads that were removed."""


def collect(
    store: ObjectStore,
    tenant: str,
    policy: Retention,
    grace: timedelta,
    *,
    dry_run: bool = False,
    trust_s: float = TRUST_S,
) -> Collected:
    """Collect one tenant's garbage.

    Args:
        store: where it lies.
        tenant: whose.
        policy: what is kept how long.
        grace: nothing that was written, planned or run more recently than this is touched. Longer
            than the longest pause of a run: a run that did nothing for longer counts as over.
        dry_run: find out what would go, and delete nothing.
        trust_s: what ``ArtifactCache`` relies on; for tests.

    Raises:
        LeaseHeld: another collection of this tenant is at work.
        Usage: the grace period is too short to be safe (``gc.grace``).
        StoreUnavailable: as the store says; what was deleted until then was garbage.
    """
    if grace.total_seconds() < 2 * trust_s:
        raise Usage(
            f"A grace period of {grace} is too short; give at least "
            f"{timedelta(seconds=2 * trust_s)}.",
            code="gc.grace",
        )
    with Lease.acquire(store, tenant, "gc") as lease:
        now = store_time(store, f"{tenant}/lease/gc/")
        work = _Collection(store, tenant, policy, now, grace, dry_run, lease)
        work.run()
        return work.found


class _Collection:
    """One collection: what it knows while it works."""

    def __init__(
        self,
        store: ObjectStore,
        tenant: str,
        policy: Retention,
        now: datetime,
        grace: timedelta,
        dry_run: bool,
        lease: Lease,
    ) -> None:
        self.found = Collected(tenant, dry_run)
        self._store, self._tenant, self._policy, self._lease = store, tenant, policy, lease
        self._now, self._since = now, now - grace
        self._live = LivePlans(store, tenant, self._since, now)
        self._blobs: set[str] = set()
        """Digests that an artifact which stays names."""
        self._number = read_notice(store, tenant).number

    def run(self) -> None:
        """Manifests, then blobs, then what interrupted uploads left."""
        stay, doomed = self._judge()
        self.found.kept, self.found.plans = len(stay), self._live.marks.plans
        self._hold(stay)
        gone = list(self._delete(doomed, self._still_doomed))
        for stage, _ in map(_split, gone):
            self.found.doomed[stage] = self.found.doomed.get(stage, 0) + 1
        gone = list(self._delete(self._orphans(), self._still_orphan))
        self.found.blobs, self.found.bytes = len(gone), sum(info.size for info in gone)
        if not self.found.dry_run:
            age = (self._now - self._since).total_seconds()
            self.found.leftovers = self._store.sweep(age)

    def _judge(self) -> tuple[list[ObjectInfo], list[ObjectInfo]]:
        """All manifests, in those that stay and those that are doomed."""
        stay: list[ObjectInfo] = []
        old: list[ObjectInfo] = []
        known = set(artifacts())
        for info in self._manifests():
            artifact, key = _split(info)
            if artifact not in known:  # a decision, a refusal, or what a later version makes
                stay.append(info)
                continue
            days = self._policy.days(worth_of(artifact))
            held = info.modified >= self._since or key in self._live.marks.keys
            young = days is None or info.modified >= self._now - timedelta(days=days)
            (stay if held or young else old).append(info)
        wanted = self._behind_published([info for info in stay if _split(info)[0] == "publish"])
        doomed = [info for info in old if _split(info)[1] not in wanted]
        return [*stay, *(info for info in old if _split(info)[1] in wanted)], doomed

    def _manifests(self) -> Iterator[ObjectInfo]:
        """Everything that is named as manifests are, of artifacts that we do not know as well."""
        blobs = f"{self._tenant}/blob/"
        for info in self._store.list(f"{self._tenant}/"):
            if not info.key.startswith(blobs) and _LEAF.fullmatch(info.key):
                yield info

    def _behind_published(self, publications: list[ObjectInfo]) -> set[str]:
        """Keys of the signatures and verdicts that publications rest on."""
        wanted: set[str] = set()
        signed = self._upstream([info.key for info in publications], "sign")
        wanted |= signed
        keys = [f"{self._tenant}/sign/{key[:2]}/{key}" for key in sorted(signed)]
        return wanted | self._upstream(keys, "classify")

    def _upstream(self, manifests: list[str], artifact: str) -> set[str]:
        found = (body.get("material", {}).get("upstream", {}) for body in self._bodies(manifests))
        return {str(upstream[artifact]) for upstream in found if artifact in upstream}

    def _hold(self, manifests: list[ObjectInfo]) -> None:
        """Remember what these manifests name."""
        for body in self._bodies([info.key for info in manifests]):
            outputs = body.get("outputs", {}).values()
            self._blobs.update(str(blob["sha256"]) for blob in outputs if "sha256" in blob)

    def _bodies(self, keys: list[str]) -> Iterator[dict[str, Any]]:
        """Manifests as plain JSON, whatever version of us wrote them; the unreadable are left out.

        A manifest that is no JSON never was an artifact: it does not keep any blob.
        """

        def read(key: str) -> dict[str, Any]:
            try:
                body = json.loads(self._store.get(key))
            except (CorruptArtifact, ValueError):
                return {}
            return body if isinstance(body, dict) else {}

        yield from in_parallel(read, keys)

    def _orphans(self) -> Iterator[ObjectInfo]:
        for info in self._store.list(f"{self._tenant}/blob/"):
            if self._is_orphan(info):
                yield info
            else:
                self.found.blobs_kept += 1

    def _is_orphan(self, info: ObjectInfo) -> bool:
        sha256 = info.key.rsplit("/", 1)[1]
        named = sha256 in self._blobs or sha256 in self._live.marks.sources
        return not named and info.modified < self._since

    def _still_orphan(self, info: ObjectInfo) -> bool:
        now = self._store.head(info.key)
        return now is not None and self._is_orphan(now)

    def _still_doomed(self, info: ObjectInfo) -> bool:
        """Spare a manifest that a new plan names, and with it what it names."""
        if _split(info)[1] not in self._live.marks.keys:
            return True
        self._hold([info])
        return False

    def _delete(
        self, doomed: Iterator[ObjectInfo] | list[ObjectInfo], still: Callable[[ObjectInfo], bool]
    ) -> Iterator[ObjectInfo]:
        """Delete in announced batches what is doomed ``still``; yields what went."""
        waiting = iter(doomed)
        if self.found.dry_run:
            yield from waiting
            return
        while batch := list(itertools.islice(waiting, BATCH)):
            while batch:
                done = self._delete_batch(batch, still)
                yield from (i for i, gone in zip(batch, done, strict=True) if gone)
                batch = [i for i, gone in zip(batch, done, strict=True) if gone is None]

    def _delete_batch(
        self, batch: list[ObjectInfo], still: Callable[[ObjectInfo], bool]
    ) -> list[bool | None]:
        if not self._lease.held:
            raise LeaseHeld("Another collection took over; this one stops.", code="gc.taken")
        began = time.monotonic()
        self._announce(active=True)
        try:
            self._live.look_again()
            return in_parallel(lambda info: self._settle(info, still, began), batch)
        finally:
            self._announce(active=False)

    def _settle(
        self, info: ObjectInfo, still: Callable[[ObjectInfo], bool], began: float
    ) -> bool | None:
        """Delete one object. Whether it went; None when the batch took too long to go on."""
        if not still(info):
            return False
        if time.monotonic() - began > FENCE_S:
            return None
        self._store.delete(info.key)
        return True

    def _announce(self, *, active: bool) -> None:
        self._number += active
        notice = Notice(number=self._number, active=active, at=datetime.now(UTC))
        self._store.put(notice_key(self._tenant), notice.model_dump_json().encode())


def _split(info: ObjectInfo) -> tuple[str, str]:
    """Artifact name and key of a manifest."""
    _, rest = info.key.split("/", 1)
    stage, _, key = rest.rsplit("/", 2)
    return stage, key
