"""Loads ``airflow_settings.yaml`` (the Astronomer project's format) into Airflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from include.cli.rest import AirflowApi
from include.contracts.base import Contract
from include.errors import BadInput


class PoolSetting(Contract):
    """A pool."""

    pool_name: str
    pool_slot: int = Field(ge=0)
    pool_description: str = ""

    def body(self) -> dict[str, Any]:
        """As the REST API takes it."""
        return {
            "name": self.pool_name,
            "slots": self.pool_slot,
            "description": self.pool_description,
            "include_deferred": False,
        }


class VariableSetting(Contract):
    """A variable; its value is always text."""

    variable_name: str
    variable_value: str

    def body(self) -> dict[str, Any]:
        """As the REST API takes it."""
        return {"key": self.variable_name, "value": self.variable_value}


class ConnectionSetting(Contract):
    """A connection. Secrets do not belong into the file."""

    conn_id: str
    conn_type: str
    conn_host: str | None = None
    conn_schema: str | None = None
    conn_login: str | None = None
    conn_password: Literal[None] = None
    conn_port: int | None = None
    conn_uri: Literal[None] = None
    conn_extra: dict[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """As the REST API takes it."""
        return {
            "connection_id": self.conn_id,
            "conn_type": self.conn_type,
            "host": self.conn_host,
            "schema": self.conn_schema,
            "login": self.conn_login,
            "port": self.conn_port,
            "extra": json.dumps(self.conn_extra or {}),
        }


class AirflowSettings(Contract):
    """The file's content below ``airflow``."""

    pools: tuple[PoolSetting, ...] = ()
    variables: tuple[VariableSetting, ...] = ()
    connections: tuple[ConnectionSetting, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> AirflowSettings:
        for names in (
            [pool.pool_name for pool in self.pools],
            [variable.variable_name for variable in self.variables],
            [connection.conn_id for connection in self.connections],
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"a name is used twice: {', '.join(sorted(names))}")
        return self


def read_airflow_settings(path: Path, *, cpu_slots: int | None = None) -> AirflowSettings:
    """Read and check the file.

    Args:
        path: the file.
        cpu_slots: size of the pool ``cpu`` on this machine; default as in the file.

    Raises:
        BadInput: a field is unknown, missing or holds a secret.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings = AirflowSettings.model_validate(data["airflow"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValidationError) as error:
        raise BadInput(f"{path}: {error}", code="airflow_settings.bad") from error
    if cpu_slots is None:
        return settings
    pools = tuple(
        pool.model_copy(update={"pool_slot": cpu_slots}) if pool.pool_name == "cpu" else pool
        for pool in settings.pools
    )
    return settings.model_copy(update={"pools": pools})


def load_over_rest(settings: AirflowSettings, api: AirflowApi) -> None:
    """Create or change everything in a running Airflow: pools, variables, connections.

    Pools follow the file. Variables and connections that exist are left as they are: somebody
    may have changed them in the UI, or put secrets into them.
    """
    for pool in settings.pools:
        api.upsert("pools", pool.pool_name, pool.body())
    have = {item["key"] for item in api.get("variables", limit=1000)["variables"]}
    for variable in settings.variables:
        if variable.variable_name not in have:
            api.post("variables", variable.body())
    have = {item["connection_id"] for item in api.get("connections", limit=1000)["connections"]}
    for connection in settings.connections:
        if connection.conn_id not in have:
            api.post("connections", connection.body())
