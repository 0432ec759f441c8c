"""The whole stack: boot, trigger over REST, answer a question, check what was published."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote

import pytest

pytestmark = [pytest.mark.airflow, pytest.mark.live]

PROJECT = Path(__file__).resolve().parents[2]
DAG = "campaign_render"
MAKE = """
import sys
from pathlib import Path
from tests.support.tiny import hopper, make_tiny
tiny = make_tiny(Path(sys.argv[1]))
tiny.brief["voice"] = {"at": "0.2s", "longer": "trim"}
tiny.brief["policy"] = {"min_success_ratio": 0.6}
tiny.add("mia", hopper(), script="Easy money.")
tiny.add("nobody", b"this is no picture")
tiny.write()
"""
"""Row eve passes, mia's script needs a person, nobody's photo is a text file."""


def wait_for(what, condition, seconds=600.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(1.0)
    raise TimeoutError(f"waited {seconds:.0f} s for {what}")


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """A tiny campaign on disk, and the environment that its stages need."""
    root = tmp_path_factory.mktemp("live")
    worker = os.environ.get("UNDERSTUDY_WORKER_PYTHON") or PROJECT / ".venv/worker/bin/python"
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "UNDERSTUDY_STATE": str(root / "state")}
    subprocess.run([worker, "-c", MAKE, str(root)], cwd=PROJECT, env=env, check=True)
    patch = pytest.MonkeyPatch()
    patch.setenv("UNDERSTUDY_STORE", str(root / "store"))
    patch.setenv("UNDERSTUDY_STATE", str(root / "state"))
    patch.setenv("UNDERSTUDY_ROOTS", str(root))
    patch.delenv("UNDERSTUDY_DATABASE_URL", raising=False)
    yield root
    patch.undo()


@pytest.fixture(scope="module")
def stack(campaign):
    """Airflow, running, with a login."""
    from include.cli.stack import Stack, free_port, running_stack
    from include.settings import Settings

    stack = Stack(campaign / "airflow", free_port(), settings=Settings.from_env())
    with running_stack(stack):
        yield stack


@pytest.fixture(scope="module")
def run(stack, campaign):
    """The first run, from the trigger to its end; the question answered on the way."""
    api = stack.api()
    brief = str(campaign / "campaign/brief.yaml")
    run_id = api.trigger(DAG, {"brief": brief, "shard_size": 1})
    seen = {}

    def instances(task_id):
        found = api.task_instances(DAG, run_id)
        return {i["rendered_map_index"]: i for i in found if i["task_id"] == task_id}

    def asked_and_rest_published():
        if api.run_state(DAG, run_id) in ("success", "failed"):
            pytest.fail(f"the run ended without a question: {api.task_instances(DAG, run_id)}")
        question = instances("reviewed.review").get("mia", {})
        published = instances("render_shard.publish").get("eve", {})
        return question.get("state") == "awaiting_input" and published.get("state") == "success"

    wait_for("the question about mia, and eve's video", asked_and_rest_published)
    path = f"dags/{DAG}/dagRuns/{quote(run_id, safe='')}"
    seen["question"] = api.get(f"{path}/hitlDetails")["hitl_details"][0]
    time.sleep(2.5)  # an answer in the moment of asking can be lost (Airflow 3.3)
    api.patch(
        f"{path}/taskInstances/reviewed.review/0/hitlDetails",
        {"chosen_options": ["Approve"], "params_input": {"note": "looks fine"}},
    )
    wait_for("the run's end", lambda: api.run_state(DAG, run_id) in ("success", "failed"))
    return {"id": run_id, "state": api.run_state(DAG, run_id), "api": api, **seen}


def plan_of(run):
    from include.cli.follow import load_plan

    return load_plan(run["api"].xcom(DAG, run["id"], "plan", "campaign"))


def test_the_run_succeeds_although_a_row_is_bad(run):
    assert run["state"] == "success"
    totals = run["api"].xcom(DAG, run["id"], "report")
    assert (totals["rows"], totals["delivered"]) == (3, 2)
    assert [row["recipient"] for row in totals["missing"]] == ["nobody"]


def test_the_question_names_the_row_and_its_reasons(run):
    question = run["question"]
    assert "mia" in question["subject"]
    assert "easy money" in question["body"].lower()
    assert question["options"] == ["Approve", "Reject"]
    assert question["defaults"] == ["Reject"]
    assert "data:image" not in question["body"]


def test_published_videos_verify(run, campaign):
    from include.report import export
    from include.settings import Settings

    settings = Settings.from_env()
    videos = export(plan_of(run), run["id"], campaign / "out", settings)
    assert sorted(video.parent.name for video in videos) == ["eve", "mia"]
    for video in videos:
        done = subprocess.run(
            [str(settings.worker_python), "-m", "include.provenance.verify", str(video)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_decision_says_who_and_why(run):
    from include.contracts.plan import ShardPlan
    from include.store import open_store
    from include.store.cache import ArtifactCache
    from include.verdict import decision_of

    plan = plan_of(run)
    store = open_store(plan.store)
    rows = {}
    for ref in plan.shards:
        rows.update({u.id: u for u in ShardPlan.model_validate_json(store.get(ref.plan)).rows})
    decision = decision_of(ArtifactCache(store, plan.tenant), rows["mia"])
    assert decision is not None
    assert (decision.approved, decision.by, decision.note) == (True, "admin", "looks fine")


def test_only_people_who_are_logged_in_see_the_contact_sheet(run, stack):
    body = run["question"]["body"]
    url = body[body.index("](http") + 2 :].split(")")[0]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)
    headers = stack.api()._headers()
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as answer:
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert len(answer.read()) > 1000


def test_tasks_hand_each_other_references_only(run):
    path = f"dags/{DAG}/dagRuns/{quote(run['id'], safe='')}/taskInstances/~/xcomEntries"
    entries = run["api"].get(path, limit=100)["xcom_entries"]
    assert entries
    for entry in entries:
        where = f"{path.removesuffix('~/xcomEntries')}{entry['task_id']}/xcomEntries/{entry['key']}"
        value = run["api"].get(where, map_index=entry["map_index"], deserialize="true")["value"]
        assert len(str(value)) < 3000, entry


def test_a_second_run_asks_nobody_and_starts_no_stage_for_what_is_there(run, stack, campaign):
    api = stack.api()
    brief = str(campaign / "campaign/brief.yaml")
    again = api.trigger(DAG, {"brief": brief, "shard_size": 1, "only": ["eve", "mia"]})
    wait_for("the second run", lambda: api.run_state(DAG, again) in ("success", "failed"), 300)
    totals = api.xcom(DAG, again, "report")
    assert (totals["delivered"], totals["stage_processes"]) == (2, 0)
    assert totals["said"] == "everything was rendered before: no stage process was started"
    states = {i["task_id"]: i["state"] for i in api.task_instances(DAG, again)}
    assert states["reviewed.review"] == "skipped"


def test_new_rows_trigger_a_validation(run, stack, campaign):
    """The asset that a campaign's report updates starts ``drift_validation``."""
    from include.drift.rows import read_rows
    from include.store import open_store

    api = stack.api()
    store = open_store(str(campaign / "store"))
    rows = {kind: read_rows(store, plan_of(run).tenant, kind) for kind in ("photo", "render")}
    assert set(rows["render"]["unit"]) == {"eve", "mia"}
    assert rows["photo"]["face_size"].notna().all()
    api.patch("dags/drift_validation", {"is_paused": False})
    brief = str(campaign / "campaign/brief.yaml")
    again = api.trigger(DAG, {"brief": brief, "shard_size": 1, "only": ["eve"]})
    wait_for("the campaign", lambda: api.run_state(DAG, again) in ("success", "failed"), 300)

    def validated():
        runs = api.get("dags/drift_validation/dagRuns", limit=20)["dag_runs"]
        mine = [r for r in runs if r["run_type"] == "asset_triggered"]
        return [r for r in mine if r["state"] in ("success", "failed")]

    (found, *_) = wait_for("a validation", validated, 300)
    assert found["state"] == "success"
    result = api.xcom("drift_validation", found["dag_run_id"], "report")
    assert result[plan_of(run).tenant]["outcomes"]["render"] == "no_reference"


