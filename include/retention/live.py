"""What is in use: the artifact keys and source files that live plans name.

A plan is written before anything is looked up for it, and every key of a render can be computed
from it. So a plan is the declaration of use. It is live while one of these holds:

* the plan was written within the grace period (planning a campaign again writes it again);
* a run that works on it wrote a request or a result within the grace period;
* a person has not yet answered a question about one of its rows (at most ``REVIEW_DAYS``);
* a lease on one of its artifacts beats.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from include.contracts.plan import ShardPlan
from include.contracts.stage import ReviewItem, StageRequest, StageResult
from include.errors import CorruptArtifact
from include.retention.keyset import KeySet
from include.store.base import ObjectInfo, ObjectStore
from include.store.bulk import in_batches
from include.store.cache import ArtifactCache
from include.verdict import DECISION

REVIEW_DAYS = 60
"""How long a question that nobody answers keeps what it is about."""
_OTHER_RECORDS = (".progress.json", ".pod.json")
"""Beside a run's requests and results; they name no plan."""
_NAMES = ("shard-", "template", "plan-")
"""Beginnings of the names of shard plans: a campaign's, and those of rows that fell back."""
_BEATS_S = 300.0
"""A lease that was written this recently may be alive."""
_KEY = re.compile("[0-9a-f]{64}")
"""Leases of artifacts; others are on the collection itself, or on places that are published to."""
_PLANS_AT_ONCE = 32
"""Plans of which what they name is held at a time."""
_RECORDS_AT_ONCE = 500
_NEWEST = 5000
"""Plans that are ordered by age at a time."""


@dataclass
class Marks:
    """What live plans name."""

    keys: KeySet = field(default_factory=KeySet)
    """Artifact keys."""
    sources: KeySet = field(default_factory=KeySet)
    """SHA-256 of source files."""
    plans: int = 0


