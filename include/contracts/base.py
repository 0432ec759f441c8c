"""What every contract shares: frozen, strict about unknown fields, canonical JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower-case hexadecimal; also the form of every artifact key."""

Slug = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""A name that is safe in object keys and file names: tenant, campaign and recipient ids."""


class Contract(BaseModel):
    """Base of all contracts: immutable, and an unknown field is an error, not a shrug."""

    # NaN must fail in canonical_json, not become null and share a key with it.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> bytes:
    """Serialise to the one JSON form that digests are taken of.

    Sorted keys, no white space, UTF-8, no NaN (after RFC 8785 for the types used here; floats
    are written by ``repr``, the shortest form that reads back the same).
    """
    return _CANONICAL.encode(value).encode()


def digest_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
