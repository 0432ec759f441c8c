"""What a person decides about drift, and what follows from it.

Needs pandas and pyarrow: import this module inside tasks only.
"""

from __future__ import annotations

from include.drift import gates, reference
from include.drift.records import GateState, KindVerdict
from include.errors import BadInput
from include.store import ObjectStore

ACCEPT = "Accept as the new reference"
RESUME = "The data was repaired"
KEEP = "Keep the alarm"
OPTIONS = (ACCEPT, RESUME, KEEP)


def settle_answer(
    store: ObjectStore,
    tenant: str,
    verdict: KindVerdict,
    answer: str,
    *,
    by: str,
    note: str = "",
    run_id: str = "",
) -> GateState | None:
    """Act on a person's answer to a verdict.

    ``ACCEPT`` freezes exactly the rows that were judged as the next reference and closes the gate;
    ``RESUME`` closes it and leaves the reference; ``KEEP`` changes nothing.

    Returns:
        The gate's new state; None when it did not change.

    Raises:
        BadInput: ``drift.answer``: no such answer, nothing there to accept, or somebody accepted
            another reference meanwhile.
    """
    if answer == KEEP:
        return None
    if answer == RESUME:
        said = note or "a person says that the data was repaired"
        return gates.settle(store, tenant, verdict.kind, "resumed", by=by, said=said, run_id=run_id)
    if answer != ACCEPT:
        raise BadInput(f"{answer!r} is no answer; take one of {OPTIONS}", code="drift.answer")
    if verdict.batch is None:
        raise BadInput(
            f"{tenant}: {verdict.rows} rows of {verdict.kind} are too few for a reference",
            code="drift.answer",
        )
    newest = reference.newest(store, tenant, verdict.kind)
    if newest is not None and newest.version != verdict.version:
        raise BadInput(
            f"{tenant}: version {newest.version} of the reference for {verdict.kind} was accepted "
            "since these rows were judged; run the validation again",
            code="drift.answer",
        )
    window = reference.accept(store, tenant, verdict.kind, verdict.batch, by=by, note=note)
    said = f"{window.rows} rows are the reference now, version {window.version}"
    return gates.settle(store, tenant, verdict.kind, "accepted", by=by, said=said, run_id=run_id)
