"""Renders one ad from a form: the same graph as a campaign, for one recipient."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Param, dag, get_current_context, task

from dags.flow import COMMON_PARAMS, render_graph
from operators import campaign
from operators.retries import DEFAULT_ARGS

DOC = """
### Render one ad

Either name a **recipient** of the brief's own table, or fill in a new row: a photo, a consent
record and, for a voice, a recording or a script. Template, policy and output are the brief's.
The rest is as in `campaign_render`, its cache included.
"""


def _text(title: str, description: str, **more: Any) -> Param:
    return Param(None, type=["null", "string"], title=title, description_md=description, **more)


@dag(
    dag_id="render_ad",
    dag_display_name="Render one ad",
    description="One recipient, from a form.",
    doc_md=DOC,
    schedule=None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=4,
    tags=["understudy", "render"],
    default_args=DEFAULT_ARGS,
    params={
        "brief": Param(
            type="string",
            minLength=1,
            title="Brief",
            description_md="Path of the brief whose template and policy are used.",
            section="Template",
        ),
        "recipient": _text(
            "Recipient",
            "Id of a row of the brief's table; with a photo below: the new row's id.",
            section="Recipient",
        ),
        "face": _text("Photo", "Absolute, or relative to the brief.", section="New recipient"),
        "consent": _text("Consent record", "JSON, signed.", section="New recipient"),
        "audio": _text("Recording", "The voice line, WAV or MP3.", section="New recipient"),
        "script": _text(
            "Script",
            "What is spoken when there is no recording.",
            format="multiline",
            section="New recipient",
        ),
        "locale": _text("Locale", "Such as `en` or `de`.", section="New recipient"),
        "voice": _text("Voice", "Of the synthesiser.", section="New recipient"),
        **COMMON_PARAMS,
    },
)
def render_ad() -> None:
    """Wire the graph."""

    @task(multiple_outputs=False, pool="io")
    def read_brief() -> dict[str, Any]:
        """Check the form; write a brief of one row when it describes a new one."""
        return campaign.write_ad(get_current_context()["params"])

    render_graph(read_brief())


render_ad()
