"""Renders a campaign: one brief, many recipients."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from dags.flow import COMMON_PARAMS, render_graph
from operators import campaign
from operators.retries import DEFAULT_ARGS
from operators.schedule import campaign_schedule

DOC = """
### Render a campaign

Takes a **brief** (YAML: template, recipients, voice, policy) and delivers one signed video per
recipient.

1. `read_brief`, `validate_rows`, `plan`: rows that cannot be rendered are rejected with a reason;
   the others become shards.
2. `compile_template`: everything that all recipients share, made once and cached.
3. `render_shard`: the recipients, shard by shard. What exists already starts no process.
4. `reviewed`: one question per borderline row, under *Required Actions*. Rows that pass do not
   wait for it.
5. `report`: who was delivered, who is missing and why. The run fails below the brief's
   `min_success_ratio`.

Run it again after a failure: only what is missing is made.
"""


@dag(
    dag_id="campaign_render",
    dag_display_name="Campaign render",
    description="One brief, many recipients: personalised, checked and signed videos.",
    doc_md=DOC,
    schedule=campaign_schedule(os.environ.get("UNDERSTUDY_SCHEDULE")),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    tags=["understudy", "render"],
    default_args=DEFAULT_ARGS,
    params={
        "brief": Param(
            None,
            type=["null", "string"],
            title="Brief",
            description_md="Path of the brief (YAML) under a configured root, or `s3://`. Empty: "
            "the next one under the variable `understudy_briefs`.",
            section="Campaign",
        ),
        "only": Param(
            None,
            type=["null", "array"],
            items={"type": "string"},
            title="Only these recipients",
            description_md="Ids, one a line. Empty: all of them.",
            section="Campaign",
        ),
        **COMMON_PARAMS,
    },
)
def campaign_render() -> None:
    """Wire the graph."""

    @task(multiple_outputs=False, pool="io")
    def read_brief() -> dict[str, Any]:
        """Check the brief and take in its template."""
        context = get_current_context()
        return campaign.read_brief(context["params"], context)

    render_graph(read_brief())


campaign_render()
