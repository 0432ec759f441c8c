"""Where a run keeps its small JSON in the store: requests, results, reviews."""

from __future__ import annotations

import re

from include.contracts.plan import CampaignPlan
from include.contracts.stage import StageResult, StageResultRef
from include.store import open_store
from include.store.bulk import in_parallel


def run_prefix(tenant: str, dag_id: str, run_id: str) -> str:
    """The store prefix of one DAG run, below its tenant.

    Args:
        tenant: who owns the campaign.
        dag_id: the DAG.
        run_id: Airflow's run id; characters that a key should not hold are replaced.
    """
    return f"{tenant}/run/{dag_id}/{re.sub(r'[^A-Za-z0-9._-]', '_', run_id)[:120]}"


def latest_results(plan: CampaignPlan, dag_id: str, run_id: str) -> list[StageResultRef]:
    """The last result that each stage task of a run wrote, failed tasks included."""
    store = open_store(plan.store)
    last: dict[str, str] = {}
    for info in store.list(run_prefix(plan.tenant, dag_id, run_id) + "/"):
        if info.key.endswith(".result.json"):
            last[info.key.rsplit("/", 1)[0]] = info.key

    def read(key: str) -> StageResultRef:
        return result_ref(StageResult.model_validate_json(store.get(key)), key)

    return in_parallel(read, last.values())


def result_ref(result: StageResult, key: str) -> StageResultRef:
    """A result by reference.

    Args:
        result: the result.
        key: where it lies in the store.
    """
    counts = {"made": 0, "hit": 0, "failed": 0, "skipped": 0, "held": 0}
    for unit in result.units:
        counts[unit.status] += 1
    counts["failed"] += counts.pop("skipped")
    return StageResultRef(stage=result.stage, result=key, **counts)
