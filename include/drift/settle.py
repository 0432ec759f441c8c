"""What a person decides about drift, and what follows from it.

Needs pandas and pyarrow: import this module inside tasks only.
"""

from __future__ import annotations

from include.drift import gates, reference
from include.drift.records import GateState, KindVerdict
from include.drift.verdicts import earlier_verdicts
from include.errors import BadInput
from include.features.catalogue import AssetKind
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
    ``RESUME`` closes it and leaves the reference; ``KEEP`` changes nothing. An answer that was
    acted on only in part (its task was stopped) can be given again.

    Returns:
        The gate's new state; None when it did not change.

    Raises:
        BadInput: ``drift.answer``: no such answer, nothing there to accept, somebody accepted
            another reference meanwhile, or the gate opened again over newer rows.
    """
    if answer == KEEP:
        return None
    if answer not in OPTIONS:
        raise BadInput(f"{answer!r} is no answer; take one of {OPTIONS}", code="drift.answer")
    _check_still_asked(store, tenant, verdict)
    if answer == RESUME:
        return resume(store, tenant, verdict.kind, by=by, note=note, run_id=run_id)
    if verdict.batch is None:
        raise BadInput(
            f"{tenant}: {verdict.rows} rows of {verdict.kind} are too few for a reference",
            code="drift.answer",
        )
    newest = reference.newest(store, tenant, verdict.kind)
    done = newest is not None and newest.rows_sha256 == verdict.batch
    if newest is not None and newest.version != verdict.version and not done:
        raise BadInput(
            f"{tenant}: version {newest.version} of the reference for {verdict.kind} was accepted "
            "since these rows were judged; run the validation again",
            code="drift.answer",
        )
    window = reference.accept(store, tenant, verdict.kind, verdict.batch, by=by, note=note)
    said = f"{window.rows} rows are the reference now, version {window.version}"
    how = {"by": by, "said": said, "run_id": run_id}
    return gates.settle(store, tenant, verdict.kind, "accepted", until=verdict.until, **how)


def resume(
    store: ObjectStore, tenant: str, kind: AssetKind, *, by: str, note: str = "", run_id: str = ""
) -> GateState | None:
    """Close a gate because the data was repaired; whatever was judged so far is settled by it.

    Returns:
        The gate's new state; None when it was not open.
    """
    judged = [
        one.until
        for past in earlier_verdicts(store, tenant)
        for one in past.kinds
        if one.kind == kind and one.until
    ]
    how = {"by": by, "said": note or "a person says that the data was repaired", "run_id": run_id}
    return gates.settle(store, tenant, kind, "resumed", until=max(judged, default=None), **how)


def _check_still_asked(store: ObjectStore, tenant: str, verdict: KindVerdict) -> None:
    """Refuse an answer to an old question where a newer alarm stands."""
    gate = gates.current(store, tenant, verdict.kind)
    if gate is None or gate.state != "open" or gate.until is None or verdict.until is None:
        return
    if gate.until > verdict.until:
        raise BadInput(
            f"{tenant}: {verdict.kind} assets have drifted again since these rows were judged "
            f"({gate.said}); answer the newer question, or use ./understudy drift",
            code="drift.answer",
        )
