"""Artifacts: what a stage made, under which key, and from what."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, Self

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
        return self.digest

    @cached_property
    def digest(self) -> str:
        """See ``key``; computed once, because every key is part of several others."""
        if _is_plain(self.params):
            # As ``model_dump`` would have it, without its cost: plans hold many thousands.
            return digest_json({**self.__dict__, "backend": self.backend and vars(self.backend)})
        return digest_json(self.model_dump(mode="json"))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """See ``BaseModel.model_copy``; the copy's key is its own."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("digest", None)
        return copied


_SCALARS = frozenset((str, int, float, bool, type(None)))
_NAMES = frozenset((str,))


def _is_plain(value: Any) -> bool:
    """Whether JSON has just one way to write a value, the same whoever writes it."""
    kind = type(value)
    if kind is dict:
        return _NAMES.issuperset(map(type, value)) and all(map(_is_plain, value.values()))
    return kind in _SCALARS or (kind in (list, tuple) and all(map(_is_plain, value)))


class RemoteCall(Contract):
    """The call of a model API that made an artifact: for the report, never part of a key."""

    endpoint: str
    """As the declarations name it."""
    job: str
    price: float = 0.0
    currency: str = "USD"


class Manifest(Contract):
    """Written last; from then on the artifact exists."""

    schema_version: Literal[1, 2] = 2
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
    io_seconds: float = 0.0
    """Wall time spent waiting for the object store until the outputs were made (since version 2);
    storing them is in the stage's result."""
    peak_mib: float = 0.0
    remote: RemoteCall | None = None
    """Where it was made, unless on a machine of our own; times are then as the API says."""
