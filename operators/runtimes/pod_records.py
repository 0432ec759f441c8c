"""What became of pods, as records beside their requests: ``<try>.pod.json``.

The next try learns from them what to ask for (``pod_needs``). A task that comes back after a
deferral learns what this try has settled before it was left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include import errors
from include.contracts.base import Contract

if TYPE_CHECKING:
    from include.contracts.stage import StageResult
    from include.store import ObjectStore


class PodRecord(Contract):
    """What became of a pod, and what it had asked for."""

    pod: str
    node: str | None = None
    error: str = ""
    """Name of the class in ``include.errors``; empty when the stage ended well."""
    code: str
    message: str
    pod_class: str
    memory_mib: int
    scratch_mib: int


def record_key(request_key: str) -> str:
    """Where the record of a request's pod lies."""
    return request_key.replace(".request.json", ".pod.json")


def read_record(store: ObjectStore, request_key: str) -> PodRecord | None:
    """The record of a request's pod, if it has ended."""
    key = record_key(request_key)
    return PodRecord.model_validate_json(store.get(key)) if store.head(key) else None


def settled_by_pods(store: ObjectStore, request_uri: str) -> StageResult | None:
    """What a pod of this try has settled: its result, or None when nothing is settled.

    What another run makes at the moment is not settled: it is looked at again.

    Raises:
        UnderstudyError: the pod failed; the same error again.
    """
    from include.contracts.stage import StageRequest, StageResult

    key = request_uri.partition("#")[2]
    record = read_record(store, key)
    if record is None or record.error == errors.LeaseHeld.__name__:
        return None
    if record.error:
        kind = getattr(errors, record.error, errors.Bug)
        raise kind(record.message, code=record.code)
    request = StageRequest.model_validate_json(store.get(key))
    return StageResult.model_validate_json(store.get(request.result))
