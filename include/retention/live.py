"""What is in use: the artifact keys and source files that live plans name.

A plan is written before anything is looked up for it, and every key of a render can be computed
from it. So a plan is the declaration of use. It is live while one of these holds:

* the plan was written within the grace period (planning a campaign again writes it again);
* a run that works on it wrote a request or a result within the grace period;
* a person has not yet answered a question about one of its rows (at most ``REVIEW_DAYS``);
* a lease on one of its artifacts beats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from include.contracts.plan import ShardPlan
from include.contracts.stage import ReviewItem, StageRequest, StageResult
from include.errors import CorruptArtifact
from include.store.base import ObjectInfo, ObjectStore
from include.store.bulk import in_parallel
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

Stamp = tuple[str, datetime]


@dataclass
class Marks:
    """What live plans name."""

    keys: set[str] = field(default_factory=set)
    """Artifact keys."""
    sources: set[str] = field(default_factory=set)
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
        self._seen: dict[str, Stamp] = {}
        files = list(self._files())
        ids = {_plan_id(info.key) for info in files if info.modified >= since}
        ids |= self._of_runs(since, now)
        self._read(info for info in files if _plan_id(info.key) in ids)
        self._of_leases(now, [info for info in files if _plan_id(info.key) not in ids])
        # What is not live now was seen as well: only what is written from now on is news.
        self._seen.update({info.key: _stamp(info) for info in files})

    def look_again(self) -> None:
        """Mark what plans name that were written since the last look."""
        news = [info for info in self._files() if self._seen.get(info.key) != _stamp(info)]
        self._read(news)

    def _files(self) -> Iterator[ObjectInfo]:
        for info in self._store.list(f"{self._tenant}/plan/"):
            name = info.key.rsplit("/", 1)[1]
            if name.startswith(_NAMES) and name.endswith(".json"):
                yield info

    def _read(self, files: Iterable[ObjectInfo]) -> None:
        files = list(files)
        for info, plan in zip(files, in_parallel(self._plan, files), strict=True):
            self._seen[info.key] = _stamp(info)
            if plan is not None:
                self._mark(plan)

    def _plan(self, info: ObjectInfo) -> ShardPlan | None:
        """A plan, or None when it is gone or of a form that no worker here would take."""
        try:
            return ShardPlan.model_validate_json(self._store.get(info.key))
        except (CorruptArtifact, ValidationError):
            return None

    def _mark(self, plan: ShardPlan) -> None:
        self.marks.plans += 1
        for unit in (plan.template, *plan.rows):
            self.marks.keys.update(material.key() for material in unit.materials.values())
            self.marks.sources.update(ref.blob.sha256 for ref in unit.sources.values())

    def _of_runs(self, since: datetime, now: datetime) -> set[str]:
        """Ids of the plans that recent runs work on, or that a question is open about."""
        found: set[str] = set()
        newest: dict[str, ObjectInfo] = {}
        asked: list[str] = []
        for info in self._records():
            run = info.key.rsplit("/", 2)[0]
            if "/review/" in info.key:
                if info.modified >= now - timedelta(days=REVIEW_DAYS):
                    asked.append(info.key)
            elif info.modified >= since and not info.key.endswith(_OTHER_RECORDS):
                newest[run] = info
        found.update(filter(None, in_parallel(self._plan_of_record, newest.values())))
        found.update(filter(None, in_parallel(self._plan_of_question, asked)))
        return found

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

    def _of_leases(self, now: datetime, others: list[ObjectInfo]) -> None:
        """Mark the plans among the others that say what a living lease is about."""
        beats = now - timedelta(seconds=_BEATS_S)
        leases = self._store.list(f"{self._tenant}/lease/")
        names = {info.key.split("/")[2] for info in leases if info.modified >= beats}
        held = {name for name in names if _KEY.fullmatch(name)}
        for info in sorted(others, key=lambda info: info.modified, reverse=True):
            if not held - self.marks.keys:
                return
            plan = self._plan(info)
            units = (plan.template, *plan.rows) if plan else ()
            keys = {m.key() for unit in units for m in unit.materials.values()}
            if plan and keys & held:
                self._mark(plan)


def _plan_id(key: str) -> str:
    return key.split("/")[2]


def _stamp(info: ObjectInfo) -> Stamp:
    return info.etag, info.modified
