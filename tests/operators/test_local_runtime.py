"""The local runtime: no process outlives its task."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from include.stages.specs import STAGES

pytestmark = pytest.mark.airflow

PROJECT = Path(__file__).resolve().parents[2]
SPEC = STAGES["sign"]


def script(path, text):
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return path


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_events_arrive_in_order_and_chatter_is_kept_apart(tmp_path):
    from operators.runtimes import LocalRuntime

    worker = script(
        tmp_path / "w",
        """echo '{"event":"start","stage":"x"}'; echo chatter; echo noise >&2
        echo '{"event":"progress","done":1,"total":2}'; exit 75""",
    )
    events = []
    runtime = LocalRuntime(worker)
    assert runtime.run("s#k", SPEC, events.append) == 75
    assert [event["event"] for event in events] == ["start", "progress"]
    assert set(runtime.last_words.splitlines()) == {"chatter", "noise"}


def test_a_missing_interpreter_is_named(tmp_path):
    from operators.runtimes import LocalRuntime

    runtime = LocalRuntime(tmp_path / "nowhere")
    assert runtime.run("s#k", SPEC, print) == 2
    assert "nowhere" in runtime.last_words


def test_helpers_that_a_stage_leaves_behind_are_ended_with_it(tmp_path):
    from operators.runtimes import LocalRuntime

    pid_file = tmp_path / "pid"
    worker = script(tmp_path / "w", f"sleep 300 & echo $! > {pid_file}; exit 0")
    assert LocalRuntime(worker).run("s#k", SPEC, print) == 0
    pid = int(pid_file.read_text())
    assert wait_for(lambda: not alive(pid))


def test_killing_ends_a_stage_that_ignores_sigterm(tmp_path):
    from operators.runtimes import LocalRuntime, local

    pid_file = tmp_path / "pid"
    worker = script(
        tmp_path / "w", f"trap '' TERM; sleep 300 & echo $! > {pid_file}; while :; do sleep 1; done"
    )
    runtime = LocalRuntime(worker)
    grace, local.GRACE_S = local.GRACE_S, 0.3
    try:
        threading.Thread(target=lambda: wait_for(pid_file.exists) and runtime.kill()).start()
        assert runtime.run("s#k", SPEC, print) == -9
    finally:
        local.GRACE_S = grace
    pid = int(pid_file.read_text())
    assert wait_for(lambda: not alive(pid))


def test_an_exception_in_the_task_ends_the_stage(tmp_path):
    from operators.runtimes import LocalRuntime

    pid_file = tmp_path / "pid"
    worker = script(
        tmp_path / "w", f"""echo $$ > {pid_file}; echo '{{"event":"start"}}'; exec sleep 300"""
    )

    def interrupted(event):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        LocalRuntime(worker).run("s#k", SPEC, interrupted)
    assert wait_for(lambda: not alive(int(pid_file.read_text())))


def test_a_task_that_is_killed_outright_leaves_no_stage_behind(tmp_path):
    pid_file = tmp_path / "pid"
    worker = script(tmp_path / "w", f"sleep 300 & echo $! $$ > {pid_file}; wait")
    code = (
        "from pathlib import Path; from operators.runtimes import LocalRuntime;"
        "from include.stages.specs import STAGES;"
        f"LocalRuntime(Path({str(worker)!r})).run('s#k', STAGES['sign'], print)"
    )
    task = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(PROJECT)}
    )
    assert wait_for(lambda: pid_file.exists() and pid_file.read_text().strip())
    pids = [int(pid) for pid in pid_file.read_text().split()]
    task.kill()
    task.wait()
    assert wait_for(lambda: not any(alive(pid) for pid in pids))
