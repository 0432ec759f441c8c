"""Garbage collection by reachability: deletes what nothing needs, and nothing that a render needs.

**What goes.** Manifests whose time is over by the policy and that no live plan names; then blobs
that no manifest and no live plan names, if they were written before the grace period began. A
manifest goes before its blobs, so a collector that is killed leaves artifacts that exist or
blobs without a manifest, which the next one removes. Other objects are never touched.

**Why a running render loses nothing.** Let a *use* be a plan (it names every key that its render
will ask for, see ``live``), and let the collector delete in batches, each announced by a notice
(``include.store.notice``) *before* it looks for new plans and deletes, and renewed meanwhile.

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

Manifests are judged, read and deleted page by page; what is remembered of all of them are eight
bytes a digest.

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
from datetime import datetime, timedelta
from typing import Any

from include.errors import CorruptArtifact, LeaseHeld, StoreUnavailable, Usage
from include.retention.keyset import KeySet
from include.retention.live import LivePlans
from include.retention.policy import Retention, artifacts, chunk_of, worth_of
from include.store.base import ObjectInfo, ObjectStore
from include.store.bulk import in_parallel
from include.store.lease import Lease, store_time
from include.store.notice import FENCE_S, TRUST_S, Batch, read_notice

log = logging.getLogger(__name__)

BATCH = 500
"""Objects deleted under one announcement. A planner may have to wait for that long, and for the
look at the plans before it."""
MOST = 20 * BATCH
"""The same where the look takes longer than the deletions."""
_AT_ONCE = 500
"""Manifests that are read, and held, at a time."""
_TRIES = 5
"""Batches in a row that may come to nothing."""

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


@dataclass(frozen=True)
class _Doomed:
    """An object that is to go."""

    info: ObjectInfo
    named: str
    """What a plan that needs it names: the artifact, of a blob its digest."""


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
        self._blobs = KeySet()
        """Digests that an artifact which stays names."""
        self._number = read_notice(store, tenant).number

    def run(self) -> None:
        """Manifests, then blobs, then what interrupted uploads left."""
        self.found.plans = self._live.marks.plans
        for item in self._delete(self._judge(), self._still_doomed):
            stage, _ = _split(item.info)
            self.found.doomed[stage] = self.found.doomed.get(stage, 0) + 1
        for item in self._delete(self._orphans(), self._still_orphan):
            self.found.blobs += 1
            self.found.bytes += item.info.size
        if not self.found.dry_run:
            age = (self._now - self._since).total_seconds()
            self.found.leftovers = self._store.sweep(age)

    def _judge(self) -> Iterator[_Doomed]:
        """The manifests that are doomed; what the others name is remembered on the way."""
        known, wanted = set(artifacts()), self._behind_published()
        manifests = self._manifests()
        while page := list(itertools.islice(manifests, _AT_ONCE)):
            old = {info.key for info in page if self._is_old(info, known, wanted)}
            doomed = self._doomed([info for info in page if info.key in old])
            going = {item.info.key for item in doomed}
            stay = [info for info in page if info.key not in going]
            self.found.kept += len(stay)
            self._hold(stay)
            yield from doomed

    def _is_old(self, info: ObjectInfo, known: set[str], wanted: KeySet) -> bool:
        artifact, key = _split(info)
        if artifact not in known:  # a decision, a refusal, or what a later version makes
            return False
        days = self._policy.days(worth_of(artifact))
        held = info.modified >= self._since or key in self._live.marks.keys or key in wanted
        return not held and days is not None and info.modified < self._now - timedelta(days=days)

    def _doomed(self, old: list[ObjectInfo]) -> list[_Doomed]:
        """Of these, what no live plan names."""
        named = zip(old, in_parallel(self._named, old), strict=True)
        return [_Doomed(info, key) for info, key in named if key not in self._live.marks.keys]

    def _named(self, info: ObjectInfo) -> str:
        """The key that a plan names: a chunk's own is known to its stage only."""
        artifact, key = _split(info)
        whole = chunk_of(artifact)
        if whole is None:
            return key
        return str(self._body(info.key).get("material", {}).get("upstream", {}).get(whole, key))

    def _manifests(self) -> Iterator[ObjectInfo]:
        """Everything that is named as manifests are, of artifacts that we do not know as well."""
        blobs = f"{self._tenant}/blob/"
        for info in self._store.list(f"{self._tenant}/"):
            if not info.key.startswith(blobs) and _LEAF.fullmatch(info.key):
                yield info

    def _behind_published(self) -> KeySet:
        """Keys of the signatures and verdicts that publications rest on; those stay for ever."""
        wanted = KeySet()
        published = (i.key for i in self._store.list(f"{self._tenant}/publish/"))
        for page in _pages(filter(_LEAF.fullmatch, published)):
            signed = self._upstream(page, "sign")
            wanted.update(signed)
            keys = [f"{self._tenant}/sign/{key[:2]}/{key}" for key in sorted(signed)]
            wanted.update(self._upstream(keys, "classify"))
        return wanted

    def _upstream(self, manifests: list[str], artifact: str) -> set[str]:
        bodies = in_parallel(self._body, manifests)
        found = (body.get("material", {}).get("upstream", {}) for body in bodies)
        return {str(upstream[artifact]) for upstream in found if artifact in upstream}

    def _hold(self, manifests: list[ObjectInfo]) -> None:
        """Remember what these manifests name."""
        for digests in in_parallel(self._digests, [info.key for info in manifests]):
            self._blobs.update(digests)

    def _digests(self, key: str) -> list[str]:
        outputs = self._body(key).get("outputs", {}).values()
        return [str(blob["sha256"]) for blob in outputs if "sha256" in blob]

    def _body(self, key: str) -> dict[str, Any]:
        """A manifest as plain JSON, whatever version of us wrote it; empty if it is unreadable.

        A manifest that is no JSON never was an artifact: it does not keep any blob.
        """
        try:
            body = json.loads(self._store.get(key))
        except (CorruptArtifact, ValueError):
            return {}
        return body if isinstance(body, dict) else {}

    def _orphans(self) -> Iterator[_Doomed]:
        for info in self._store.list(f"{self._tenant}/blob/"):
            if self._is_orphan(info):
                yield _Doomed(info, info.key.rsplit("/", 1)[1])
            else:
                self.found.blobs_kept += 1

    def _is_orphan(self, info: ObjectInfo) -> bool:
        sha256 = info.key.rsplit("/", 1)[1]
        named = sha256 in self._blobs or sha256 in self._live.marks.sources
        return not named and info.modified < self._since

    def _still_orphan(self, item: _Doomed) -> bool:
        now = self._store.head(item.info.key)
        return now is not None and self._is_orphan(now)

    def _still_doomed(self, item: _Doomed) -> bool:
        """Spare a manifest that a new plan names, and with it what it names."""
        if item.named not in self._live.marks.keys:
            return True
        self._hold([item.info])
        return False

    def _delete(
        self, doomed: Iterator[_Doomed], still: Callable[[_Doomed], bool]
    ) -> Iterator[_Doomed]:
        """Delete in announced batches what is doomed ``still``; yields what went."""
        if self.found.dry_run:
            yield from doomed
            return
        size, tries = BATCH, 0
        while batch := list(itertools.islice(doomed, size)):
            while batch:
                done, look_s, work_s = self._delete_batch(batch, still)
                yield from (i for i, gone in zip(batch, done, strict=True) if gone)
                left = [i for i, gone in zip(batch, done, strict=True) if gone is None]
                tries = tries + 1 if len(left) == len(batch) else 0
                if tries == _TRIES:
                    raise StoreUnavailable(
                        f"{self._store.uri} took more than {FENCE_S:.0f} s to write a small "
                        f"object, {tries} times; nothing was deleted then. Try again when it is "
                        "faster",
                        code="gc.slow",
                    )
                slow = not left and look_s > work_s
                size, batch = min(MOST, 2 * size) if slow else BATCH, left

    def _delete_batch(
        self, batch: list[_Doomed], still: Callable[[_Doomed], bool]
    ) -> tuple[list[bool | None], float, float]:
        """Delete under one announcement.

        Returns:
            As ``_settle``; the seconds that the look at the plans took, and those of the deletions.
        """
        if not self._lease.held:
            raise LeaseHeld("Another collection took over; this one stops.", code="gc.taken")
        self._number += 1
        began = time.monotonic()
        with Batch(self._store, self._tenant, self._number, FENCE_S) as announced:
            self._live.look_again()
            looked = time.monotonic()
            done = in_parallel(lambda item: self._settle(item, still, announced, looked), batch)
            return done, looked - began, time.monotonic() - looked

    def _settle(
        self, item: _Doomed, still: Callable[[_Doomed], bool], announced: Batch, looked: float
    ) -> bool | None:
        """Delete one object. Whether it went; None when the batch took too long to go on."""
        if not still(item):
            return False
        in_time = time.monotonic() - looked <= FENCE_S  # planners wait no longer than that
        if not (in_time and announced.stands and self._lease.held):
            return None
        self._store.delete(item.info.key)
        return True


def _pages(keys: Iterator[str]) -> Iterator[list[str]]:
    while page := list(itertools.islice(keys, _AT_ONCE)):
        yield page


def _split(info: ObjectInfo) -> tuple[str, str]:
    """Artifact name and key of a manifest."""
    _, rest = info.key.split("/", 1)
    stage, _, key = rest.rsplit("/", 2)
    return stage, key
