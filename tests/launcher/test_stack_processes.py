"""Stopping Airflow leaves nothing behind, whoever died before."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from include.cli.sessions import started
from include.cli.stack import Stack
from include.settings import Settings

pytestmark = pytest.mark.airflow

FAMILY = """
import os, signal, sys, time
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
time.sleep(600)
"""
"""A scheduler with a task in a process group of its own, that ignores SIGTERM."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("include.cli.stack.STOP_S", 0.5)


@pytest.fixture
def family():
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    task = int(process.stdout.readline())
    yield process, task
    for pid in (process.pid, task):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()
    process.stdout.close()


def stack_of(home, process):
    entry = {"name": "scheduler", "pid": process.pid, "started": started(process.pid)}
    home.mkdir(exist_ok=True)
    state = {"port": 1, "pids": {"scheduler": entry}}
    (home / "stack.json").write_text(json.dumps(state))
    return Stack(home, 1, settings=Settings.from_env())


def gone(pid):
    return not started(pid) or open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] == "Z"


def test_a_task_in_a_group_of_its_own_is_stopped_too(tmp_path, family):
    process, task = family
    assert stack_of(tmp_path / "home", process).stop()
    assert gone(process.pid)
    assert gone(task)


def test_what_a_scheduler_that_was_killed_left_behind_is_stopped(tmp_path, family):
    process, task = family
    stack = stack_of(tmp_path / "home", process)
    process.kill()
    process.wait()
    assert not gone(task)
    assert stack.stop()
    assert gone(task)


def test_a_restart_ends_what_was_left_behind_first(tmp_path, family, monkeypatch):
    """Orphaned workers hold the dead scheduler's database connection, and its locks, open."""
    process, task = family
    stack = stack_of(tmp_path / "home", process)
    process.kill()
    process.wait()
    seen = []
    monkeypatch.setattr(Stack, "_spawn", lambda *_: seen.append(gone(task)) or {"pid": 1})
    monkeypatch.setattr(Stack, "environment", lambda _: {})
    stack.restart("scheduler")
    assert seen == [True]


def test_a_process_that_got_the_number_later_is_left_alone(tmp_path, family):
    process, task = family
    stack = stack_of(tmp_path / "home", process)
    state = json.loads((tmp_path / "home/stack.json").read_text())
    state["pids"]["scheduler"]["started"] = "1"
    (tmp_path / "home/stack.json").write_text(json.dumps(state))
    assert not stack.stop()
    assert not gone(process.pid)
    assert not gone(task)


def test_what_ended_by_itself_is_known_dead_although_its_task_lives(tmp_path, family):
    process, task = family
    stack = stack_of(tmp_path / "home", process)
    assert stack.dead() == []
    process.kill()
    process.wait()
    assert stack.dead() == ["scheduler"]
    assert not gone(task)
