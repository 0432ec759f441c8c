"""How many recipients a shard holds, and how long a campaign takes: both from measured times.

Every report adds what its run measured to a small object in the store, one for each tenant and
compiled template. Until there is one, times of the sample campaign stand in.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Protocol

from pydantic import Field, ValidationError

from include.contracts.base import Contract, digest_json
from include.contracts.plan import UnitPlan
from include.stages.specs import STAGES
from include.store import ObjectMissing, ObjectStore

MAX_SHARDS = 1000
"""Below Airflow's limit on mapped tasks (``core.max_map_length``, 1024)."""
SHORT_S, LONG_S = 60.0, 600.0
"""What a shard's slowest stage should take: long enough to be worth a process, short enough to be
lost. Seconds."""
PER_SLOT = 4
"""Shards a slot works through in a long campaign, so that all slots end at about the same time."""
TASK_S = 3.0
"""What a task costs beside its rows: Airflow's share, the interpreter, imports, models. Seconds."""
ROW_S = {
    "ingest_recipients": 1.0,
    "measure_inputs": 0.2,
    "face_swap": 2.4,
    "lip_sync": 2.3,
    "upscale": 2.0,
    "compose": 12.5,
    "classify": 3.0,
    "measure_render": 1.5,
    "sign": 0.2,
    "publish": 0.2,
}
"""Seconds a row on one core, of the sample campaign's rows after a shard's first; others count as
OTHER_S."""
OTHER_S = 2.0
TEMPLATE_S = 80.0
"""Seconds to compile the sample template, all its stages together."""
_REMEMBERED = 500
_ROW_STAGES = tuple(spec for spec in STAGES.values() if spec.scope == "row")


class StageTime(Contract):
    """What one stage took."""

    units: int = Field(ge=1)
    """How many units were measured, older ones counting up to a limit."""
    seconds: float = Field(ge=0)
    """Wall seconds for each unit, the process's own preparations shared among them."""


class StageTimes(Contract):
    """Measured times of a compiled template's stages, by stage."""

    schema_version: Literal[1] = 1
    stages: dict[str, StageTime] = Field(default_factory=dict)

    def row_seconds(self) -> dict[str, float]:
        """Seconds a recipient by stage: measured, else of the sample campaign."""
        return {
            spec.name: self.stages[spec.name].seconds
            if spec.name in self.stages
            else ROW_S.get(spec.name, OTHER_S)
            for spec in _ROW_STAGES
        }

    def template_seconds(self) -> float:
        """Seconds to compile the template: measured, else of the sample campaign."""
        found = [
            time.seconds
            for name, time in self.stages.items()
            if name in STAGES and STAGES[name].scope == "template"
        ]
        return sum(found) if found else TEMPLATE_S


class Worked(Protocol):
    """What a run says about one stage (see ``include.report.StageTotals``)."""

    @property
    def made(self) -> int:
        """Units that were made."""

    @property
    def seconds(self) -> float:
        """Wall seconds of the stage's processes."""


def choose_shard_size(rows: int, slots: int, times: StageTimes | None = None) -> int:
    """Recipients per shard.

    In this order:

    1. At most ``MAX_SHARDS`` shards: Airflow's mapping limit leaves no choice.
    2. The slowest stage takes at most ``LONG_S``, and no stage more than a third of its time
       limit: that is what one retry can cost.
    3. Every slot has a shard as long as there are rows enough.
    4. The slowest stage takes at least ``SHORT_S`` and the tasks' own cost stays below a twentieth
       of the work: a process should be worth its start.
    5. Every slot works through ``PER_SLOT`` shards, larger ones where that suffices: few tasks keep
       Airflow's database and grid small.

    Then, where there are only a few shards for each slot, their number is rounded up to a multiple
    of the slots, so that no slot ends with a shard more than the others.

    Args:
        rows: recipients, any number.
        slots: stage processes at a time, at least 1.
        times: measured; None takes the sample campaign's.
    """
    seconds = (times or StageTimes()).row_seconds()
    slowest = max(seconds.values())
    limits = {s.name: min(LONG_S, s.timeout.total_seconds() / 3) for s in _ROW_STAGES}
    most = min(limits[name] / max(each, 1e-3) for name, each in seconds.items())
    start = 20 * TASK_S * len(seconds) / max(sum(seconds.values()), 1e-3)
    least = math.ceil(max(SHORT_S / max(slowest, 1e-3), start))
    size = max(math.ceil(rows / (slots * PER_SLOT)), least)
    size = min(size, math.ceil(rows / slots), int(most))
    size = max(1, size, math.ceil(rows / MAX_SHARDS))
    shards = math.ceil(rows / size)
    if slots < shards < PER_SLOT * slots:
        size = math.ceil(rows / min(MAX_SHARDS, math.ceil(shards / slots) * slots))
    return max(1, size)


def predict_seconds(rows: int, shards: int, slots: int, times: StageTimes, template: bool) -> float:
    """Wall seconds that rendering takes.

    Args:
        rows: recipients that are not rendered yet.
        shards: in which these lie.
        slots: stage processes at a time.
        times: measured times.
        template: whether the template is compiled already.
    """
    each = times.row_seconds()
    rows_s = rows * sum(each.values()) + shards * len(each) * TASK_S
    return (0.0 if template or not rows else times.template_seconds()) + rows_s / slots


def load_times(store: ObjectStore, tenant: str, template: UnitPlan) -> StageTimes:
    """What was measured for a compiled template; empty when nothing was, or it cannot be read."""
    try:
        return StageTimes.model_validate_json(store.get(_key(tenant, template)))
    except (ObjectMissing, ValidationError):
        return StageTimes()


def record_times(
    store: ObjectStore, tenant: str, template: UnitPlan, worked: Mapping[str, Worked]
) -> StageTimes:
    """Add what a run measured; of two runs that end together one may be lost.

    Args:
        store: where it is kept.
        tenant: whose.
        template: the template's unit, its keys naming template, scale and upscaler.
        worked: stage to what the run did in it; stages that made nothing change nothing.
    """
    times = load_times(store, tenant, template)
    stages = {name: time for name, time in times.stages.items() if name in STAGES}
    new = {name: total for name, total in worked.items() if total.made > 0 and name in STAGES}
    for name, total in new.items():
        seconds, units = total.seconds, total.made
        if name in stages:
            weight = min(stages[name].units, _REMEMBERED)
            seconds += weight * stages[name].seconds
            units += weight
        stages[name] = StageTime(units=units, seconds=round(seconds / units, 4))
    times = StageTimes(stages=stages)
    if new:
        store.put(_key(tenant, template), times.model_dump_json().encode())
    return times


def _key(tenant: str, template: UnitPlan) -> str:
    keys = {name: template.key(name) for name in template.materials}
    return f"{tenant}/timings/{digest_json(keys)}.json"
