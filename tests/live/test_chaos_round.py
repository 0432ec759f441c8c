"""One short round of faults against a real Airflow: everything that is promised holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.live]

PROJECT = Path(__file__).resolve().parents[2]
FAULTS = "stage-kill,api-kill,duplicate"


def test_a_round_of_faults_loses_nobody(tmp_path):
    out = tmp_path / "chaos.json"
    command = [sys.executable, "-m", "include.cli.chaos", "--rounds", "1", "--recipients", "1"]
    command += ["--faults", FAULTS, "--seed", "4", "--minutes", "10", "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False, timeout=850
    )
    assert done.returncode == 0, done.stdout + done.stderr
    undisturbed, broken = json.loads(out.read_text())["rounds"]
    assert undisturbed["wrong"] == broken["wrong"] == []
    assert undisturbed["attempts"] == undisturbed["succeeded"], (
        "an attempt too much without a fault"
    )
    assert {fault["kind"] for fault in broken["faults"]} == set(FAULTS.split(","))
    assert all(fault["until_s"] is not None or not lasts(fault) for fault in broken["faults"])
    assert broken["recovered_s"] is not None


def lasts(fault):
    from include.chaos.schedule import KINDS

    return KINDS[fault["kind"]].lasts_s[1] > 0
