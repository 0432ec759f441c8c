"""A stage process that is asked to end: preempted, past its time, or its task was cleared."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from include.contracts.stage import StageRequest
from include.local_run import stage_env
from include.planning import plan_campaign
from include.store import open_store
from tests.support.tiny import make_tiny, tiny_environment

pytestmark = pytest.mark.slow


def test_a_stage_that_is_asked_to_end_leaves_no_scratch_files_and_no_lease(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tiny_environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    tiny = make_tiny(tmp_path)
    plan = plan_campaign(str(tiny.write()), tiny.settings)
    request = StageRequest(
        stage="ingest_template", store=plan.store, tenant=plan.tenant, plan=plan.template.plan,
        units=("template",), run_id="end", result=f"{plan.tenant}/result/end/001.result.json",
    )  # fmt: skip
    store, asked = open_store(plan.store), f"{plan.tenant}/result/end/001.request.json"
    store.put(asked, request.model_dump_json().encode())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [str(tiny.settings.worker_python), "-m", "include.stages", "ingest_template"]
    process = subprocess.Popen(
        [*command, "--request", f"{plan.store}#{asked}"],
        env={**stage_env(), "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and not list(scratch.glob("*/source/video/*")):
        time.sleep(0.01)
    assert list(store.list(f"{plan.tenant}/lease/"))
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert list(scratch.iterdir()) == []
    assert list(store.list(f"{plan.tenant}/lease/")) == []
    assert store.head(request.result) is None
