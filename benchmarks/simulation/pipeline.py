"""The project's own graph and retry policy, in the simulation's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.simulation.network import Delay
from include.stages.specs import STAGES, stage_edges, stages_behind

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
    edges, behind = stage_edges(), stages_behind()
    rows = {name: spec for name, spec in STAGES.items() if spec.scope == "row"}
    return {
        name: {
            "pool": spec.pool,
            "after": [made for made, follower in edges if follower == name and made in rows],
            "weight": sum(name in found for found in behind.values()),
        }
        for name, spec in rows.items()
    }
