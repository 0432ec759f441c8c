"""The gate between drift and rendering: ``<tenant>/gate/<kind>/<number>.json``, append only.

A gate is *open* while an alarm stands. What that means for campaigns is the tenant's policy:
``warn`` goes on and says so, ``review`` puts every render before a person, ``stop`` starts no new
campaign. It closes when a person accepts the new data as the reference, when a person says that
the data was repaired, or when later rows are as expected.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from include.drift.records import GateState, KindVerdict
from include.errors import Refused, Usage
from include.features.catalogue import FEATURES, AssetKind
from include.store import ObjectStore

Policy = Literal["warn", "review", "stop"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


def parse_policies(text: str) -> dict[str, Policy]:
    """Read ``review`` or ``warn,acme=stop``: a policy for everybody, then by tenant.

    Returns:
        Policy by tenant; ``""`` is everybody else's.

    Raises:
        Usage: there is no such policy.
    """
    found: dict[str, Policy] = {"": "warn"}
    for part in filter(None, (part.strip() for part in text.split(","))):
        tenant, _, policy = part.rpartition("=")
        if policy not in POLICIES:
            raise Usage(
                f"drift policy {part!r}: take one of {', '.join(POLICIES)}, or TENANT=POLICY",
                code="drift.policy",
            )
        found[tenant.strip()] = POLICIES[POLICIES.index(policy)]
    return found


@dataclass(frozen=True)
class Gates:
    """What stands between a tenant and a new campaign."""

    tenant: str
    policy: Policy
    open: tuple[GateState, ...]

    @property
    def review_all(self) -> bool:
        """Whether every render has to be looked at."""
        return bool(self.open) and self.policy == "review"

    def check(self) -> None:
        """Let a campaign begin, or not.

        Raises:
            Refused: ``drift.gate``: the tenant's policy is to stop.
        """
        if self.open and self.policy == "stop":
            raise Refused(
                f"{self.tenant}: no new campaign starts while drift is not settled: {self.said}. "
                "Accept the new data as the reference, or say that it was repaired, under Required "
                "Actions of drift_validation or with ./understudy drift",
                code="drift.gate",
            )

    @property
    def said(self) -> str:
        """What is open, in words."""
        return "; ".join(f"{gate.kind}: {gate.said}" for gate in self.open)


def gates_of(store: ObjectStore, tenant: str, policies: str) -> Gates:
    """A tenant's open gates and its policy.

    Args:
        store: where.
        tenant: whose.
        policies: see ``parse_policies``.
    """
    known = parse_policies(policies)
    states = (current(store, tenant, kind) for kind in FEATURES)
    standing = tuple(state for state in states if state and state.state == "open")
    return Gates(tenant, known.get(tenant, known[""]), standing)


def history(store: ObjectStore, tenant: str, kind: AssetKind) -> list[GateState]:
    """Every state that a gate has had, oldest first."""
    keys = [info.key for info in store.list(_prefix(tenant, kind))]
    return [GateState.model_validate_json(store.get(key)) for key in keys]


def current(store: ObjectStore, tenant: str, kind: AssetKind) -> GateState | None:
    """The state that holds; None for a gate that was never open."""
    keys = [info.key for info in store.list(_prefix(tenant, kind))]
    return GateState.model_validate_json(store.get(keys[-1])) if keys else None


def apply(
    store: ObjectStore, tenant: str, verdicts: Iterable[KindVerdict], run_id: str, report: str
) -> list[GateState]:
    """Open and close gates as verdicts demand.

    Drift opens a gate that is not open. An open gate closes only when enough *later* rows were
    judged to be as expected in everything that opened it; too few rows change nothing. A gate that
    somebody else moved since the rows were chosen is left alone: the next run judges by what is
    there then. Another try of the same run changes nothing more.

    Returns:
        The states that this run made: what somebody has to be told.
    """
    changed = []
    for verdict in verdicts:
        last = current(store, tenant, verdict.kind)
        if last is not None and last.by == run_id:
            changed.append(last)  # by a try of this run that failed later
            continue
        if verdict.gate is not None and verdict.gate != (last.number if last else 0):
            continue
        fields: dict[str, Any] = {"by": run_id, "run_id": run_id, "report": report}
        fields["until"] = verdict.until
        if verdict.outcome == "drift" and not _is_open(last):
            said = "; ".join(finding.said for finding in verdict.drifted[:3])
            fields |= {"state": "open", "reason": "drift", "said": said}
            fields["features"] = tuple(finding.feature for finding in verdict.drifted)
        elif verdict.outcome == "ok" and last is not None and _has_recovered(last, verdict):
            said = f"{verdict.rows} later rows are as the reference"
            fields |= {"state": "closed", "reason": "recovered", "said": said}
        else:
            continue
        state = _append(store, tenant, verdict.kind, last, fields)
        changed += [state] if state else []
    return changed


def _is_open(last: GateState | None) -> bool:
    return last is not None and last.state == "open"


def _has_recovered(last: GateState, verdict: KindVerdict) -> bool:
    """Whether a gate is open for features of which none is left in doubt."""
    unsure = {finding.feature for finding in verdict.findings if finding.state != "steady"}
    return last.state == "open" and not unsure.intersection(last.features)


def settle(
    store: ObjectStore,
    tenant: str,
    kind: AssetKind,
    reason: Literal["accepted", "resumed"],
    *,
    by: str,
    said: str,
    run_id: str = "",
    until: datetime | None = None,
) -> GateState | None:
    """Close a gate on a person's word; None when it is not open.

    Args:
        store: where.
        tenant: whose.
        kind: of what.
        reason: the person's word.
        by: who.
        said: why, in words.
        run_id: of the run that asked.
        until: rows up to then are settled too, where that is later than when the gate opened.
    """
    last = current(store, tenant, kind)
    if last is None or last.state != "open":
        return None
    times = [time for time in (last.until, until) if time]
    fields: dict[str, Any] = {"state": "closed", "reason": reason, "by": by, "said": said}
    fields |= {"run_id": run_id, "report": last.report, "until": max(times, default=None)}
    return _append(store, tenant, kind, last, fields)


def _append(
    store: ObjectStore,
    tenant: str,
    kind: AssetKind,
    last: GateState | None,
    fields: dict[str, Any],
) -> GateState | None:
    """Write the next state; None when somebody else wrote one meanwhile, which then holds."""
    number = last.number + 1 if last else 1
    state = GateState(tenant=tenant, kind=kind, number=number, at=datetime.now(UTC), **fields)
    key = f"{_prefix(tenant, kind)}{number:06d}.json"
    written = store.put_if_absent(key, state.model_dump_json(indent=1).encode())
    return state if written else None


def _prefix(tenant: str, kind: AssetKind) -> str:
    return f"{tenant}/gate/{kind}/"
