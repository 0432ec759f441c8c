"""Artifacts: what a stage made, under which key, and from what."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from include.contracts.base import Contract, Sha256, Slug, digest_json


class BlobRef(Contract):
    """One stored file, named by its content."""

    sha256: Sha256
    size: int = Field(ge=0)
    media_type: str = "application/octet-stream"
    filename: str
    """Name to give the file when it is fetched; its suffix tells the container."""


class BackendRef(Contract):
    """The code and weights that did the work: part of the key."""

    name: str
    version: str
    weights_sha256: Sha256 | None = None


class KeyMaterial(Contract):
    """Everything that decides a stage's output; its digest is the artifact's key.

    Upstream *keys*, never upstream output digests, so that every key down to the final video
    can be computed from the brief alone. Time and consent are not in keys.
    """

    stage: str
    stage_version: int
    backend: BackendRef | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    sources: dict[str, Sha256] = Field(default_factory=dict)
    upstream: dict[str, Sha256] = Field(default_factory=dict)

    def key(self) -> str:
        """The artifact key: SHA-256 over the canonical JSON of this material."""
        return digest_json(self.model_dump(mode="json"))


class Manifest(Contract):
    """Written last; from then on the artifact exists."""

    schema_version: Literal[1] = 1
    tenant: Slug
    key: Sha256
    material: KeyMaterial
    outputs: dict[str, BlobRef]
    facts: dict[str, Any] = Field(default_factory=dict)
    """Small results that later stages and the report read: sizes, windows, scores, timings."""
    made_at: datetime
    made_by: str
    """Host and process, for the log; never part of a key."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_mib: float = 0.0
