"""Rows that are made with something else, because what was planned could not be had.

Backend and scale are part of keys, so such a row is another artifact from there on. That is a fact
about a planned row, kept beside its shard's plan and never in it::

    <plan>.fallback/<unit>/<stage>-<step>.json  a Fall: what it is made with now, and why
    <plan>.fallback/plan-<digest>.json          the plan of the rows that fell to the same

Names without a stage are of an earlier release, and hold as well.

Whoever works on a shard asks `parts` for what holds: the shard's own rows without those that fell,
and a plan for each of the rest, with the template keyed for it as well. The first fall that is
written holds for all tasks and all later runs: a row is never rendered into two different outputs,
and never lowered without the report saying so. When a chain is used up without a video, its falls
are forgotten, and the next run begins with what was planned.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

from pydantic import ValidationError

from include.contracts.base import Contract, Slug
from include.contracts.plan import ShardPlan, ShardRef, UnitPlan
from include.contracts.stage import UnitResult
from include.errors import UnderstudyError, Usage
from include.keys import BACKEND_OF, row_materials, template_materials
from include.live import backend_ref
from include.remote.config import Remotes, Step
from include.store import ObjectMissing, ObjectStore
from models.registry import backend

log = logging.getLogger(__name__)

CODES = ("remote.", "budget.")
"""Beginnings of the codes of failures that a fallback can mend: the API's, not the row's."""


class Fall(Contract):
    """One row's step down."""

    schema_version: int = 1
    unit: Slug
    stage: str
    """Where it could not be made as planned."""
    number: int
    """Of the step in the stage's chain, from 1."""
    step: Step
    said: str
    """What is used instead of what, in words."""
    reason: str
    """Code and message of the failure."""
    at: datetime


@dataclass(frozen=True)
class Part:
    """Some rows of a shard, and the plan that holds for them."""

    ref: ShardRef
    shard: ShardPlan
    fall: Fall | None = None
    """The last step down of these rows, of one of them where the reasons differ."""
    planned: tuple[Slug, ...] = ()
    """Rows of the shard's own plan that fell: not to be worked on with it."""

    def wanted(self, units: Iterable[str] | None) -> list[str] | None:
        """Which of the units asked for are this part's; None for all rows of its plan."""
        if units is None and not self.planned:
            return None
        asked = None if units is None else set(units)
        mine = (row.id for row in self.shard.rows if row.id not in self.planned)
        return [unit for unit in mine if asked is None or unit in asked]


def parts(store: ObjectStore, ref: ShardRef) -> list[Part]:
    """What holds for a shard's rows now: its own plan first, then those of rows that fell."""
    shard = ShardPlan.model_validate_json(store.get(ref.plan))
    if not shard.rows:
        return [Part(ref, shard)]
    fallen = _fallen(store, ref)
    groups: dict[str, list[list[Fall]]] = {}
    for falls in fallen.values():
        groups.setdefault("/".join(fall.said for fall in falls), []).append(falls)
    found = [Part(ref, shard, planned=tuple(fallen))]
    for group in groups.values():
        made, said = shard, ", then ".join(fall.said for fall in group[0])
        for fall in group[0]:
            made = with_step(made, fall.stage, fall.step)
        units = {falls[-1].unit for falls in group}
        rows = tuple(row for row in made.rows if row.id in units)
        names = ", ".join(row.id for row in rows[:3]) + (" …" if len(rows) > 3 else "")
        made = made.model_copy(
            update={"rows": rows, "label": f"{names}: {said}"[:200], "instead": said}
        )
        found.append(Part(_stored(store, ref, made), made, group[0][-1]))
    return found


def rows_of(store: ObjectStore, ref: ShardRef) -> list[tuple[Part, tuple[UnitPlan, ...]]]:
    """A shard's rows, each with the plan that holds for it."""
    found = []
    for part in parts(store, ref):
        rows = tuple(row for row in part.shard.rows if row.id not in part.planned)
        found.append((part, rows))
    return found


def falls_of(store: ObjectStore, ref: ShardRef) -> dict[str, list[Fall]]:
    """Every step down of a shard's rows, by row, in order."""
    return _fallen(store, ref)


def _fallen(store: ObjectStore, ref: ShardRef) -> dict[str, list[Fall]]:
    found: dict[str, list[Fall]] = {}
    for _, held in _records(store, ref):
        found.setdefault(held.unit, []).append(held)
    return found


def _records(store: ObjectStore, ref: ShardRef) -> Iterator[tuple[str, Fall]]:
    """Every step down with the key that it is kept under; a stage's in order."""
    prefix = _prefix(ref)
    for info in store.list(prefix):
        if "/" not in info.key[len(prefix) :]:
            continue
        try:
            yield info.key, Fall.model_validate_json(store.get(info.key))
        except (ObjectMissing, ValidationError) as error:
            log.warning("%s is left out: %s", info.key, error)


def _stored(store: ObjectStore, ref: ShardRef, shard: ShardPlan) -> ShardRef:
    body = shard.model_dump_json().encode()
    key = f"{_prefix(ref)}plan-{hashlib.sha256(body).hexdigest()[:32]}.json"
    store.put_if_absent(key, body)
    return ref.model_copy(update={"plan": key, "label": shard.label, "rows": len(shard.rows)})


