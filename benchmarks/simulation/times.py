"""Stage times as ``bench stages`` wrote them, told apart by their place in a process."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.errors import Usage
from include.stages.specs import STAGES

OWN = Path(__file__).parent / "data/stage_times.json"
"""The sample campaign's, on one core."""


@dataclass(frozen=True)
class StageTimes:
    """What one stage takes for a recipient of its template; seconds of one core."""

    first: tuple[float, ...]
    """The first one of a process: imports and models are in it."""
    further: tuple[float, ...]
    """Later ones of the same process."""
    row_mib: float = 0.0
    """Read from the store and written to it for a row."""
    shard_mib: float = 0.0
    """Read once for a process."""

    @property
    def start(self) -> float:
        """What the process costs beside its rows: by how much a first row is dearer."""
        return max(0.0, statistics.median(self.first) - statistics.median(self.further))


def stage_times(path: Path | None = None) -> dict[str, StageTimes]:
    """Read the times of the row stages.

    CPU seconds, not wall: one thread on a core of its own takes about as long, and a machine that
    others use does not change them much.

    Args:
        path: what ``bench stages`` wrote; None for the project's own record.

    Raises:
        Usage: a stage is missing, or has no row that was not its process's first.
    """
    path = path or OWN
    body: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    out = {}
    for spec in STAGES.values():
        if spec.scope != "row":
            continue
        units = [unit for unit in body.get("units", ()) if unit["stage"] == spec.name]
        first = tuple(unit["cpu_seconds"] for unit in units if unit["place"] == 0)
        further = tuple(unit["cpu_seconds"] for unit in units if unit["place"] > 0)
        if not first or not further:
            raise Usage(
                f"{path}: no times of {spec.name} for a first and a further row of a process; run "
                "`bench stages --recipients 6`"
            )
        mib = body.get("mib", {}).get(spec.name, {})
        out[spec.name] = StageTimes(first, further, mib.get("row", 0.0), mib.get("shard", 0.0))
    return out
