"""The steps of a rollout in the store: ``<tenant>/rollout/<id>/<number>.json``.

Immutable, taken by conditional put, each in the audit log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from include.errors import Refused, Usage
from include.provenance import audit
from include.rollout.records import ENDED, Begin, Comparison, State, Step
from include.store import ObjectStore

_SCANNED = 200
"""Newest audit records among which a step is looked for before it is recorded again."""


@dataclass(frozen=True)
class Rollout:
    """A rollout as its steps tell it."""

    steps: tuple[Step, ...]

    @property
    def last(self) -> Step:
        """The step that says where it stands."""
        return self.steps[-1]

    @property
    def tenant(self) -> str:
        """Whose."""
        return self.last.tenant

    @property
    def id(self) -> str:
        """Its name: when it began, and what is rolled out."""
        return self.last.rollout

    @property
    def begin(self) -> Begin:
        """What it was started with."""
        if self.steps[0].begin is None:
            raise Usage(f"rollout {self.id}: its first step does not say what is rolled out")
        return self.steps[0].begin

    @property
    def ended(self) -> bool:
        """Whether it was decided."""
        return self.last.state in ENDED

    def step(self, state: State) -> Step | None:
        """The newest step of a kind."""
        return next((step for step in reversed(self.steps) if step.state == state), None)


def load(store: ObjectStore, tenant: str, rollout: str) -> Rollout:
    """A rollout by its id.

    Raises:
        Usage: ``rollout.unknown``: there is none.
    """
    keys = [info.key for info in store.list(_prefix(tenant, rollout))]
    if not keys:
        known = ", ".join(each.id for each in rollouts(store, tenant)) or "none"
        raise Usage(
            f"{tenant} has no rollout {rollout}; there are: {known}", code="rollout.unknown"
        )
    return Rollout(tuple(Step.model_validate_json(store.get(key)) for key in keys))


def rollouts(store: ObjectStore, tenant: str) -> list[Rollout]:
    """All rollouts of a tenant, in the order in which they were started."""
    found: dict[str, list[Step]] = {}
    for info in store.list(f"{tenant}/rollout/"):
        step = Step.model_validate_json(store.get(info.key))
        found.setdefault(step.rollout, []).append(step)
    return sorted((Rollout(tuple(steps)) for steps in found.values()), key=lambda r: r.steps[0].at)


def newest(store: ObjectStore, tenant: str, stage: str) -> Rollout | None:
    """The rollout of a stage that was started last."""
    found = [each for each in rollouts(store, tenant) if each.begin.stage == stage]
    return found[-1] if found else None


def exists(store: ObjectStore, tenant: str, rollout: str) -> bool:
    """Whether a rollout of that id was started."""
    return any(True for _ in store.list(_prefix(tenant, rollout)))


def advance(
    store: ObjectStore,
    rollout: Rollout,
    state: State,
    *,
    by: str,
    said: str,
    reason: str = "",
    comparisons: Sequence[Comparison] = (),
    live: int | None = None,
) -> Rollout:
    """Make the next step; fields as in ``Step``.

    Raises:
        Refused: ``rollout.changed``: somebody else made one meanwhile.
    """
    recorded(store, rollout)
    step = Step(
        tenant=rollout.tenant,
        rollout=rollout.id,
        number=rollout.last.number + 1,
        state=state,
        at=datetime.now(UTC),
        by=by,
        reason=reason,
        said=said,
        comparisons=tuple(comparisons),
        live=live,
    )
    return write(store, Rollout((*rollout.steps, step)))


def write(store: ObjectStore, rollout: Rollout) -> Rollout:
    """Store the newest step, then record it; errors as for ``advance``."""
    step = rollout.last
    key = f"{_prefix(step.tenant, step.rollout)}{step.number:04d}.json"
    body = step.model_dump_json().encode()
    if not store.put_if_absent(key, body) and store.get(key) != body:
        raise Refused(
            f"rollout {step.rollout}: somebody else drives it at this moment; look at its status "
            "and try again",
            code="rollout.changed",
        )
    _record(store, rollout, step)
    return rollout


def _record(store: ObjectStore, rollout: Rollout, step: Step) -> None:
    begin = rollout.begin
    subject = {
        "rollout": step.rollout,
        "stage": begin.stage,
        "champion": begin.champion_is.name,
        "challenger": begin.challenger.name,
        "step": _digest(step),
    }
    for role, ref in (("champion", begin.champion_is), ("challenger", begin.challenger)):
        if ref.weights_sha256:
            subject[f"{role}_weights"] = ref.weights_sha256
    if step.reason:
        subject["reason"] = audit.ident(step.reason)
    if step.live is not None:
        subject["live"] = str(step.live)
    audit.append(
        store, step.tenant, f"rollout.{step.state}", by=audit.ident(step.by), subject=subject
    )


def recorded(store: ObjectStore, rollout: Rollout) -> Rollout:
    """Record the last step in the audit log if whoever made it was stopped before that."""
    wanted = _digest(rollout.last)
    newest_records = audit.tail(store, rollout.tenant, _SCANNED)
    if not any(record.subject.get("step") == wanted for record in newest_records):
        _record(store, rollout, rollout.last)
    return rollout


def _digest(step: Step) -> str:
    return hashlib.sha256(step.model_dump_json().encode()).hexdigest()


def _prefix(tenant: str, rollout: str) -> str:
    return f"{tenant}/rollout/{rollout}/"
