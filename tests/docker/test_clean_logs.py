"""The log groomer that the official chart starts beside every process of ours."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from include.settings import PROJECT

pytestmark = pytest.mark.airflow


def aged(path, days):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("a line\n")
    when = time.time() - days * 86400
    os.utime(path, (when, when))
    return path


def test_old_logs_go_young_ones_stay_and_it_ends_when_it_is_told(tmp_path):
    old = aged(tmp_path / "logs/dag_id=a/run_id=1/attempt=1.log", 3)
    young = aged(tmp_path / "logs/dag_id=a/run_id=2/attempt=1.log", 1)
    outside = aged(tmp_path / "airflow.cfg", 100)
    settings = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOG_RETENTION_DAYS": "2"}
    command = ["bash", str(PROJECT / "docker/airflow/clean-logs")]
    groomer = subprocess.Popen(command, env={**os.environ, **settings})
    try:
        for _ in range(200):
            if not old.exists():
                break
            time.sleep(0.05)
    finally:
        groomer.send_signal(signal.SIGTERM)
        assert groomer.wait(10) == 0
    assert not old.exists()
    assert young.exists()
    assert outside.exists()