class LivePlans:
    """The plans of a tenant that are in use; may be asked again for those that came since."""

    def __init__(self, store: ObjectStore, tenant: str, since: datetime, now: datetime) -> None:
        """Read the plans that are live.

        Args:
            store: where they are.
            tenant: whose.
            since: beginning of the grace period, by the store's clock.
            now: the present, by the store's clock.
        """
        self.marks = Marks()
        self._store, self._tenant = store, tenant
        self._seen = KeySet()
        """Stamps of the files that were read, or are of no plan that is live."""
        ids = self._of_runs(since, now)
        self._read(self._of_live(since, ids))
        self._of_leases(now, ids)

    def look_again(self) -> None:
        """Mark what plans name that were written since the last look."""
        self._read(info for info in self._files() if _stamp(info) not in self._seen)

    def _of_live(self, since: datetime, ids: set[str]) -> Iterator[ObjectInfo]:
        """The files of plans that are live; adds the ids of those that are young."""
        for plan_id, group in itertools.groupby(self._files(), lambda info: _plan_id(info.key)):
            files = list(group)
            if any(info.modified >= since for info in files):
                ids.add(plan_id)
            # What is not live now was seen as well: only what is written from now on is news.
            self._seen.update(map(_stamp, files))
            if plan_id in ids:
                yield from files

    def _files(self) -> Iterator[ObjectInfo]:
        for info in self._store.list(f"{self._tenant}/plan/"):
            name = info.key.rsplit("/", 1)[1]
            if name.startswith(_NAMES) and name.endswith(".json"):
                yield info

    def _read(self, files: Iterable[ObjectInfo]) -> None:
        for named in in_batches(self._named, files, _PLANS_AT_ONCE):
            self._mark(named)

    def _named(self, info: ObjectInfo) -> tuple[list[str], list[str]] | None:
        """Keys and sources that a plan names; None for what is no plan (any more)."""
        plan = self._plan(info.key)
        self._seen.add(_stamp(info))
        if plan is None:
            return None
        units = (plan.template, *plan.rows)
        keys = [material.key() for unit in units for material in unit.materials.values()]
        return keys, [ref.blob.sha256 for unit in units for ref in unit.sources.values()]

    def _plan(self, key: str) -> ShardPlan | None:
        """A plan, or None when it is gone or of a form that no worker here would take."""
        try:
            return ShardPlan.model_validate_json(self._store.get(key))
        except (CorruptArtifact, ValidationError):
            return None

    def _mark(self, named: tuple[list[str], list[str]] | None) -> None:
        if named is not None:
            self.marks.plans += 1
            self.marks.keys.update(named[0])
            self.marks.sources.update(named[1])

    def _of_runs(self, since: datetime, now: datetime) -> set[str]:
        """Ids of the plans that recent runs work on, or that a question is open about."""
        asked = now - timedelta(days=REVIEW_DAYS)
        records = (
            info
            for info in self._records()
            if info.modified >= (asked if _is_question(info.key) else since)
            and (_is_question(info.key) or not info.key.endswith(_OTHER_RECORDS))
        )
        newest = self._newest(records)
        return set(filter(None, in_batches(self._plan_of, newest, _RECORDS_AT_ONCE)))

    def _newest(self, records: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """All questions, and of what else lies in one folder of a run the last."""
        for _, group in itertools.groupby(records, lambda info: info.key.rsplit("/", 2)[0]):
            last = None
            for info in group:
                if _is_question(info.key):
                    yield info
                else:
                    last = info
            if last is not None:
                yield last

    def _plan_of(self, info: ObjectInfo) -> str | None:
        question = _is_question(info.key)
        return self._plan_of_question(info.key) if question else self._plan_of_record(info)

    def _records(self) -> Iterator[ObjectInfo]:
        for kind in ("run", "result"):
            yield from self._store.list(f"{self._tenant}/{kind}/")

    def _plan_of_record(self, info: ObjectInfo) -> str | None:
        try:
            body = self._store.get(info.key)
            contract = StageRequest if info.key.endswith(("request", "request.json")) else None
            record = (contract or StageResult).model_validate_json(body)
        except (CorruptArtifact, ValidationError):
            return None
        return _plan_id(record.plan)

    def _plan_of_question(self, key: str) -> str | None:
        try:
            item = ReviewItem.model_validate_json(self._store.get(key))
        except (CorruptArtifact, ValidationError):
            return None
        cache = ArtifactCache(self._store, self._tenant)
        answered = cache.lookup(DECISION, item.decision) is not None
        return None if answered else _plan_id(item.plan)

    def _of_leases(self, now: datetime, ids: set[str]) -> None:
        """Mark the plans among the others that say what a living lease is about, newest first."""
        beats = now - timedelta(seconds=_BEATS_S)
        leases = self._store.list(f"{self._tenant}/lease/")
        names = {info.key.split("/")[2] for info in leases if info.modified >= beats}
        held = {name for name in names if _KEY.fullmatch(name) and name not in self.marks.keys}
        for info in self._others(ids) if held else ():
            named = self._named(info)
            if named is not None and held.intersection(named[0]):
                self._mark(named)
                held.difference_update(named[0])
            if not held:
                return

    def _others(self, ids: set[str]) -> Iterator[ObjectInfo]:
        """Files of other plans than these, newest first: listed again where they are many."""
        last: tuple[datetime, str] | None = None
        while True:
            others = (info for info in self._files() if _plan_id(info.key) not in ids)
            older = (i for i in others if last is None or (i.modified, i.key) < last)
            newest = heapq.nlargest(_NEWEST, older, lambda info: (info.modified, info.key))
            yield from newest
            if len(newest) < _NEWEST:
                return
            last = newest[-1].modified, newest[-1].key


def _plan_id(key: str) -> str:
    return key.split("/")[2]


def _is_question(key: str) -> bool:
    return "/review/" in key


def _stamp(info: ObjectInfo) -> str:
    """Changes whenever a file is written again."""
    stamp = f"{info.key} {info.etag} {info.modified.timestamp()}"
    return hashlib.blake2b(stamp.encode(), digest_size=8).hexdigest()