def _prefix(ref: ShardRef) -> str:
    return f"{ref.plan.removesuffix('.json')}.fallback/"


def with_step(shard: ShardPlan, stage: str, step: Step) -> ShardPlan:
    """A shard as it would have been planned with a step's backend and scale.

    Raises:
        Usage: ``fallback.step``: this installation cannot do that.
    """
    brief, chosen = shard.brief, dict(shard.backends)
    if step.backend is not None:
        chosen[stage] = backend_ref(BACKEND_OF[stage], step.backend)
    if step.scale is not None:
        output = brief.output.model_copy(update={"scale": step.scale})
        brief = brief.model_copy(update={"output": output})
    if stage == "upscale" and "upscale" in chosen and brief.output.scale > 1:
        declared = backend("upscale", chosen["upscale"].name).declared
        if declared and declared.scale != brief.output.scale:
            raise Usage(
                f"{declared.name} enlarges by {declared.scale}, not {brief.output.scale}; correct "
                "the fallback of upscale in the file that UNDERSTUDY_REMOTE names",
                code="fallback.step",
            )
    keyed = template_materials(brief, shard.template.sources, shard.chunk_s, chosen)
    template = shard.template.model_copy(update={"materials": keyed})
    rows = tuple(
        row.model_copy(
            update={"materials": row_materials(brief, template, row, chosen, _anchors(row))}
        )
        for row in shard.rows
    )
    return shard.model_copy(
        update={"brief": brief, "backends": chosen, "template": template, "rows": rows}
    )


def _anchors(row: UnitPlan) -> str | None:
    """The trust anchors that a row was planned with."""
    planned = row.materials.get("sign")
    anchors: str | None = planned.params.get("anchors") if planned else None
    return anchors


def fall(
    store: ObjectStore, ref: ShardRef, stage: str, failed: UnitResult, remotes: Remotes
) -> Fall | None:
    """Take a row one step down its chain.

    Args:
        store: where the plan is.
        ref: the shard's own plan.
        stage: where the row failed.
        failed: how; its code begins with one of ``CODES``.
        remotes: the declared chains.

    Returns:
        The step; None when there is none left. Then `exhausted` says what was tried.
    """
    chain = remotes.fallback.get(stage, ())
    before = [f for f in _fallen(store, ref).get(failed.id, []) if f.stage == stage]
    shard = ShardPlan.model_validate_json(store.get(ref.plan))
    for held in before:
        shard = with_step(shard, held.stage, held.step)
    last = before[-1].number if before else 0  # more than there are, where one was left out
    for number in range(last + 1, len(chain) + 1):
        step = chain[number - 1]
        try:
            lowered = with_step(shard, stage, step)
        except UnderstudyError as error:
            log.error("step %d of the fallback of %s is left out: %s", number, stage, error)
            continue
        made = Fall(
            unit=failed.id,
            stage=stage,
            number=number,
            step=step,
            said=_said(shard, lowered, failed.id, stage),
            reason=f"{failed.code}: {failed.message}"[:1000],
            at=datetime.now(UTC),
        )
        key = f"{_prefix(ref)}{failed.id}/{stage}-{number:02}.json"
        if not store.put_if_absent(key, made.model_dump_json().encode()):
            made = Fall.model_validate_json(store.get(key))
        return made
    return None


def _said(before: ShardPlan, after: ShardPlan, unit: str, stage: str) -> str:
    """Such as ``upscale by lanczos instead of compact``."""
    words = []
    was, now = (shard.unit(unit).materials[stage].backend for shard in (before, after))
    if was and now and was != now:
        words.append(f"{stage} by {now.name} instead of {was.name}")
    scales = before.brief.output.scale, after.brief.output.scale
    if scales[0] != scales[1]:
        words.append(f"scale {scales[1]} instead of {scales[0]}")
    return ", ".join(words) or f"{stage} as before"


def exhausted(store: ObjectStore, ref: ShardRef, stage: str, failed: UnitResult) -> UnitResult:
    """The result of a row whose chain is used up: it says what was tried and what to do.

    Its falls are forgotten, so that the next run begins with what was planned.
    """
    falls = [f for f in _fallen(store, ref).get(failed.id, []) if f.stage == stage]
    lines = ["as planned: " + falls[0].reason] if falls else []
    for held, later in pairwise(falls):
        lines.append(f"{held.said}: {later.reason}")
    last = f"{failed.code}: {failed.message}"
    lines.append(f"{falls[-1].said}: {last}" if falls else last)
    todo = (
        "raise budget.limit as it says"
        if any("budget.exceeded" in line for line in lines)
        else "render again later, or declare another endpoint or a fallback in the file that "
        "UNDERSTUDY_REMOTE names, or set UNDERSTUDY_RUNTIME=local"
    )
    for key, held in list(_records(store, ref)):
        if (held.unit, held.stage) == (failed.id, stage):
            store.delete(key)
    tried = "; ".join(f"({number}) {line}" for number, line in enumerate(lines, 1))
    message = f"{failed.id}: {stage} could not be made. Tried {tried}. To do: {todo}"
    return failed.model_copy(update={"code": "fallback.exhausted", "message": message[:4000]})


def can_fall(result: UnitResult) -> bool:
    """Whether a failure is one that a fallback can mend."""
    return result.status == "failed" and (result.code or "").startswith(CODES)
