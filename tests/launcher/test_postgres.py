"""PostgreSQL as users set it: Airflow's stack takes its URL, a benchmark refuses a used one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from include.chaos.postgres import Server, programs
from tests.services.postgres import postgres

pytestmark = [
    pytest.mark.airflow,
    pytest.mark.skipif(
        os.environ.get("UNDERSTUDY_SYSTEM_TESTS") != "1" and programs() is None,
        reason="PostgreSQL from Debian: set UNDERSTUDY_SYSTEM_TESTS=1",
    ),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as found:
        yield found


def _ask(server: Server, *statements: str) -> object:
    import psycopg2

    plain = server.url.replace("+psycopg2", "")
    with closing(psycopg2.connect(plain)) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        found = cursor.fetchone()[0]
        connection.commit()
        return found


def test_the_stack_uses_the_database_that_is_set_and_more_workers(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from include.cli.stack import Stack

    alone = Stack(tmp_path / "a").environment()
    monkeypatch.setenv("UNDERSTUDY_DATABASE_URL", server.url)
    found = Stack(tmp_path / "b").environment()
    assert found["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == server.url
    assert int(found["AIRFLOW__CORE__PARALLELISM"]) > int(alone["AIRFLOW__CORE__PARALLELISM"])


def test_it_needs_its_password_and_runs_as_nobody_special(server: Server) -> None:
    import psycopg2

    assert _ask(server, "select current_user") == "understudy"
    assert server.process is not None
    owner = Path(f"/proc/{server.process.pid}").stat().st_uid
    assert owner != 0
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(server.url.replace("+psycopg2", "").replace(server.password, "wrong"))


def test_what_was_committed_outlives_the_servers_death(server: Server) -> None:
    _ask(server, "create table kept as select 42 as n", "select n from kept")
    server.kill()
    server.start()
    assert _ask(server, "select n from kept") == 42


def test_bench_fanout_knows_it_and_refuses_a_database_in_use(server: Server) -> None:
    from benchmarks.fanout_database import Database

    _ask(server, "drop table if exists kept", "select 1")
    database = Database(server.url)
    assert database.name.startswith("PostgreSQL 1")
    database.refuse_if_used()
    _ask(server, "create table mine (n int)", "select 1")
    with pytest.raises(SystemExit, match="holds 1 tables"):
        database.refuse_if_used()
    before = database.cpu()
    _ask(server, "select count(*) from generate_series(1, 3000000)")
    assert database.cpu() > before
    assert database.mib(Path()) > 5


def test_a_server_that_is_not_there_is_said_in_a_line() -> None:
    from benchmarks.fanout_database import Database

    with pytest.raises(SystemExit, match=r"--database: .*refused"):
        Database("postgresql+psycopg2://x:y@127.0.0.1:1/x").refuse_if_used()
