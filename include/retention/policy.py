"""The retention policy: what an artifact is worth keeping for, and for how long.

========== ==================================== =================================================
class      artifacts                            kept
========== ==================================== =================================================
plate      made once per template               for ever (or ``plate_days``)
published  ``publish``                          for ever, with the signature and the verdict that
                                                it rests on
hot        everything else, chunks included     ``hot_days`` after it was made, and while a live
                                                plan names it
========== ==================================== =================================================

What people published (``published/``) is never deleted, only moved to a cheaper storage class.
Everything that is not an artifact (plans, runs, reports, audit log, decisions, gates, references,
feature rows) is not the policy's business and stays.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationError

from include.contracts.base import Contract
from include.errors import Usage
from include.stages.specs import MAKER
from include.store.base import ObjectMissing, ObjectStore

POLICY_KEY = ".understudy/retention.json"
"""Object key; no tenant's name begins with a dot."""

Worth = Literal["hot", "plate", "published"]

_PUBLISHED = "publish"
_CHUNK = "/chunk"


class Retention(Contract):
    """How long things are kept."""

    schema_version: Literal[1] = 1
    hot_days: float = Field(default=30, ge=0)
    """Days after which an intermediate goes that no live plan names; 0: with the grace period."""
    plate_days: float = Field(default=0, ge=0)
    """Days after which what was made for a template goes, if no live plan names it; 0: never."""
    tier_days: int = Field(default=30, ge=0)
    """Days after which published files move to ``tier_class``; 0: never."""
    tier_class: str = "STANDARD_IA"
    """An S3 storage class that can be read at once."""
    upload_days: int = Field(default=7, ge=1)
    """Days after which an upload that was never finished is aborted."""

    def days(self, worth: Worth) -> float | None:
        """Days that an artifact of this class is kept; None for ever."""
        if worth == "hot":
            return self.hot_days
        return self.plate_days or None if worth == "plate" else None


def artifacts() -> tuple[str, ...]:
    """The names of all artifacts that the policy is about, chunks included."""
    chunked = (name + _CHUNK for name, spec in MAKER.items() if spec.chunked)
    return (*MAKER, *chunked)


def chunk_of(artifact: str) -> str | None:
    """Of what an artifact is a chunk, by its name; None when it is none."""
    return artifact.removesuffix(_CHUNK) if artifact.endswith(_CHUNK) else None


def worth_of(artifact: str) -> Worth:
    """The class of an artifact by its name."""
    if chunk_of(artifact):
        return "hot"  # the artifact is joined of its chunks and needs them no more
    if artifact == _PUBLISHED:
        return "published"
    return "plate" if MAKER[artifact].scope == "template" else "hot"


def load_retention(store: ObjectStore) -> Retention:
    """The store's policy; the default where none was set.

    Raises:
        Usage: the stored policy cannot be read (``retention.policy``).
    """
    try:
        return Retention.model_validate_json(store.get(POLICY_KEY))
    except ObjectMissing:
        return Retention()
    except ValidationError as error:
        raise Usage(
            f"{POLICY_KEY} in {store.uri} is no retention policy: {error}. Set it again with "
            "./understudy store lifecycle --apply.",
            code="retention.policy",
        ) from error


def save_retention(store: ObjectStore, policy: Retention) -> None:
    """Make a policy the store's."""
    store.put(POLICY_KEY, policy.model_dump_json(indent=1).encode())
