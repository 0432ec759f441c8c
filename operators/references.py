"""Where a run keeps its small JSON in the store: what tasks hand each other by reference."""

from __future__ import annotations

import re


def result_prefix(tenant: str, dag_id: str, run_id: str) -> str:
    """The store prefix of one DAG run, below its tenant.

    Args:
        tenant: who owns the campaign.
        dag_id: the DAG.
        run_id: Airflow's run id; characters that a key should not hold are replaced.
    """
    return f"{tenant}/run/{dag_id}/{re.sub(r'[^A-Za-z0-9._-]', '_', run_id)[:120]}"
