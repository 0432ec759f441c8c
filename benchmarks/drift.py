"""``bench drift``: what a validation costs, by rows.

Each size runs in a process of its own in the Airflow environment, where Great Expectations is:
feature rows of photos, fitted to measured ones, against a reference of 1,000; reading, checkpoint,
report, gates. Memory is the process's peak, its imports included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.measure import machine, print_table, write_json
from include.cli.environments import ENVIRONMENTS
from include.samples.feature_rows import RowModel, measured_rows
from include.settings import PROJECT
from include.store import open_store

FOLDER = PROJECT / ".understudy/bench"
START = datetime(2026, 1, 1, tzinfo=UTC)
REFERENCE = 1000
TENANT = "bench"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="understudy bench drift", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=FOLDER / "drift.json")
    args = parser.parse_args(argv)
    if args.one is not None:
        print(json.dumps(measure(args.one)))
        return 0
    found = {rows: [_in_a_process(rows) for _ in range(args.rounds)] for rows in args.rows}
    print_table(
        ["rows", "import s", "write s", "validate s", "CPU s", "peak MiB"],
        [
            [f"{rows:,}", *(_spread([run[name] for run in runs]) for name in FIGURES)]
            for rows, runs in found.items()
        ],
    )
    write_json(args.out, {"machine": machine(), "runs": {str(n): r for n, r in found.items()}})
    return 0


FIGURES = ("import_s", "write_s", "validate_s", "cpu_s", "peak_mib")


def _spread(values: list[float]) -> str:
    middle = sorted(values)[len(values) // 2]
    return f"{middle:.1f} ({min(values):.1f} to {max(values):.1f})"


def _in_a_process(rows: int) -> dict[str, float]:
    python = str(ENVIRONMENTS["airflow"].python)
    command = [python, "-m", "benchmarks.drift", "--one", str(rows)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def measure(rows: int) -> dict[str, float]:
    """Validate this many rows here; figures by name."""
    start = time.perf_counter()
    from include.drift.reference import accept, keep_batch
    from include.drift.rows import read_rows, write_rows
    from include.drift.validate import validate_tenant

    imported = time.perf_counter()
    model = RowModel.fit("photo", measured_rows("photo"))
    with tempfile.TemporaryDirectory(prefix="bench-drift-") as folder:
        store = open_store(folder)
        write_rows(store, TENANT, "reference", model.rows_of(1, REFERENCE, start=START))
        batch = keep_batch(store, TENANT, "photo", read_rows(store, TENANT, "photo"))
        accept(store, TENANT, "photo", batch, by="bench")
        fresh = model.rows_of(2, rows, start=START + timedelta(days=30))
        begin = time.perf_counter()
        write_rows(store, TENANT, "run", fresh)
        written = time.perf_counter()
        cpu = time.process_time()
        (photo,) = validate_tenant(store, TENANT, "run", kinds=("photo",)).verdict.kinds
        validated = time.perf_counter()
        cpu = time.process_time() - cpu
    if (photo.outcome, photo.rows) != ("ok", rows):
        raise SystemExit(f"the rows were not judged as expected: {photo.said}")
    return {
        "import_s": imported - start,
        "write_s": written - begin,
        "validate_s": validated - written,
        "cpu_s": cpu,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
