"""The stage contract: the request a stage process reads, the result and events it writes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from include.contracts.base import Contract, Sha256, Slug


class StageRequest(Contract):
    """What ``python -m include.stages <name> --request <uri>`` reads."""

    schema_version: Literal[1] = 1
    stage: str
    store: str
    """URI of the object store."""
    tenant: Slug
    plan: str
    """Object key of the shard plan."""
    units: tuple[Slug, ...]
    """Which units of the plan to work on (``template`` for the template's stages)."""
    run_id: str
    """Airflow's run id, or a name given by hand; recorded, never part of a key."""
    result: str
    """Object key to write the StageResult to."""
    attempt: int = Field(default=1, ge=1)
    last_attempt: bool = True
    """On the last attempt failed rows are recorded and the process exits 0."""
    may_wait: bool = False
    """Whether whoever asks waits for what others make now: such rows have not failed then."""
    threads: int = Field(default=1, ge=1)
    chunk: int | None = Field(default=None, ge=0)
    """Make only this chunk of a chunked stage's artifacts; the artifacts themselves come later."""


class UnitResult(Contract):
    """What became of one unit in one stage."""

    id: Slug
    status: Literal["made", "hit", "failed", "skipped", "held"]
    """``skipped``: an earlier stage failed for this unit. ``held``: waits for a person."""
    key: Sha256 | None = None
    code: str | None = None
    message: str | None = None
    retry: bool = False
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    io_seconds: float = 0.0
    """Wall time during which the process waited for the object store (since version 2)."""


class StageResult(Contract):
    """What a stage did for its units. Not cached: only artifacts are."""

    schema_version: Literal[1, 2] = 2
    stage: str
    plan: str
    run_id: str
    chunk: int | None = None
    """Set when only a chunk of each artifact was asked for."""
    units: tuple[UnitResult, ...]
    started_process: bool = True
    """False when every unit was cached and no process was started."""
    remote: bool = False
    """Made by model APIs: its seconds are not those of our own machines."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    io_seconds: float = 0.0
    """Wall time during which the process waited for the object store (since version 2)."""
    peak_mib: float = 0.0


class StageResultRef(Contract):
    """A result by reference: what goes through XCom."""

    stage: str
    result: str
    """Object key of the StageResult."""
    made: int
    hit: int
    failed: int
    held: int


class Event(Contract):
    """One JSON line on a stage's stdout."""

    event: Literal["start", "progress", "warning", "unit", "result", "error"]
    stage: str
    unit: str | None = None
    done: int | None = None
    total: int | None = None
    message: str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class ReviewItem(Contract):
    """A row that a person has to look at."""

    store: str
    tenant: Slug
    plan: str
    unit: Slug
    label: str
    reasons: tuple[str, ...]
    contact_sheet: str
    """Object key of the contact sheet (JPEG)."""
    video: str
    """Object key of the unsigned video."""
    decision: Sha256
    """Key of the decision artifact: the video's key and the policy's version."""
    subject: str
    body: str
    """Markdown."""


class Decision(Contract):
    """A person's answer, stored as an artifact: a re-run neither asks nor renders again."""

    schema_version: Literal[1] = 1
    unit: Slug
    video_key: Sha256
    policy_version: str
    approved: bool
    by: str
    at: str
    note: str = ""
