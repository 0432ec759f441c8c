"""The project's own graph and retry policy, in the simulation's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.simulation.network import Delay
from include.stages.specs import MAKER, STAGES

Graph = Mapping[str, Mapping[str, Any]]
"""By stage, none before what it waits for: ``pool``, ``after`` (names) and ``weight``."""

DELAYS = {
    "kill": Delay("kill", 30.0),
    "preempt": Delay("preempt", 5.0),
    "transient": Delay("transient", 5.0, 3.0, jitter=True),
}
"""Those of ``operators.retries``, which needs Airflow; a test compares them."""
RETRIES = 4


def stage_graph() -> dict[str, dict[str, Any]]:
    """The row stages as the DAG has them: pool, direct predecessors, how many follow."""
    reads = {
        name: {MAKER[a].name for a in (*spec.upstream, *spec.after)}
        for name, spec in STAGES.items()
    }
    behind: dict[str, set[str]] = {}
    for name in STAGES:  # in the order of the flow: what a stage reads comes before it
        behind[name] = set().union(reads[name], *(behind[made] for made in reads[name]))
    rows = [spec for spec in STAGES.values() if spec.scope == "row"]
    return {
        spec.name: {
            "pool": spec.pool,
            "after": _direct(reads[spec.name], behind),
            "weight": sum(spec.name in found for found in behind.values()),
        }
        for spec in rows
    }


def _direct(reads: set[str], behind: Mapping[str, set[str]]) -> list[str]:
    """Of the row stages that are read, those that no other one implies."""
    implied = set().union(*(behind[other] for other in reads)) if reads else set()
    return sorted(made for made in reads - implied if STAGES[made].scope == "row")
