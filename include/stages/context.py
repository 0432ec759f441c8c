"""What a stage's code is given: one unit's inputs, a scratch folder, and a voice."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from include.contracts.manifest import BlobRef, Manifest
from include.contracts.plan import ShardPlan, SourceRef, UnitPlan
from include.contracts.stage import Event
from include.errors import BadInput, CorruptArtifact
from include.settings import Settings
from include.stages.specs import MAKER, StageSpec
from include.store.cache import ArtifactCache


@dataclass(frozen=True)
class Output:
    """What a stage made: files by output name with their media types, and small facts."""

    files: Mapping[str, tuple[Path, str]]
    facts: Mapping[str, Any] = field(default_factory=dict)


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

    def emit(self, event: str, **fields: Any) -> None:
        """Write an event; fields as in ``contracts.stage.Event``."""
        line = Event.model_validate({"event": event, "stage": self._stage, **fields})
        body = line.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        self._stream.write(json.dumps(body, ensure_ascii=False) + "\n")
        self._stream.flush()


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

    def owner(self, artifact: str) -> UnitPlan:
        """Whose artifact it is: the template's or this unit's."""
        return self.shard.template if MAKER[artifact].scope == "template" else self.unit

    def manifest(self, artifact: str) -> Manifest:
        """The manifest of an artifact of this unit or its template.

        Raises:
            CorruptArtifact: it is not there (any more); the stage that makes it must run again.
        """
        found = self.cache.lookup(artifact, self.owner(artifact).key(artifact))
        if found is None:
            raise CorruptArtifact(
                f"{self.unit.id}: {artifact} is missing in the store; run "
                f"{MAKER[artifact].name} again",
                code="artifact.missing",
            )
        return found

    def facts(self, artifact: str) -> dict[str, Any]:
        """An artifact's facts."""
        return self.manifest(artifact).facts

    def fetch(self, artifact: str, output: str) -> Path:
        """Bring an output file here, its digest verified.

        Raises:
            CorruptArtifact: missing or not what its digest says.
        """
        blob = self.manifest(artifact).outputs[output]
        return self.cache.fetch(blob, self.scratch / "in" / artifact.replace("/", "-"))

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
