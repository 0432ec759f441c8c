"""The queue of ``bench load``, and the simulation, follow the DAG and the DAGs' retry policy."""

from __future__ import annotations

import pytest

from benchmarks.loadtest.cell import Cell, Graph
from benchmarks.simulation.pipeline import DELAYS, RETRIES, stage_graph
from include import errors

pytestmark = pytest.mark.airflow

SPEC = {"shards": [{}], "arrivals": [0.0], "slots": {"cpu": 1, "io": 1}, "seed": 1}


def test_the_simulations_graph_is_the_dags() -> None:
    graph = Graph()
    assert {name: set(node["after"]) for name, node in stage_graph().items()} == graph.before
    assert {name: node["weight"] for name, node in stage_graph().items()} == graph.weight


@pytest.mark.parametrize(
    ("kind", "error"),
    [("kill", errors.OutOfMemory), ("preempt", errors.Preempted), ("transient", errors.Transient)],
)
def test_the_simulations_delays_are_the_policys(kind: str, error: type[Exception]) -> None:
    cell, known = Cell(SPEC), DELAYS[kind]
    assert cell.retries.DEFAULT_ARGS["retries"] == RETRIES
    for number in (1, 2):
        expected = known.base_s * known.factor ** (number - 1)
        delays = [cell.delay(error("x"), number) for _ in range(200)]
        assert min(delays) == pytest.approx(expected, rel=0.02)
        assert max(delays) == pytest.approx(expected * (2 if known.jitter else 1), rel=0.02)
    assert cell.delay(error("x"), RETRIES + 1) is None


@pytest.mark.parametrize("error", [errors.BadInput("x"), errors.Refused("x"), ValueError("x")])
def test_what_no_retry_can_help_is_lost_at_once(error: Exception) -> None:
    assert Cell(SPEC).delay(error, 1) is None
