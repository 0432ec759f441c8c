"""Ask for the final artifact first: which units of a stage have to run at all.

A row whose video is published demands nothing; otherwise each stage demands what it reads. The
template's stages are demanded by the rows of the whole campaign. The Airflow operator asks this
before it starts a process, and the stage process asks it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from include.contracts.plan import ShardPlan, UnitPlan
from include.contracts.stage import UnitResult
from include.keys import chunk_material
from include.stages.specs import MAKER, STAGES, StageSpec
from include.store.cache import ArtifactCache
from include.verdict import VERDICTS, lacks_detector

FINAL = "publish"
"""The artifact that a campaign is for."""

_READERS: dict[str, tuple[StageSpec, ...]] = {
    artifact: tuple(s for s in STAGES.values() if artifact in (*s.upstream, *s.after))
    for artifact in MAKER
}


def _behind(spec: StageSpec) -> tuple[str, ...]:
    """Everything that is made from what a stage makes, or waits for it, directly or not."""
    behind: list[str] = list(spec.artifacts)
    for artifact in behind:  # grows while it is walked
        made = (name for reader in _READERS[artifact] for name in reader.artifacts)
        behind += [name for name in made if name not in behind]
    return tuple(behind[len(spec.artifacts) :])


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
    template: UnitPlan
    chunk: int | None = None
    """Only this chunk of chunked artifacts is asked for."""
    known: dict[tuple[str, str], bool] = field(default_factory=dict)
    lacking: set[tuple[str, str]] = field(default_factory=set)
    """Of these, verdicts without the nudity detector: they exist for whoever reads them."""

    def owner(self, artifact: str, unit: UnitPlan) -> UnitPlan:
        return self.template if MAKER[artifact].scope == "template" else unit

    def ask(self, artifacts: Iterable[str], units: Iterable[UnitPlan]) -> None:
        """Look artifacts up for many units at a time."""
        units = tuple(units)
        for artifact in artifacts:
            keys = {self.owner(artifact, unit).key(artifact) for unit in units}
            unknown = [key for key in sorted(keys) if (artifact, key) not in self.known]
            found = self.cache.lookup_many(artifact, unknown)
            self.known.update({(artifact, key): key in found for key in unknown})
            self.lacking.update((artifact, k) for k, m in found.items() if lacks_detector(m))

    def exists(self, artifact: str, unit: UnitPlan) -> bool:
        if (artifact, self.owner(artifact, unit).key(artifact)) not in self.known:
            self.ask((artifact,), (unit,))
        return self.known[artifact, self.owner(artifact, unit).key(artifact)]

    def done(self, artifact: str, unit: UnitPlan) -> bool:
        """Whether an artifact exists and nothing better may be made in its place."""
        key = self.owner(artifact, unit).key(artifact)
        return self.exists(artifact, unit) and (artifact, key) not in self.lacking

    def at_hand(self, artifact: str, unit: UnitPlan) -> bool:
        """Whether what is asked for exists: the artifact, or only the chunk of it."""
        if self.exists(artifact, unit):
            return True
        if self.chunk is None or not MAKER[artifact].chunked:
            return False
        material = self.owner(artifact, unit).materials[artifact]
        part = chunk_material(material, self.chunk)
        return self.cache.lookup(part.stage, part.key()) is not None

    def needed(self, artifact: str, unit: UnitPlan) -> bool:
        """Whether something that is still missing is made from this artifact, or waits for it."""
        if self.exists(FINAL, unit):
            return False
        return artifact == FINAL or any(
            not self.done(made, unit) and self.needed(made, unit)
            for spec in _READERS[artifact]
            for made in spec.artifacts
        )


def demand(
    cache: ArtifactCache,
    shard: ShardPlan,
    spec: StageSpec,
    *,
    rows: tuple[UnitPlan, ...] | None = None,
    chunk: int | None = None,
) -> Demand:
    """Split a stage's units into those that must run and those that need not.

    Args:
        cache: the tenant's artifacts.
        shard: the plan. For a template stage the rows of the shards that it is ``shared_by`` say
            who demands; a plan that names none, and has no rows itself, demands everything.
        spec: the stage.
        rows: only these rows; default all of the shard.
        chunk: only this chunk of the stage's artifacts, made from the same chunk of others.
    """
    index = _Index(cache, shard.template, chunk)
    if spec.scope == "template":
        settled = {shard.template.id: _template(index, spec, shard)}
    else:
        units = shard.rows if rows is None else rows
        _look_ahead(index, spec, units)
        settled = {unit.id: _row(index, spec, unit) for unit in units}
    return Demand(
        to_make=tuple(unit for unit, result in settled.items() if result is None),
        results=tuple(result for result in settled.values() if result is not None),
    )


def _look_ahead(index: _Index, spec: StageSpec, units: tuple[UnitPlan, ...]) -> None:
    """Ask for many rows at a time what ``_row`` will want to know, the final artifact first."""
    index.ask((FINAL,), units)
    unfinished = [unit for unit in units if not index.exists(FINAL, unit)]
    index.ask(spec.artifacts, unfinished)
    missing = [u for u in unfinished if not all(index.exists(name, u) for name in spec.artifacts)]
    index.ask((*_behind(spec), *spec.upstream, *spec.after), missing)


def _template(index: _Index, spec: StageSpec, shard: ShardPlan) -> UnitResult | None:
    unit = shard.template
    if _made(index, spec, unit):
        return _hit(spec, unit)
    rows = _demanding(index, shard)
    wanted = rows is None or any(index.needed(a, row) for row in rows for a in spec.artifacts)
    return _to_make(index, spec, unit) if wanted else _hit(spec, unit)


def _demanding(index: _Index, shard: ShardPlan) -> Iterator[UnitPlan] | None:
    """The rows that a template is for, shard by shard; None when the plan does not say."""
    if shard.rows:
        return iter(shard.rows)
    if not shard.shared_by:
        return None

    def rows() -> Iterator[UnitPlan]:
        for key in shard.shared_by:
            found = ShardPlan.model_validate_json(index.cache.store.get(key)).rows
            index.ask((FINAL,), found)
            yield from found

    return rows()


def _row(index: _Index, spec: StageSpec, unit: UnitPlan) -> UnitResult | None:
    made = index.exists(FINAL, unit) or _made(index, spec, unit)
    if made or not any(index.needed(name, unit) for name in spec.artifacts):
        return _hit(spec, unit)
    return _to_make(index, spec, unit)


def _made(index: _Index, spec: StageSpec, unit: UnitPlan) -> bool:
    check = index.done if spec.name in VERDICTS else index.at_hand
    return all(check(name, unit) for name in spec.artifacts)


def _hit(spec: StageSpec, unit: UnitPlan) -> UnitResult:
    return UnitResult(id=unit.id, status="hit", key=unit.key(spec.artifacts[-1]))


def _to_make(index: _Index, spec: StageSpec, unit: UnitPlan) -> UnitResult | None:
    """None for a unit that can be made; a verdict that cannot be made anew stays as it is."""
    lacks = _lacking(index, spec, unit)
    if lacks is not None and all(index.exists(name, unit) for name in spec.artifacts):
        return _hit(spec, unit)
    return lacks


def _lacking(index: _Index, spec: StageSpec, unit: UnitPlan) -> UnitResult | None:
    """What a unit that has to be made lacks; None when it can be made."""
    needs = (*spec.upstream, *spec.after)
    missing = [name for name in needs if not index.at_hand(name, unit)]
    if not missing:
        return None
    return UnitResult(
        id=unit.id,
        status="skipped",
        key=unit.key(spec.artifacts[-1]),
        code="upstream.missing",
        message=(
            f"{spec.name} needs {', '.join(missing)}, which this row does not have; where no stage "
            "before it failed, a stored file was found damaged and removed: run it again, and the "
            "file is made anew"
        ),
    )
