"""Plans: a brief and its table, checked and turned into rows, keys and shards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from include.contracts.base import Contract, Sha256, Slug
from include.contracts.brief import Brief
from include.contracts.live import LiveState
from include.contracts.manifest import BackendRef, BlobRef, KeyMaterial

TEMPLATE_UNIT = "template"
"""The unit id that the template's own stages work on."""


class SourceRef(Contract):
    """An input file, copied into the store under its digest when the campaign was planned."""

    blob: BlobRef
    origin: str
    """Where it came from, as written in the brief or the table; for messages only."""


class Reject(Contract):
    """A row, or the part of a row, that cannot be rendered, and why."""

    line: int
    """Line of the recipients table, the header being line 1."""
    recipient: str
    code: str
    message: str


class UnitPlan(Contract):
    """One unit of work: a recipient's row, or the template."""

    id: Slug
    line: int = 0
    sources: dict[str, SourceRef] = Field(default_factory=dict)
    """``video``, ``bed`` for the template; ``face``, ``audio``, ``consent`` for a recipient."""
    script: str | None = None
    """The line to be spoken, variables filled in."""
    locale: str = "en"
    voice: str | None = None
    lip_sync: bool = True
    """False when the row has neither audio nor script: the template's own sound stays."""
    materials: dict[str, KeyMaterial] = Field(default_factory=dict)
    """Per artifact name (see ``include/stages/specs.py``), what decides its key."""

    def key(self, artifact: str) -> str:
        """The artifact's key. KeyError when this unit has no such artifact."""
        return self.materials[artifact].key()


class ShardRef(Contract):
    """A shard by reference: all that goes through XCom."""

    store: str
    tenant: Slug
    plan: str
    """Object key of the ShardPlan."""
    label: str
    rows: int


class ShardPlan(Contract):
    """What one mapped task group renders: some rows, the template they share, the settings."""

    schema_version: Literal[1] = 1
    brief: Brief
    brief_sha256: Sha256
    label: str
    """Shown in the Airflow grid: ``rows 1-8 (anna .. tom)``."""
    template: UnitPlan
    rows: tuple[UnitPlan, ...]
    shared_by: tuple[str, ...] = ()
    """Object keys of the shards whose rows the template is for: in the template's own plan."""
    chunk_s: float = Field(ge=0)
    """Length of the chunks that long templates are worked through in, seconds; 0 for none."""
    backends: dict[str, BackendRef] = Field(default_factory=dict)
    """By stage, where what was live when the campaign was planned is not the default."""
    instead: str = ""
    """What these rows are made with instead of what was planned (``include.remote.fallback``)."""
    variants: tuple[ShardRef, ...] = ()
    """In the template's own plan: the same template for rows that try other backends."""

    def unit(self, unit_id: str) -> UnitPlan:
        """The template or a row by id. KeyError when there is none."""
        for unit in (self.template, *self.rows):
            if unit.id == unit_id:
                return unit
        raise KeyError(unit_id)


class CampaignPlan(Contract):
    """The whole campaign, planned."""

    schema_version: Literal[1] = 1
    store: str
    tenant: Slug
    campaign: Slug
    plan_id: Sha256
    template: ShardRef
    """A shard with no rows: what the template's stages are run with."""
    shards: tuple[ShardRef, ...]
    rejects: tuple[Reject, ...]
    accepted: int
    min_success_ratio: float
    rejects_csv: str
    """Object key of rejects.csv."""
    live: tuple[LiveState, ...] = ()
    """What was live when the campaign was planned."""