def drift_away(store, tenant):
    """An accepted reference of photos, and 200 photos that are warmer."""
    from datetime import UTC, datetime, timedelta

    from include.drift.reference import accept, keep_batch
    from include.drift.rows import read_rows, write_rows
    from include.samples.feature_rows import RowModel, changed, measured_rows

    start = datetime(2026, 3, 1, tzinfo=UTC)
    known = measured_rows("photo")
    write_rows(store, tenant, "a", RowModel.fit("photo", known).rows_of(1, 500, start=start))
    batch = keep_batch(store, tenant, "photo", read_rows(store, tenant, "photo"))
    accept(store, tenant, "photo", batch, by="Ada")
    warm = RowModel.fit("photo", changed(known, warmth=12.0))
    write_rows(store, tenant, "b", warm.rows_of(2, 200, start=start + timedelta(days=3)))


def test_drift_asks_a_person_whose_answer_freezes_the_reference(stack, campaign):
    from include.drift import gates
    from include.drift.reference import newest
    from include.store import open_store

    api, dag = stack.api(), "drift_validation"
    store = open_store(str(campaign / "store"))
    drift_away(store, "warm")
    run_id = api.trigger(dag, {"tenant": "warm"})
    path = f"dags/{dag}/dagRuns/{quote(run_id, safe='')}"

    def asked():
        states = {i["task_id"]: i["state"] for i in api.task_instances(dag, run_id)}
        return states.get("drifted.ask") == "awaiting_input"

    wait_for("the question", asked, 300)
    assert gates.gates_of(store, "warm", "stop").open
    question = api.get(f"{path}/hitlDetails")["hitl_details"][0]
    assert question["subject"] == "Photo assets of warm have drifted. What now?"
    links = api.get(f"{path}/taskInstances/validate/links", map_index=0)["extra_links"]
    url = links["Drift report"]
    assert url in question["body"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url)
    with urllib.request.urlopen(urllib.request.Request(url, headers=api._headers())) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert "Drift in photo assets" in answer.read().decode()
    time.sleep(2.5)  # an answer in the moment of asking can be lost (Airflow 3.3)
    api.patch(
        f"{path}/taskInstances/drifted.ask/0/hitlDetails",
        {"chosen_options": ["Accept as the new reference"], "params_input": {"note": "new light"}},
    )
    wait_for("the run's end", lambda: api.run_state(dag, run_id) in ("success", "failed"), 300)
    assert api.run_state(dag, run_id) == "success"
    window = newest(store, "warm", "photo")
    assert (window.version, window.accepted_by, window.note) == (2, "admin", "new light")
    assert gates.gates_of(store, "warm", "stop").open == ()
    events = api.get("assets/events", limit=50)["asset_events"]
    assert {"tenants": ["warm"]} in [event["extra"] for event in events]
