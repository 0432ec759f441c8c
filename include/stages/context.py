"""What a stage's code is given: one unit's inputs, a scratch folder, and a voice."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO, TypeVar

from include.contracts.manifest import BlobRef, Manifest, RemoteCall
from include.contracts.plan import ShardPlan, SourceRef, UnitPlan
from include.contracts.stage import Event
from include.errors import BadInput, CorruptArtifact
from include.keys import chunk_material
from include.settings import Settings
from include.stages.specs import MAKER, StageSpec
from include.store.cache import ArtifactCache


@dataclass(frozen=True)
class Cost:
    """What making something took; wall and processor seconds, peak memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float
    remote: RemoteCall | None = None
    """The call of a model API that it was made by."""
    io_seconds: float = 0.0
    """Of the wall seconds, what was spent waiting for the store."""


@dataclass(frozen=True)
class Output:
    """What a stage made: files by output name with their media types, and small facts.

    A file that is stored already is given by its reference.
    """

    files: Mapping[str, tuple[Path, str] | BlobRef]
    facts: Mapping[str, Any] = field(default_factory=dict)
    cost: Cost | None = None
    """What it took, where it was not this process that made it."""


@dataclass(frozen=True)
class Span:
    """A chunk: a range of the template's frames that is worked on, stored and resumed alone."""

    index: int
    start: int
    """First frame, inclusive."""
    stop: int
    """Exclusive."""


@dataclass(frozen=True)
class Hold:
    """The unit waits for a person; nothing was made."""

    code: str
    reason: str


class Events:
    """Writes one JSON event a line."""

    def __init__(self, stage: str, stream: TextIO | None = None) -> None:
        self._stage = stage
        self._stream = stream or sys.stdout
        self.also: Callable[[Mapping[str, Any]], None] | None = None
        """Gets every event too, once it is set."""

    def emit(self, event: str, **fields: Any) -> None:
        """Write an event; fields as in ``contracts.stage.Event``."""
        line = Event.model_validate({"event": event, "stage": self._stage, **fields})
        body = line.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        self._stream.write(json.dumps(body, ensure_ascii=False) + "\n")
        self._stream.flush()
        if self.also is not None:
            self.also(body)


Resource = TypeVar("Resource", bound=AbstractContextManager[Any])
Made = TypeVar("Made")


@dataclass
class Inputs:
    """What the units of a process share: what was read already, what was started already.

    Manifests never change, and files were verified when they were fetched.
    """

    folder: Path
    manifests: dict[tuple[str, int | None], Manifest] = field(default_factory=dict)
    files: dict[tuple[str, str], Path] = field(default_factory=dict)
    closing: ExitStack = field(default_factory=ExitStack)
    """Ends what was started for all units."""
    started: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str, start: Callable[[], Resource]) -> Resource:
        """Something that is costly to start, kept for the units to come.

        Args:
            name: what it is known by.
            start: makes it, the first time.
        """
        if name not in self.started:
            self.started[name] = self.closing.enter_context(start())
        kept: Resource = self.started[name]
        return kept

    def once(self, name: str, make: Callable[[], Made]) -> Made:
        """Something that is costly to make and takes little memory, kept for the units to come.

        Args:
            name: what it is known by.
            make: makes it, the first time.
        """
        if name not in self.started:
            self.started[name] = make()
        made: Made = self.started[name]
        return made


BULKY = frozenset({"upscale_plate"})
"""Artifacts of the template that are not kept for the shard's other rows."""


@dataclass
class StageContext:
    """One unit of a stage's work."""

    spec: StageSpec
    shard: ShardPlan
    unit: UnitPlan
    cache: ArtifactCache
    scratch: Path
    """An empty folder of its own, removed afterwards."""
    settings: Settings
    events: Events
    run_id: str
    threads: int = 1
    chunk: Span | None = None
    """Of a chunked stage: what to work on now."""
    common: Inputs | None = None
    """The template's inputs, shared by the units of a process."""
    own: dict[tuple[str, int | None], Manifest] = field(default_factory=dict)
    """This unit's manifests."""
    closing: ExitStack = field(default_factory=ExitStack)
    """What is held until the artifact exists; closed by who runs the stage."""

    @property
    def span(self) -> Span:
        """The chunk that is being worked on. ValueError outside a chunked stage's work."""
        if self.chunk is None:
            raise ValueError(f"{self.spec.name} is not working on a chunk")
        return self.chunk

    def owner(self, artifact: str) -> UnitPlan:
        """Whose artifact it is: the template's or this unit's."""
        return self.shard.template if MAKER[artifact].scope == "template" else self.unit

    def manifest(self, artifact: str) -> Manifest:
        """The manifest of an artifact of this unit or its template.

        While a chunk is worked on, the same chunk of the artifact will do.

        Raises:
            CorruptArtifact: it is not there (any more); the stage that makes it must run again.
        """
        known = self._known(artifact)
        index = None if self.chunk is None else self.chunk.index
        for held in ((artifact, None), (artifact, index)):
            if held in known:
                return known[held]
        material = self.owner(artifact).materials[artifact]
        found = self.cache.lookup(artifact, material.key())
        if found is not None:
            known[artifact, None] = found
            return found
        if index is not None and MAKER[artifact].chunked:
            part = chunk_material(material, index)
            found = self.cache.lookup(part.stage, part.key())
        if found is None:
            raise CorruptArtifact(
                f"{self.unit.id}: {artifact} is missing in the store; run "
                f"{MAKER[artifact].name} again",
                code="artifact.missing",
            )
        known[artifact, index] = found
        return found

    def _known(self, artifact: str) -> dict[tuple[str, int | None], Manifest]:
        of_template = MAKER[artifact].scope == "template"
        return self.common.manifests if self.common and of_template else self.own

    def facts(self, artifact: str) -> dict[str, Any]:
        """An artifact's facts."""
        return self.manifest(artifact).facts

    def fetch(self, artifact: str, output: str) -> Path:
        """Bring an output file here, its digest verified.

        Raises:
            CorruptArtifact: missing or not what its digest says.
        """
        blob = self.manifest(artifact).outputs[output]
        name = artifact.replace("/", "-")
        shared = MAKER[artifact].scope == "template" and artifact not in BULKY
        if self.common is None or not shared:
            return self.cache.fetch(blob, self.scratch / "in" / name)
        if (artifact, output) not in self.common.files:
            path = self.cache.fetch(blob, self.common.folder / name)
            self.common.files[artifact, output] = path
        return self.common.files[artifact, output]

    def source(self, name: str, *, of_template: bool = False) -> Path:
        """Bring one of the unit's source files here.

        Raises:
            BadInput: the unit has no such source (``source.missing``).
        """
        unit = self.shard.template if of_template else self.unit
        ref: SourceRef | None = unit.sources.get(name)
        if ref is None:
            raise BadInput(f"{unit.id} has no {name}", code="source.missing")
        return self.cache.fetch(ref.blob, self.scratch / "source" / name)

    def origin(self, name: str) -> str:
        """What the user called a source; for messages."""
        ref = self.unit.sources.get(name)
        return ref.origin if ref else name

    def blob(self, artifact: str, output: str) -> BlobRef:
        """Reference to an output, without fetching it."""
        return self.manifest(artifact).outputs[output]

    def progress(self, done: int, total: int) -> None:
        """Say how far the unit is; every 25th frame and the last are told."""
        if done == total or done % 25 == 0:
            self.events.emit("progress", unit=self.unit.id, done=done, total=total)

    def warn(self, message: str) -> None:
        """Tell the log something that a person should know."""
        self.events.emit("warning", unit=self.unit.id, message=message)
