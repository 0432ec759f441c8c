"""Airflow's database as ``bench fanout`` sees it: its size, its CPU time, whether it is empty."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Database:
    """Airflow's database.

    Args:
        url: as ``UNDERSTUDY_DATABASE_URL`` has it; empty for SQLite in Airflow's home.
    """

    url: str

    @property
    def name(self) -> str:
        """Kind and version, for the report."""
        if not self.url:
            return "sqlite"
        return f"PostgreSQL {self._ask('show server_version')}"

    def refuse_if_used(self) -> None:
        """A benchmark writes thousands of rows: only into a database made for it.

        Raises:
            SystemExit: it holds tables.
        """
        where = "where table_schema not in ('pg_catalog', 'information_schema')"
        tables = self._ask(f"select count(*) from information_schema.tables {where}")
        if tables:
            raise SystemExit(
                f"--database: it holds {tables} tables; make an empty database for the benchmark"
            )

    def mib(self, home: Path) -> float:
        """Its size.

        Args:
            home: Airflow's home, where SQLite's file lies.
        """
        if self.url:
            size = int(self._ask("select pg_database_size(current_database())"))
        else:
            size = sum(file.stat().st_size for file in home.glob("airflow.db*"))
        return round(size / 2**20, 1)

    def cpu(self) -> float:
        """Processor seconds of the server and its connections so far.

        0 for SQLite, whose work is that of the processes that use it, and for a server on another
        machine.
        """
        if not self.url:
            return 0.0
        with closing(self._connect()) as connection:  # its process ends with it
            server = _stat(int(_one(connection, "select pg_backend_pid()")))
        if server is None or not server[0].startswith("postgres"):
            return 0.0
        leader = int(server[1][1])
        found = [_stat(int(path.name)) for path in Path("/proc").glob("[0-9]*")]
        live = [fields for _, fields in filter(None, found) if int(fields[1]) == leader]
        own = (_stat(leader) or ("", ["0"] * 20))[1]
        ticks = sum(map(int, own[11:15])) + sum(int(f[11]) + int(f[12]) for f in live)
        return ticks / os.sysconf("SC_CLK_TCK")

    def _ask(self, question: str) -> Any:
        with closing(self._connect()) as connection:
            return _one(connection, question)

    def _connect(self) -> Any:
        import psycopg2  # type: ignore[import-untyped]

        plain = self.url.replace("postgresql+psycopg2://", "postgresql://")
        try:
            return psycopg2.connect(plain)
        except psycopg2.OperationalError as error:
            raise SystemExit(f"--database: {error}") from error


def _one(connection: Any, question: str) -> Any:
    """The first value of the first row."""
    with connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
    return row[0] if row else None


def _stat(pid: int) -> tuple[str, list[str]] | None:
    """A process's name and the fields after it in its ``stat`` file; None when it is gone."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return None
    return name, rest.split()
