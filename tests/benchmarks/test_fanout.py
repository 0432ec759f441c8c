"""``bench fanout`` without Airflow: the campaign it makes is one that the planner takes whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from include.settings import PROJECT

ROWS = 30


def test_the_campaign_is_planned_cold_and_warm_without_a_reject(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.fanout", "--plan-only", "--rows", str(ROWS)]
    places = ["--home", str(tmp_path / "home"), "--out", str(tmp_path / "fanout.json")]
    done = subprocess.run(
        [*command, "--shard-size", "10", *places],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    body = json.loads((tmp_path / "fanout.json").read_text())
    assert list(body["planning"]) == ["cold", "warm", "warm again"]
    assert {found["shards"] for found in body["planning"].values()} == {3}
    (plan,) = (tmp_path / "home/store/bench/plan").glob("*/plan.json")
    assert json.loads(plan.read_text())["accepted"] == ROWS
    assert "| cold |" in done.stdout
