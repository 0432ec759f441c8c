"""What is live: the backend that a tenant's campaigns use for a stage, and who tries another."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from include.contracts.base import Contract, Slug
from include.contracts.manifest import BackendRef

LiveStage = Literal["face_swap", "lip_sync", "upscale"]
"""Stages whose backend can be rolled out: packages below ``models``."""


class Canary(Contract):
    """A backend that a share of the recipients gets before it is decided on."""

    backend: BackendRef
    share: float = Field(gt=0, le=1)
    """Of recipients, chosen by a stable hash of rollout and recipient."""
    rollout: Slug


class LiveState(Contract):
    """One state of a tenant's pointer for a stage; the newest holds, older ones are its history."""

    schema_version: Literal[1] = 1
    tenant: Slug
    stage: LiveStage
    number: int = Field(ge=1)
    champion: BackendRef | None
    """None: what the project uses without a pointer."""
    canary: Canary | None = None
    since: datetime
    rollout: str = ""
    """The rollout that made this state; empty for a person's own choice."""
    by: str
    """Account or run."""
