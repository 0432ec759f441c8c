"""What drift leaves in the store: findings, verdicts, reference windows, the states of a gate."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from include.contracts.base import Contract, Sha256, Slug
from include.expectations.suites import DriftTest
from include.features.catalogue import AssetKind

Steadiness = Literal["steady", "drifted", "too_few"]


class Bars(Contract):
    """Two histograms over the same bins."""

    labels: tuple[str, ...] = ()
    """Of categories; empty for a number."""
    edges: tuple[float, ...] = ()
    """Borders of a number's bins, one more than there are counts; the outer bins are open."""
    reference: tuple[int, ...]
    current: tuple[int, ...]


class Finding(Contract):
    """One drift rule, judged."""

    feature: str
    unit: str = ""
    test: DriftTest
    state: Steadiness
    what: Literal["values", "nulls"] = "values"
    """What drifted: the values, or how often there is none."""
    said: str
    """The finding in words."""
    rows_reference: int
    """Rows with a value."""
    rows_current: int
    nulls_reference: float
    """Share of rows without a value, 0 to 1."""
    nulls_current: float
    p: float | None = None
    alpha: float
    """What ``p`` has to be below."""
    size: float | None = None
    threshold: float
    """What ``size`` has to be above."""
    shift: float | None = None
    psi: float | None = None
    middle_reference: float | None = None
    """Median of a number."""
    middle_current: float | None = None
    bars: Bars | None = None


class Breach(Contract):
    """One hard rule that stored rows break."""

    rule: str
    feature: str
    said: str
    """What the rule asks for and what to do."""
    rows: int
    worst: tuple[str, ...]
    """Assets that break it, worst first, a few."""


class Refusal(Contract):
    """One hard rule that refused incoming or finished assets: they are in no comparison."""

    rule: str
    rows: int


class Offender(Contract):
    """An asset that is least like the reference in what drifted."""

    asset: Sha256
    unit: str
    campaign: str
    run_id: str
    feature: str
    value: float | str | bool | None
    picture: str | None = None
    """Object key of a picture of it."""


Outcome = Literal["ok", "drift", "broken", "no_reference", "too_few"]


class KindVerdict(Contract):
    """What a validation found about one kind of asset of one tenant."""

    kind: AssetKind
    outcome: Outcome
    rows: int
    since: datetime | None = None
    """Time of the oldest row that was judged."""
    until: datetime | None = None
    """Time of the newest."""
    suite: Sha256
    """Digest of the expectations."""
    window: Sha256 | None = None
    """The reference it was compared with."""
    version: int | None = None
    findings: tuple[Finding, ...] = ()
    breaches: tuple[Breach, ...] = ()
    offenders: tuple[Offender, ...] = ()
    batch: Sha256 | None = None
    """Digest of the rows that were judged: what a person accepts is exactly these."""
    gate: int | None = None
    """Number of the gate's state when the rows were chosen; 0 for none."""
    new: int = 0
    """Of the rows those that no earlier run had judged."""
    refused: int = 0
    """Further assets of the same time that hard rules refused."""
    refusals: tuple[Refusal, ...] = ()
    """By which rules, most first; one asset may break several."""

    @property
    def drifted(self) -> tuple[Finding, ...]:
        """The findings that say drift, largest first."""
        found = [finding for finding in self.findings if finding.state == "drifted"]
        return tuple(sorted(found, key=lambda one: -(one.size or 0.0) / one.threshold))

    @property
    def said(self) -> str:
        """The verdict in one line."""
        if not self.refused:
            return self._judged
        rules = ", ".join(f"{one.rule} {one.rows}" for one in self.refusals[:3])
        return f"{self._judged}; {self.refused} more were refused by hard rules ({rules})"

    @property
    def _judged(self) -> str:
        if self.outcome == "no_reference":
            return f"{self.kind}: {self.rows} rows, and no reference window to compare them with"
        if not self.rows:
            return f"{self.kind}: no rows that were not judged before"
        if self.outcome == "too_few":
            return f"{self.kind}: {self.rows} rows are too few to say anything"
        parts = [f"{breach.rule} broken by {breach.rows} rows" for breach in self.breaches]
        parts += [finding.said for finding in self.drifted[:3]]
        more = len(self.drifted) - 3
        parts += [f"and {more} more"] if more > 0 else []
        return f"{self.kind}: {'; '.join(parts) if parts else f'{self.rows} rows as expected'}"


class DriftVerdict(Contract):
    """What a validation found about one tenant."""

    schema_version: Literal[1] = 1
    tenant: Slug
    run_id: str
    at: datetime
    kinds: tuple[KindVerdict, ...]
    report: str
    """Object key of the page that explains it."""
    docs: str | None = None
    """Object key of the first page of Great Expectations' own report."""


class Window(Contract):
    """A reference: rows that somebody accepted. Never changes; a new one is another version."""

    schema_version: Literal[1] = 1
    tenant: Slug
    kind: AssetKind
    version: int = Field(ge=1)
    rows_sha256: Sha256
    """Digest of its Parquet file, which lies beside this record under that name."""
    rows: int
    since: datetime
    until: datetime
    accepted_by: str
    accepted_at: datetime
    note: str = ""


class GateState(Contract):
    """One state of a gate; the newest holds, older ones are its history."""

    schema_version: Literal[1] = 1
    tenant: Slug
    kind: AssetKind
    number: int = Field(ge=1)
    state: Literal["open", "closed"]
    """``open``: an alarm stands and campaigns are held to the tenant's policy."""
    reason: Literal["drift", "recovered", "accepted", "resumed"]
    by: str
    """Who or which run."""
    at: datetime
    said: str
    """What drifted, or why it is over."""
    run_id: str = ""
    report: str = ""
    """Object key of the page that explains it."""
    until: datetime | None = None
    """Time of the newest row that was judged; recovery is judged by later rows only."""
    features: tuple[str, ...] = ()
    """What drifted, where the gate opened: it recovers when each of them is as expected."""
