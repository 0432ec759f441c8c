"""Settings as an Airflow task sees them: the environment, then Airflow's own stores."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from include.settings import Settings

STORE_CONNECTION = "understudy_store"
"""Connection whose extra ``uri`` names the object store; login and password are its S3 keys."""


def task_settings(**changes: Any) -> Settings:
    """Settings for a task: environment first, then the connection, then defaults.

    Args:
        **changes: fields to put over the result; None leaves a field as it is.
    """
    from include.settings import Settings

    if not os.environ.get("UNDERSTUDY_STORE"):
        _store_from_connection()
    settings = Settings.from_env()
    # Briefs that render_ad writes lie beside the state, not under a user's folder.
    settings = replace(settings, roots=(*settings.roots, (settings.state / "ads").resolve()))
    return replace(settings, **{k: v for k, v in changes.items() if v is not None})


def _store_from_connection() -> None:
    """Put the store's connection into this process's environment, where stages find it."""
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = Connection.get(STORE_CONNECTION)
    except AirflowNotFoundException:
        return
    extra = connection.extra_dejson
    if not extra.get("uri"):
        return
    os.environ["UNDERSTUDY_STORE"] = str(extra["uri"])
    keys = {
        "AWS_ACCESS_KEY_ID": connection.login,
        "AWS_SECRET_ACCESS_KEY": connection.password,
        "AWS_DEFAULT_REGION": extra.get("region_name"),
    }
    os.environ.update({name: value for name, value in keys.items() if value})
