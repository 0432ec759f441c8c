"""Rules that hold for every DAG of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.airflow

PROJECT = Path(__file__).resolve().parents[2]
DAG_IDS = ("campaign_render", "drift_validation", "model_rollout", "render_ad")
HEAVY = (
    "torch",
    "cv2",
    "numpy",
    "av",
    "pandas",
    "boto3",
    "kubernetes",
    "airflow.providers.cncf.kubernetes.operators",
    "c2pa",
    "mediapipe",
    "scipy",
    "pyarrow",
    "great_expectations",
)


def pool_names() -> set[str]:
    from include.cli.airflow_settings import read_airflow_settings

    settings = read_airflow_settings(PROJECT / "airflow_settings.yaml")
    return {pool.pool_name for pool in settings.pools}


def test_the_project_has_exactly_these_dags(dags):
    assert sorted(dags) == sorted(DAG_IDS)


def test_parsing_imports_nothing_heavy():
    code = (
        "import sys; from airflow.dag_processing.dagbag import DagBag; bag = DagBag('dags'); "
        "assert not bag.import_errors, bag.import_errors; "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("dag_id", DAG_IDS)
class TestEveryDag:
    def test_is_tagged_and_documented(self, dags, dag_id):
        dag = dags[dag_id]
        assert "understudy" in dag.tags
        assert dag.doc_md.strip()
        assert dag.description

    def test_does_not_catch_up(self, dags, dag_id):
        assert dags[dag_id].catchup is False

    def test_has_an_owner_and_retries_on_every_task(self, dags, dag_id):
        for task in dags[dag_id].tasks:
            assert task.owner == "understudy", task.task_id
            assert task.retries >= 2, task.task_id
            assert task.retry_policy is not None, task.task_id
            assert task.retry_exponential_backoff > 1, task.task_id

    def test_uses_only_declared_pools(self, dags, dag_id):
        used = {task.pool for task in dags[dag_id].tasks}
        assert used <= pool_names()

    def test_has_valid_params_with_titles(self, dags, dag_id):
        params = dags[dag_id].params
        for name in params:
            param = params.get_param(name)
            assert param.schema.get("title"), name
            if param.has_value:
                param.resolve()

    def test_serialises_to_the_same_twice(self, dags, dag_id):
        from airflow.serialization.serialized_objects import DagSerialization

        first = DagSerialization.serialize_dag(dags[dag_id])
        assert first == DagSerialization.serialize_dag(dags[dag_id])

    def test_has_no_skipping_operator_inside_a_mapped_group(self, dags, dag_id):
        for task in dags[dag_id].tasks:
            if task.get_closest_mapped_task_group() is not None:
                assert not task.inherits_from_skipmixin, task.task_id

    def test_reports_whatever_happens(self, dags, dag_id):
        report = dags[dag_id].get_task("report")
        assert report.trigger_rule == "all_done"
        assert [task.task_id for task in dags[dag_id].leaves] == ["report"]

    def test_stages_have_the_limits_of_their_specification(self, dags, dag_id):
        from include.stages.specs import STAGES

        for task in dags[dag_id].tasks:
            if task.task_type == "StageOperator":
                mapped = getattr(task, "partial_kwargs", {})
                spec = STAGES[mapped.get("stage") or task.stage]
                assert task.execution_timeout == spec.timeout
                assert task.pool == spec.pool
