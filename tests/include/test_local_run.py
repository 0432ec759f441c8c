from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from include.contracts.stage import StageRequest, StageResult, UnitResult
from include.errors import OutOfMemory, Transient
from include.keys import DEFAULTS
from include.live import backend_ref
from include.local_run import Run, run_stage, stage_env
from include.rollout.golden import render
from include.settings import Settings
from include.stages.specs import STAGES
from include.store import open_store
from tests.support.campaign import Campaign


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("UNDERSTUDY_CONSENT_KEYS", str(tmp_path / "state" / "consent"))
    (tmp_path / "in").mkdir()
    made = Campaign(tmp_path / "in", replace(Settings.from_env(), roots=(tmp_path / "in",)))
    made.add("anna")
    return made


def answering(**said: object):
    """A stage that writes a result for everything that it is asked for."""

    def start(spec, where: str) -> tuple[int, str]:
        place, _, key = where.partition("#")
        store = open_store(place)
        asked = StageRequest.model_validate_json(store.get(key))
        units = tuple(UnitResult(id=unit, **said) for unit in asked.units)
        found = StageResult(stage=spec.name, plan=asked.plan, run_id=asked.run_id, units=units)
        store.put(asked.result, found.model_dump_json().encode())
        return 0, ""

    return start


def test_what_an_earlier_try_wrote_is_not_taken_for_the_result_of_one_that_was_killed(
    campaign: Campaign,
) -> None:
    plan, spec = campaign.plan(), STAGES["ingest_template"]
    earlier = Run(answering(status="failed", code="transient", message="busy", retry=True))
    run_stage(spec, plan.template, campaign.settings, earlier, "one")
    assert earlier.unit(spec.name, "template").message == "busy"
    killed = Run(lambda *_: (OutOfMemory.exit_code, "killed"))
    with pytest.raises(OutOfMemory, match="killed"):
        run_stage(spec, plan.template, campaign.settings, killed, "one")


def test_a_golden_recipient_who_may_be_rendered_yet_is_not_counted_as_failed(
    campaign: Campaign,
) -> None:
    campaign.plan()
    champion = backend_ref("upscale", DEFAULTS["upscale"])
    busy = answering(status="failed", code="transient", message="busy", retry=True)
    with pytest.raises(Transient, match="anna: busy"):
        render(str(campaign.brief), "upscale", champion, campaign.settings, "one", busy)
    broken = answering(status="failed", code="media.bad", message="no face")
    found = render(str(campaign.brief), "upscale", champion, campaign.settings, "two", broken)
    assert found.problems == {"anna": "no face"}


HEAPS = """
import ctypes, sys, threading
libc = ctypes.CDLL(None)
together = threading.Barrier(8)

def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
"""


def test_a_stage_process_has_few_heaps_however_many_threads_it_starts(tmp_path: Path) -> None:
    told = tmp_path / "heaps.xml"
    subprocess.run([sys.executable, "-c", HEAPS, str(told)], env=stage_env(), check=True)
    assert 1 <= told.read_text().count("<heap nr=") <= 2
