"""``./understudy up`` and ``down``: Airflow and its UI for daily use."""

from __future__ import annotations

import argparse
import sys

from include.cli.stack import Stack, free_port
from include.errors import UnderstudyError
from include.settings import PROJECT, Settings

DAILY_HOME = PROJECT / ".understudy" / "airflow"


def main(argv: list[str] | None = None) -> int:
    """Start or stop the stack; returns the exit code."""
    parser = argparse.ArgumentParser(prog="./understudy up", description=__doc__)
    parser.add_argument("--port", type=int, default=8080, help="of UI and API, on 127.0.0.1")
    parser.add_argument("--down", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    try:
        return down() if args.down else up(args.port)
    except UnderstudyError as error:
        print(f"understudy: {error.message}", file=sys.stderr)
        return error.exit_code


def up(port: int) -> int:
    """Start the stack unless it runs already."""
    stack = Stack(DAILY_HOME, settings=Settings.from_env())
    if stack.running():
        print(f"Airflow runs already: {stack.url}")
    else:
        stack.port = free_port(port)
        print(f"Starting Airflow on {stack.url} ...", flush=True)
        stack.start()
    print(f"  user admin, password in {DAILY_HOME / 'passwords.json'}")
    print(f"  logs: {stack.log_dir}\n  stop it with ./understudy down")
    return 0


def down() -> int:
    """Stop the stack."""
    stopped = Stack(DAILY_HOME, settings=Settings.from_env()).stop()
    print("Airflow was stopped" if stopped else "Airflow was not running")
    return 0


if __name__ == "__main__":
    sys.exit(main())
