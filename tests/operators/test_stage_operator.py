"""The stage operator: what it starts, what it hands on, which error it raises."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from include import errors
from include.contracts.stage import StageRequest, StageResult
from include.stages.specs import MAKER, STAGES
from tests.operators.conftest import WRITE_RESULT

pytestmark = pytest.mark.airflow


def operator(stage, shard, **more):
    from operators.stage import StageOperator

    return StageOperator(task_id=stage, stage=stage, shard=shard, **more)


def request_of(store, ref):
    text = store.get(ref["result"].replace(".result.json", ".request.json"))
    return StageRequest.model_validate_json(text)


def ready_to_compose(publish, shard, *units):
    compose = STAGES["compose"]
    for artifact in (*compose.upstream, *compose.after):
        owners = ("template",) if MAKER[artifact].scope == "template" else units
        for unit in owners:
            publish(shard, unit, artifact)


def test_a_stage_gets_its_units_and_hands_on_a_reference(store, shard, worker, context):
    worker.writes_result()
    ref = operator("ingest_recipients", shard).execute(context)
    assert (ref["stage"], ref["made"], ref["hit"]) == ("ingest_recipients", 2, 0)
    request = request_of(store, ref)
    assert request.units == ("anna", "tom")
    assert request.tenant == "acme"
    assert len(json.dumps(ref)) < 400


def test_a_published_campaign_starts_no_process(store, shard, worker, context, publish):
    worker.writes_result()
    for unit in ("anna", "tom"):
        publish(shard, unit, "publish")
    for stage in ("ingest_recipients", "face_swap", "sign", "publish"):
        ref = operator(stage, shard).execute(context)
        assert (ref["made"], ref["hit"]) == (0, 2)
        result = StageResult.model_validate_json(store.get(ref["result"]))
        assert result.started_process is False
    assert worker.starts() == 0


def test_only_what_is_missing_goes_to_the_process(store, shard, worker, context, publish):
    worker.writes_result()
    ready_to_compose(publish, shard, "anna", "tom")
    publish(shard, "anna", "compose")
    ref = operator("compose", shard).execute(context)
    assert request_of(store, ref).units == ("tom",)
    assert (ref["made"], ref["hit"]) == (1, 1)


def test_a_row_without_its_inputs_is_left_out_and_counted(store, shard, worker, context, publish):
    worker.writes_result()
    ready_to_compose(publish, shard, "tom")
    ref = operator("compose", shard).execute(context)
    assert request_of(store, ref).units == ("tom",)
    assert (ref["made"], ref["failed"]) == (1, 1)


def test_a_chunk_task_asks_for_its_chunk_only(store, shard, worker, context, publish):
    worker.writes_result()
    ready_to_compose(publish, shard, "anna", "tom")
    publish(shard, "anna", "compose")
    task = operator("compose", {**shard, "chunk": 3}, by_chunk=True)
    request = request_of(store, task.execute(context))
    assert (request.units, request.chunk) == (("tom",), 3)


def test_short_templates_and_finished_ones_have_no_chunk_tasks(store, shard, publish):
    from include.chunks import chunk_refs, chunks_of, unfinished

    assert chunks_of(shard) == 1
    assert chunk_refs([shard], 1) == []
    assert [ref["chunk"] for ref in chunk_refs([shard, shard], 3)] == [0, 1, 2, 0, 1, 2]
    assert chunk_refs([shard] * 600, 2) == [], "more than Airflow maps"
    assert unfinished(shard, ("compose",))
    for unit in ("anna", "tom"):
        publish(shard, unit, "publish")
    assert not unfinished(shard, ("compose",))


def test_units_limit_the_work_to_one_row(store, shard, worker, context):
    worker.writes_result()
    ref = operator("ingest_recipients", {**shard, "units": ["tom"], "item": "x"}).execute(context)
    assert request_of(store, ref).units == ("tom",)


def test_noop_stages_make_nothing_start_nothing_and_say_so(
    store, shard, worker, context, monkeypatch
):
    from operators.runtimes.noop import MARK

    worker.writes_result()
    store.put(MARK, b"")
    monkeypatch.setenv("UNDERSTUDY_NOOP", "1")
    before = {info.key for info in store.list()}
    for stage in ("ingest_template", "ingest_recipients", "compose", "sign", "publish"):
        ref = operator(stage, shard).execute(context)
        assert (ref["made"], ref["hit"]) == (0, 0)
        result = StageResult.model_validate_json(store.get(ref["result"]))
        assert result.started_process is False
        assert {unit.code for unit in result.units} <= {"noop", "upstream.missing"}
    assert worker.starts() == 0
    new = {info.key for info in store.list()} - before
    assert all(key.startswith("acme/run/") for key in new)


def test_noop_stages_are_refused_in_a_store_that_is_no_benchmarks(
    store, shard, worker, context, monkeypatch
):
    worker.writes_result()
    monkeypatch.setenv("UNDERSTUDY_NOOP", "1")
    with pytest.raises(errors.Usage, match="UNDERSTUDY_NOOP") as caught:
        operator("ingest_recipients", shard).execute(context)
    assert caught.value.code == "noop.refused"
    assert worker.starts() == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, errors.Bug),
        (2, errors.Usage),
        (65, errors.BadInput),
        (70, errors.OutOfMemory),
        (75, errors.Transient),
        (77, errors.Refused),
        (80, errors.Preempted),
        (137, errors.OutOfMemory),
        (143, errors.Preempted),
    ],
)
def test_an_exit_code_becomes_the_error_that_decides_the_retry(
    store, shard, worker, context, code, error
):
    worker(f"print(json.dumps({{'event': 'error', 'message': 'the reason'}})); sys.exit({code})")
    with pytest.raises(error, match="the reason") as caught:
        operator("ingest_recipients", shard).execute(context)
    assert type(caught.value) is error


def test_a_process_that_is_killed_counts_as_out_of_memory(store, shard, worker, context):
    worker("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(errors.OutOfMemory):
        operator("ingest_recipients", shard).execute(context)


def test_a_crash_shows_the_processs_last_words(store, shard, worker, context):
    worker("raise RuntimeError('it broke here')")
    with pytest.raises(errors.Bug, match="it broke here"):
        operator("ingest_recipients", shard).execute(context)


def test_success_without_a_result_is_a_bug(store, shard, worker, context):
    worker("")
    with pytest.raises(errors.Bug, match="wrote no result"):
        operator("ingest_recipients", shard).execute(context)


@pytest.mark.parametrize(("try_number", "last"), [(1, False), (2, False), (3, True)])
def test_the_stage_knows_its_last_attempt(store, shard, worker, context, try_number, last):
    worker.writes_result()
    context["ti"].try_number = try_number
    ref = operator("ingest_recipients", shard).execute(context)
    request = request_of(store, ref)
    assert request.attempt == try_number
    assert request.last_attempt is last


def test_airflows_settings_and_the_database_stay_out_of_a_stage(
    store, shard, worker, context, monkeypatch, tmp_path
):
    seen = tmp_path / "env.json"
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("UNDERSTUDY_DATABASE_URL", "postgresql://u:p@h/d")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    worker(f"import os; json.dump(dict(os.environ), open({str(seen)!r}, 'w')); sys.exit(65)")
    with pytest.raises(errors.BadInput):
        operator("ingest_recipients", shard).execute(context)
    env = json.loads(seen.read_text())
    assert not [name for name in env if name.startswith("AIRFLOW")]
    assert "UNDERSTUDY_DATABASE_URL" not in env
    assert env["AWS_ACCESS_KEY_ID"] == "key"
    assert env["UNDERSTUDY_STORE"]


def test_an_unknown_runtime_is_a_usage_error(store, shard, worker, context):
    from operators.stage import StageOperator

    worker.writes_result()
    task = StageOperator(task_id="x", stage="ingest_recipients", shard=shard, runtime="elsewhere")
    with pytest.raises(errors.Usage, match="elsewhere"):
        task.execute(context)


def test_stages_wait_in_the_queue_of_their_class_where_there_is_one(shard, monkeypatch):
    assert operator("upscale", shard).queue == "default"
    monkeypatch.setenv("UNDERSTUDY_QUEUES", "cpu, io,gpu-large")
    stages = ("upscale", "upscale_plate", "sign")
    assert [operator(s, shard).queue for s in stages] == ["cpu", "gpu-large", "io"]


def test_the_latest_results_of_a_run_are_found_failed_tries_included(store, shard, worker, context):
    from include.contracts.plan import CampaignPlan
    from include.runs import latest_results

    worker.writes_result()
    for try_number in (1, 2):
        context["ti"].try_number = try_number
        operator("ingest_recipients", shard).execute(context)
    plan = CampaignPlan(
        store=store.uri,
        tenant="acme",
        campaign="spring",
        plan_id="0" * 64,
        template=shard,
        shards=(shard,),
        rejects=(),
        accepted=2,
        min_success_ratio=1,
        rejects_csv="x",
    )
    refs = latest_results(plan, context["ti"].dag_id, context["run_id"])
    assert [ref.result.rpartition("/")[2] for ref in refs] == ["002.result.json"]


def results_of(store):
    found = [i.key.split("/") for i in store.list("acme/run/") if i.key.endswith("result.json")]
    return sorted(key[4] for key in found)


def test_a_template_is_made_for_rows_that_try_another_backend_too(
    store, tries_another, worker, context
):
    worker.writes_result()
    ref = operator("ingest_template", tries_another).execute(context)
    assert ref["made"] == 1
    assert worker.starts() == 2
    own, other = results_of(store)
    assert other == f"{own}-template-2"


TRANSIENT = "sys.exit(75 if 'template-2' in request['plan'] else 0)"


def test_a_variant_that_cannot_be_made_takes_nobody_else_along(
    store, tries_another, worker, context
):
    worker.writes_result()
    worker(WRITE_RESULT + TRANSIENT.replace("75", "65"))
    assert operator("ingest_template", tries_another).execute(context)["made"] == 1
    worker(WRITE_RESULT + TRANSIENT)
    with pytest.raises(errors.Transient):
        operator("ingest_template", tries_another).execute(context)
    context["ti"].try_number = 3
    assert operator("ingest_template", tries_another).execute(context)["made"] == 1


HELD = 'print(json.dumps({"event": "error", "stage": stage, "message": "x"})); sys.exit(73)'


def test_what_another_run_makes_is_waited_for_without_using_up_an_attempt(
    store, shard, worker, context
):
    from airflow.sdk.exceptions import AirflowRescheduleException

    worker(HELD)
    for looked, seconds in enumerate((15, 30, 60, 120, 120)):
        context["task_reschedule_count"] = looked
        start = datetime.now(UTC)
        with pytest.raises(AirflowRescheduleException) as caught:
            operator("ingest_recipients", shard).execute(context)
        delay = timedelta(seconds=seconds)
        assert start + delay <= caught.value.reschedule_date <= datetime.now(UTC) + delay


def test_waiting_ends_and_then_counts_as_any_transient_error(store, shard, worker, context):
    worker(HELD)
    context["task_reschedule_count"] = 1000
    with pytest.raises(errors.LeaseHeld):
        operator("ingest_recipients", shard).execute(context)


def test_a_stage_is_told_whether_whoever_asks_can_wait(store, shard, worker, context):
    worker.writes_result()
    first = operator("ingest_recipients", shard).execute(context)
    assert request_of(store, first).may_wait
    context["task_reschedule_count"] = 1000
    last = operator("ingest_recipients", shard).execute(context)
    assert not request_of(store, last).may_wait
