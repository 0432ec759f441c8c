"""Media that wait behind a closed gate are measured, and nothing is rendered of them."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from include.drift import gates
from include.errors import Refused
from include.settings import Settings
from include.store import open_store
from tests.include.drift.test_gates import verdict

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

PROJECT = Path(__file__).resolve().parents[2]
MAKE = """
import sys
from pathlib import Path
from include.samples import shifts
from tests.support.tiny import hopper, make_tiny
tiny = make_tiny(Path(sys.argv[1]))
tiny.add("green", shifts.hue(hopper(), 120))
tiny.write()
"""


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A tiny campaign on disk whose tenant is stopped by drift of photos."""
    worker = os.environ.get("UNDERSTUDY_WORKER_PYTHON") or PROJECT / ".venv/worker/bin/python"
    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("UNDERSTUDY_ROOTS", str(tmp_path))
    monkeypatch.setenv("UNDERSTUDY_WORKER_PYTHON", str(worker))
    monkeypatch.setenv("UNDERSTUDY_DRIFT_POLICY", "stop")
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    subprocess.run([worker, "-c", MAKE, str(tmp_path)], cwd=PROJECT, env=env, check=True)
    found = replace(Settings.from_env(), worker_python=Path(worker))
    gates.apply(open_store(found.store), "acme", [verdict("drift")], "run", "x.html")
    return found


def test_a_brief_that_cannot_be_measured_holds_nobody_else_back(settings, tmp_path, monkeypatch):
    from include.drift import incoming as library
    from include.errors import OutOfMemory, Usage
    from operators import incoming

    tried = []
    found = {"usage.yaml": Usage("no such folder"), "large.yaml": OutOfMemory("too large")}

    def measure(brief, *_, **__):
        tried.append(brief)
        if brief in found:
            raise found[brief]
        return "acme", 1

    monkeypatch.setattr(library, "measure_incoming", measure)
    for briefs, raised in (
        (["usage.yaml", "good.yaml"], None),
        (["large.yaml", "good.yaml"], OutOfMemory),
    ):
        tried.clear()
        monkeypatch.setattr(incoming, "waiting_briefs", lambda *_, briefs=briefs: briefs)
        if raised is None:
            assert incoming.measure_incoming({}, {"run_id": "x"}) == ["acme"]
        else:
            with pytest.raises(raised):
                incoming.measure_incoming({}, {"run_id": "x"})
        assert tried == briefs
    with pytest.raises(Usage):
        incoming.measure_incoming({"media": "usage.yaml"}, {"run_id": "x"})


def test_another_tenants_media_are_not_measured_for_this_one(settings, tmp_path, capsys):
    from include.cli.drift import main
    from include.errors import Usage
    from operators.incoming import measure_incoming

    brief = str(tmp_path / "campaign" / "brief.yaml")
    with pytest.raises(Usage, match="a brief of acme, not of other"):
        measure_incoming({"media": brief, "tenant": "other"}, {"run_id": "x"})
    assert main(["--media", brief, "--tenant", "other"]) == 2
    assert "a brief of acme, not of other" in capsys.readouterr().err
    assert not list(open_store(settings.store).list("acme/drift/rows/"))


def test_what_waits_for_a_gate_is_measured_and_not_rendered(settings, tmp_path, monkeypatch):
    from include.cli.drift import main
    from include.drift.rows import files_of, read_files, read_rows
    from include.planning import plan_campaign
    from operators.incoming import measure_incoming, waiting_briefs

    brief = str(tmp_path / "campaign" / "brief.yaml")
    monkeypatch.setenv("AIRFLOW_VAR_UNDERSTUDY_BRIEFS", str(tmp_path / "campaign"))
    with pytest.raises(Refused, match="drift is not settled"):
        plan_campaign(brief, settings)
    assert list(waiting_briefs(None, settings)) == [brief]
    assert list(waiting_briefs("other", settings)) == []
    assert measure_incoming({}, {"run_id": "scheduled"}) == ["acme"]

    store = open_store(settings.store)
    assert list(read_rows(store, "acme", "photo")["unit"]) == ["eve"]
    every = read_files(store, "photo", files_of(store, "acme", "photo"))
    assert set(every["unit"]) == {"eve", "green"}
    assert every.set_index("unit").at["green", "refused"].startswith("photo-")
    for kind, rows in (("template", 1), ("audio", 1), ("render", 0)):
        assert len(read_rows(store, "acme", kind)) == rows
    stages = {info.key.split("/")[1] for info in store.list("acme/")}
    assert not stages & {"face_swap", "lip_sync", "upscale", "upscale_plate", "compose", "publish"}

    assert main(["--media", brief]) == 3, "the gate is still open: rows are few"
    assert len(read_rows(store, "acme", "photo")) == 1, "nothing was measured again"
    gates.apply(store, "acme", [verdict("ok")], "later", "x.html")
    assert list(waiting_briefs(None, settings)) == []
    plan_campaign(brief, settings)
