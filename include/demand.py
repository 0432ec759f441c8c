"""Ask for the final artifact first: which units of a stage have to run at all.

A row whose video is published demands nothing; otherwise each stage demands what it reads. The
Airflow operator asks this before it starts a process, and the stage process asks it again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from include.contracts.plan import TEMPLATE_UNIT, ShardPlan, UnitPlan
from include.contracts.stage import UnitResult
from include.stages.specs import MAKER, STAGES, StageSpec
from include.store.cache import ArtifactCache

_READERS: dict[str, tuple[StageSpec, ...]] = {
    artifact: tuple(spec for spec in STAGES.values() if artifact in spec.upstream)
    for artifact in MAKER
}


@dataclass(frozen=True)
class Demand:
    """What a stage has to do for the units of a shard."""

    to_make: tuple[str, ...]
    """Units to run."""
    results: tuple[UnitResult, ...]
    """The other units: ``hit`` (made before, or not needed), ``skipped`` (no input)."""


@dataclass
class _Index:
    """Which artifacts exist, each looked up at most once."""

    cache: ArtifactCache
    shard: ShardPlan
    known: dict[tuple[str, str], bool] = field(default_factory=dict)

    def owner(self, artifact: str, unit: UnitPlan) -> UnitPlan:
        return self.shard.template if MAKER[artifact].scope == "template" else unit

    def exists(self, artifact: str, unit: UnitPlan) -> bool:
        key = self.owner(artifact, unit).key(artifact)
        if (artifact, key) not in self.known:
            self.known[artifact, key] = self.cache.lookup(artifact, key) is not None
        return self.known[artifact, key]

    def needed(self, artifact: str, unit: UnitPlan) -> bool:
        """Whether something that is still missing is made from this artifact."""
        if artifact == "publish":
            return not self.exists(artifact, unit)
        return any(
            self.needed(made, unit) and not self.exists(made, unit)
            for spec in _READERS[artifact]
            for made in spec.artifacts
        )


def demand(
    cache: ArtifactCache,
    shard: ShardPlan,
    spec: StageSpec,
    *,
    rows: tuple[UnitPlan, ...] | None = None,
) -> Demand:
    """Split a stage's units into those that must run and those that need not.

    Args:
        cache: the tenant's artifacts.
        shard: the plan. For a template stage its rows say who demands; a plan without rows
            (the template's own) demands everything.
        spec: the stage.
        rows: only these rows; default all of the shard.
    """
    index = _Index(cache, shard)
    units = (shard.template,) if spec.scope == "template" else rows or shard.rows
    to_make: list[str] = []
    results: list[UnitResult] = []
    for unit in units:
        result = _settled(index, spec, unit)
        if result is None:
            to_make.append(unit.id)
        else:
            results.append(result)
    return Demand(to_make=tuple(to_make), results=tuple(results))


def _settled(index: _Index, spec: StageSpec, unit: UnitPlan) -> UnitResult | None:
    key = unit.key(spec.artifacts[-1])
    hit = UnitResult(id=unit.id, status="hit", key=key)
    if all(index.exists(name, unit) for name in spec.artifacts):
        return hit
    if unit.id != TEMPLATE_UNIT and not any(index.needed(a, unit) for a in spec.artifacts):
        return hit
    missing = [name for name in spec.upstream if not index.exists(name, unit)]
    if missing:
        return UnitResult(
            id=unit.id,
            status="skipped",
            key=key,
            code="upstream.missing",
            message=f"{spec.name} needs {', '.join(missing)}, which was not made for this row",
        )
    return None
