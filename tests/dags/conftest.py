"""Airflow in a home of its own; must be set before its first import."""

from pathlib import Path

import pytest

import tests.support.airflow_home  # noqa: F401

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def dags():
    """Every DAG of the project by id, freshly parsed."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(PROJECT / "dags"))
    assert bag.import_errors == {}
    return bag.dags
