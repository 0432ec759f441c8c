"""A campaign that is late takes its own slots first and sends the rest to a model API."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
import yaml

from tests.live.test_campaign_through_airflow import DAG, PROJECT, wait_for
from tests.services.model_api import TOKEN, model_api

pytestmark = [pytest.mark.airflow, pytest.mark.live]

ROWS = ("eve", "mia", "tom", "zoe")
CALL = 0.01
"""Price of a call."""
MAKE = """
import sys
from pathlib import Path
from tests.support.tiny import hopper, make_tiny
tiny = make_tiny(Path(sys.argv[1]))
tiny.brief["budget"] = {"currency": "USD", "limit": 1}
for number, name in enumerate(sys.argv[2:], 1):
    photo = (hopper() * (1 - 0.02 * number)).astype("uint8")
    tiny.add(name, photo, name=name.title())
tiny.write()
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Four rows, one slot of our own, a deadline that has passed, and an API that helps out."""
    root = tmp_path_factory.mktemp("hybrid")
    worker = os.environ.get("UNDERSTUDY_WORKER_PYTHON") or PROJECT / ".venv/worker/bin/python"
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "UNDERSTUDY_STATE": str(root / "state")}
    command = [worker, "-c", MAKE, str(root), *ROWS[1:]]
    subprocess.run(command, cwd=PROJECT, env=env, check=True)
    options = ("--slots", "2", "--price-per-call", str(CALL))
    with model_api(root / "api", *options, python=worker) as api, pytest.MonkeyPatch.context() as p:
        price = {"per_call": CALL, "currency": "USD"}
        models = [
            {"stage": "face_swap", "backend": "mesh", **price},
            {"stage": "upscale", "backend": "compact", **price},
        ]
        declared = {"endpoints": [{"name": "near", "url": api.url, "models": models}]}
        (root / "remotes.yaml").write_text(yaml.safe_dump(declared))
        p.delenv("UNDERSTUDY_DATABASE_URL", raising=False)
        for name, value in {
            "STORE": root / "store",
            "STATE": root / "state",
            "ROOTS": root,
            "RUNTIME": "hybrid",
            "REMOTE": root / "remotes.yaml",
            "REMOTE_TOKEN": TOKEN,
            "SLOTS": 1,
            "BURST": len(ROWS),
            "DEADLINE_S": 1,
        }.items():
            p.setenv(f"UNDERSTUDY_{name}", str(value))
        yield root, api


@pytest.fixture(scope="module")
def totals(home):
    """What a run through Airflow reported; its files lie in ``out``."""
    from include.cli.follow import load_plan
    from include.cli.stack import Stack, free_port, running_stack
    from include.report import export
    from include.settings import Settings

    root, _ = home
    settings = Settings.from_env()
    with running_stack(Stack(root / "airflow", free_port(), settings=settings)) as stack:
        api = stack.api()
        conf = {"brief": str(root / "campaign/brief.yaml"), "shard_size": 1}
        run_id = api.trigger(DAG, conf)
        wait_for("the run's end", lambda: api.run_state(DAG, run_id) in ("success", "failed"))
        assert api.run_state(DAG, run_id) == "success", api.task_instances(DAG, run_id)
        plan = load_plan(api.xcom(DAG, run_id, "plan", "campaign"))
        found = api.xcom(DAG, run_id, "report")
    export(plan, run_id, root / "out", settings)
    return found


def test_everybody_is_delivered_by_our_own_slot_and_the_api_side_by_side(totals, home):
    root, api = home
    assert (totals["delivered"], totals["instead"]) == (len(ROWS), [])
    reports = [json.loads((root / f"out/{name}/report.json").read_text()) for name in ROWS]
    made = [report["stages"][stage] for report in reports for stage in ("face_swap", "upscale")]
    away = [found["remote"] for found in made if found.get("remote")]
    assert away, "the deadline had passed: what would have waited had to go to the API"
    assert len(away) < len(made), "a slot of our own that is free is taken first"
    assert {call["price"] for call in away} == {CALL}
    assert totals["remote_cost"] == pytest.approx(CALL * len(away)), "each call is paid once"
    assert api.counts()["done"] == len(away)
