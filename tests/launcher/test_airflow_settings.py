"""airflow_settings.yaml: the schema, no secrets, loaded without losing what people changed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from include.cli.airflow_settings import load_over_rest, read_airflow_settings
from include.errors import BadInput

PROJECT = Path(__file__).resolve().parents[2]
FILE = PROJECT / "airflow_settings.yaml"


class FakeApi:
    """Keeps what it is given, like Airflow."""

    def __init__(self, **existing):
        self.existing = existing
        self.posted = []
        self.upserted = []

    def get(self, path, **query):
        return self.existing.get(path, {path: []})

    def post(self, path, body):
        self.posted.append((path, body))

    def upsert(self, path, name, body):
        self.upserted.append((path, name, body))


def test_the_file_follows_the_schema():
    settings = read_airflow_settings(FILE)
    assert {pool.pool_name for pool in settings.pools} == {"cpu", "io"}


def test_the_cpu_pool_has_the_machines_size():
    settings = read_airflow_settings(FILE, cpu_slots=7)
    slots = {pool.pool_name: pool.pool_slot for pool in settings.pools}
    assert slots["cpu"] == 7
    assert slots["io"] != 7


def test_the_file_holds_no_secret():
    text = FILE.read_text()
    assert not re.search(r"conn_(password|login|uri):[ \t]*\S", text)
    assert not re.search(r"(?i)(secret|token|key)\S*:[ \t]*\S", text)


@pytest.mark.parametrize(
    "text",
    [
        "airflow: {connections: [{conn_id: x, conn_type: aws, conn_password: p}]}",
        "airflow: {pools: [{pool_name: x}]}",
        "airflow: {pools: [{pool_name: x, pool_slot: 1, colour: red}]}",
        "airflow: {variables: [{variable_name: x, variable_value: 3}]}",
        "airflow: {variables: [{variable_name: x, variable_value: a}, "
        "{variable_name: x, variable_value: b}]}",
        "pools: []",
        "[",
    ],
    ids=["password", "no slots", "unknown field", "not text", "twice", "no airflow", "not yaml"],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path, text):
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(BadInput, match=r"settings\.yaml"):
        read_airflow_settings(file)


def test_loading_sets_pools_and_adds_the_rest():
    api = FakeApi()
    load_over_rest(read_airflow_settings(FILE), api)
    assert [name for _, name, _ in api.upserted] == ["cpu", "io"]
    assert {path for path, _ in api.posted} == {"variables", "connections"}


def test_loading_again_keeps_what_somebody_changed():
    settings = read_airflow_settings(FILE)
    api = FakeApi(
        variables={"variables": [{"key": v.variable_name} for v in settings.variables]},
        connections={"connections": [{"connection_id": c.conn_id} for c in settings.connections]},
    )
    load_over_rest(settings, api)
    assert api.posted == []


def test_variables_and_connections_that_code_asks_for_are_declared():
    from operators import config, drift, notify, review, schedule

    settings = read_airflow_settings(FILE)
    names = {variable.variable_name for variable in settings.variables}
    assert names == {review.HOURS_VARIABLE, schedule.BRIEFS_VARIABLE, drift.POLICY_VARIABLE}
    connections = {config.STORE_CONNECTION, notify.WEBHOOK_CONNECTION, notify.EMAIL_CONNECTION}
    assert {c.conn_id for c in settings.connections} == connections
