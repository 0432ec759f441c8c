"""The Kubernetes runtime: KubernetesPodOperator against a small API, pods as local processes.

Not Kubernetes: see ``tests/services/kube_api.py``. The same against containers: tests/containers.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time

import pytest
import yaml

from include import errors
from include.contracts.stage import StageRequest, StageResult
from tests.operators.conftest import WRITE_RESULT
from tests.operators.pod_fixtures import run_trigger

pytestmark = pytest.mark.airflow

SLEEP = "import time; print('working', flush=True); time.sleep(120)"
FAIL = "print(json.dumps({{'event': 'error', 'message': 'the reason'}})); sys.exit({})"


def operator(stage, shard, **more):
    from operators.stage import StageOperator

    return StageOperator(task_id=stage, stage=stage, shard=shard, **more)


def another_try(context, number):
    context["ti"].try_number = number
    return context


def resources_of(pod):
    return pod.container["resources"]["limits"]


def while_it_works(api, act):
    """Do something to the first pod once its stage has begun."""

    def later(pod):
        def wait():
            pod.wait_for_line("working")
            act(pod)

        threading.Thread(target=wait, daemon=True).start()

    api.on_create = later


def test_a_stage_runs_in_a_pod_that_is_told_only_where_its_request_is(
    store, shard, worker, cluster, pod_context
):
    worker.writes_result()
    ref = operator("ingest_recipients", shard).execute(pod_context)
    assert (ref["made"], ref["failed"]) == (2, 0)
    [pod] = cluster.created
    command, _, uri = pod.container["args"]
    assert command == "ingest_recipients"
    request = StageRequest.model_validate_json(store.get(uri.partition("#")[2]))
    assert request.units == ("anna", "tom")
    assert len(json.dumps(pod.container["args"])) < 400
    assert not cluster.pods, "a pod that succeeded is deleted"


def one_stage(shard, context):
    """What ``measure_incoming`` and golden sets do, for one stage."""
    from include.contracts.plan import ShardRef
    from include.local_run import Run, run_stage
    from include.stages.specs import STAGES
    from operators.config import task_settings
    from operators.runtimes.one_by_one import starter

    settings = task_settings()
    run = Run(starter(settings, context))
    ref = ShardRef.model_validate(shard)
    run_stage(STAGES["ingest_recipients"], ref, settings, run, "golden")
    return run


def test_a_task_that_runs_many_stages_runs_each_in_a_pod_and_waits_for_it(
    store, shard, worker, deferrable, pod_context
):
    worker.writes_result()
    for _ in range(2):
        run = one_stage(shard, pod_context)
        assert run.unit("ingest_recipients", "tom").status == "made"
    assert len(deferrable.created) == 2
    assert not deferrable.pods


def test_a_stage_of_many_that_says_nothing_fails_as_its_exit_code_says(
    store, shard, worker, cluster, pod_context
):
    worker(FAIL.format(75))
    with pytest.raises(errors.Transient, match="the reason"):
        one_stage(shard, pod_context)


def test_a_published_campaign_starts_no_pod_and_asks_no_cluster(
    store, shard, worker, cluster, pod_context, publish
):
    for unit in ("anna", "tom"):
        publish(shard, unit, "publish")
    for stage in ("ingest_recipients", "face_swap", "publish"):
        ref = operator(stage, shard).execute(pod_context)
        assert (ref["made"], ref["hit"]) == (0, 2)
    assert cluster.calls == []


def test_a_pod_asks_for_what_its_stage_declares(
    store, shard, worker, cluster, pod_context, publish
):
    from tests.operators.test_stage_operator import ready_to_compose

    worker.writes_result()
    ready_to_compose(publish, shard, "anna", "tom")
    operator("compose", shard).execute(pod_context)
    [pod] = cluster.created
    assert resources_of(pod) == {"memory": "2048Mi", "ephemeral-storage": "8448Mi"}
    spec = pod.manifest["spec"]
    assert {"key": "understudy/spot", "operator": "Exists"} in spec["tolerations"]
    assert {"name": "scratch", "emptyDir": {"sizeLimit": "8192Mi"}} in spec["volumes"]
    assert spec["automountServiceAccountToken"] is False
    assert pod.container["securityContext"]["readOnlyRootFilesystem"] is True


def test_what_the_stage_says_reaches_the_task_log_as_it_comes(
    store, shard, worker, cluster, pod_context, capsys
):
    say = "print(json.dumps({'event': 'progress', 'unit': 'anna', 'done': 5, 'total': 9}))\n"
    worker(say + WRITE_RESULT)
    operator("ingest_recipients", shard).execute(pod_context)
    assert "anna 5/9" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (1, errors.Bug),
        (65, errors.BadInput),
        (70, errors.OutOfMemory),
        (75, errors.Transient),
        (77, errors.Refused),
        (80, errors.Preempted),
    ],
)
def test_the_stages_exit_code_decides_as_in_a_local_process(
    store, shard, worker, cluster, pod_context, code, error
):
    worker(FAIL.format(code))
    with pytest.raises(error, match="the reason") as caught:
        operator("ingest_recipients", shard).execute(pod_context)
    assert type(caught.value) is error
    assert not cluster.pods


def test_out_of_memory_gets_twice_as_much_on_the_next_try_and_no_more_than_there_is(
    store, shard, worker, cluster, pod_context, monkeypatch
):
    monkeypatch.setenv("UNDERSTUDY_POD_MEMORY_MAX_MIB", "6000")
    worker("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    for number in (1, 2, 3):
        with pytest.raises(errors.OutOfMemory):
            operator("ingest_recipients", shard).execute(another_try(pod_context, number))
    asked = [resources_of(pod)["memory"] for pod in cluster.created]
    assert asked == ["2048Mi", "4096Mi", "6000Mi"]


def test_an_evicted_pod_is_made_again_elsewhere_and_never_attached_to(
    store, shard, worker, cluster, pod_context, monkeypatch
):
    monkeypatch.setenv("UNDERSTUDY_POD_KEEP_FAILED", "1")
    worker(SLEEP)
    while_it_works(cluster, cluster.evict)
    with pytest.raises(errors.Preempted, match="node was low on resource"):
        operator("ingest_recipients", shard).execute(pod_context)
    cluster.on_create = None
    worker.writes_result()
    ref = operator("ingest_recipients", shard).execute(another_try(pod_context, 2))
    assert ref["made"] == 2
    first, second = cluster.created
    assert first.name in cluster.pods, "kept, to be looked at"
    affinity = second.manifest["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["preference"]["matchExpressions"][0]["values"] == ["test-node-1"]


@pytest.mark.parametrize("loss", ["lose_node", "forget"])
def test_a_pod_whose_node_is_lost_or_that_somebody_deletes_is_not_waited_for(
    store, shard, worker, cluster, pod_context, loss
):
    worker(SLEEP)
    while_it_works(cluster, getattr(cluster, loss))
    with pytest.raises(errors.Preempted):
        operator("ingest_recipients", shard).execute(pod_context)


def test_after_two_losses_no_spot_node_is_taken(store, shard, worker, cluster, pod_context):
    worker(SLEEP)
    while_it_works(cluster, cluster.evict)
    for number in (1, 2, 3):
        with pytest.raises(errors.Preempted):
            operator("ingest_recipients", shard).execute(another_try(pod_context, number))
    spots = [bool(pod.manifest["spec"].get("tolerations")) for pod in cluster.created]
    assert spots == [True, True, False]


def test_a_pod_that_no_node_takes_is_tried_again_later(
    store, shard, worker, cluster, pod_context, monkeypatch
):
    monkeypatch.setenv("UNDERSTUDY_POD_START_S", "1")
    cluster.unschedulable = 1
    with pytest.raises(errors.Transient, match="Insufficient memory") as caught:
        operator("ingest_recipients", shard).execute(pod_context)
    assert caught.value.code == "pod.unschedulable"
    assert not cluster.pods


def test_an_image_that_is_not_there_is_not_tried_again(
    store, shard, worker, cluster, pod_context, monkeypatch
):
    monkeypatch.setenv("UNDERSTUDY_POD_IMAGE", "nowhere/worker:1")
    with pytest.raises(errors.Misconfigured, match="UNDERSTUDY_POD_IMAGE") as caught:
        operator("ingest_recipients", shard).execute(pod_context)
    assert caught.value.code == "pod.image"


def test_a_secret_that_is_missing_is_named(store, shard, worker, cluster, pod_context, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_POD_START_S", "1")
    del cluster.secrets["understudy-store"]
    with pytest.raises(errors.Misconfigured, match="understudy-store") as caught:
        operator("ingest_recipients", shard).execute(pod_context)
    assert caught.value.code == "pod.config"


@pytest.fixture
def impatient(monkeypatch):
    """What is missing may be missing for a moment only; a start may take its quarter of an hour."""
    from operators.runtimes import pod_start

    monkeypatch.setattr(pod_start, "MISSING_S", 0.3)
    monkeypatch.setattr(pod_start, "LOOK_S", 0.1)


def take_signer(cluster):
    del cluster.secrets["understudy-signer"]
    return "sign", 'secret "understudy-signer" not found'


def take_keys(cluster):
    del cluster.config_maps["understudy-consent-keys"]
    return "ingest_recipients", 'configmap "understudy-consent-keys" not found'


def take_list(cluster):
    cluster.config_maps["understudy-revoked"] = {}
    return "ingest_recipients", "config key: revoked.txt"


def take_store(cluster):
    del cluster.secrets["understudy-store"]
    return "ingest_recipients", 'secret "understudy-store" not found'


@pytest.mark.parametrize("take", [take_signer, take_keys, take_list, take_store])
@pytest.mark.parametrize("leaves", [False, True], ids=["waits", "deferred"])
def test_what_is_missing_is_named_long_before_a_start_takes_too_long(
    store, shard, worker, cluster, pod_context, publish, monkeypatch, impatient, take, leaves
):
    from include.stages.specs import STAGES

    stage, said = take(cluster)
    for artifact in (*STAGES[stage].upstream, *STAGES[stage].after):
        for unit in ("anna", "tom"):
            publish(shard, unit, artifact)
    monkeypatch.setenv("UNDERSTUDY_POD_DEFERRABLE", str(int(leaves)))
    task, begun = operator(stage, shard), time.monotonic()
    event = {"event": again(left(task, pod_context))} if leaves else {}
    with pytest.raises(errors.Misconfigured, match=said) as caught:
        (task.resume if leaves else task.execute)(pod_context, **event)
    assert caught.value.code == "pod.config"
    assert time.monotonic() - begun < 60
    assert not cluster.pods, "it is cleaned up"


def again(deferred):
    """The event of a trigger that went through the database, as the triggerer makes it."""
    from importlib import import_module

    place, kwargs = deferred.trigger.serialize()
    module, _, name = place.rpartition(".")
    deferred.trigger = getattr(import_module(module), name)(**kwargs)
    return run_trigger(deferred)


def test_what_is_made_in_time_is_not_missing(impatient):
    """Kubelets are late, and secrets are brought by others: only what stays missing counts."""
    from airflow.providers.cncf.kubernetes.utils.pod_manager import PodLaunchTimeoutException

    from operators.runtimes.pod_start import started

    creating = {"status": {"phase": "Pending"}}
    said = 'MountVolume.SetUp failed for volume "signer" : secret "understudy-signer" not found'
    absent = [{"type": "Warning", "reason": "FailedMount", "message": said}]
    looks = []

    async def wait(seconds):
        await asyncio.sleep(seconds)
        return "started"

    async def come_and_go():
        looks.append(1)
        return creating, absent if len(looks) % 3 else []

    async def never():
        return creating, absent

    async def not_allowed():
        raise PermissionError("403")

    assert asyncio.run(started(wait(1.5), come_and_go)) == "started"
    assert len(looks) > 6
    assert asyncio.run(started(wait(0.5), not_allowed)) == "started"
    with pytest.raises(PodLaunchTimeoutException, match="understudy-signer"):
        asyncio.run(started(wait(60), never))


def test_no_pod_is_started_that_would_not_know_who_revoked(
    store, shard, worker, cluster, pod_context, monkeypatch, tmp_path
):
    from operators.runtimes.pod_settings import TEMPLATES

    cpu = yaml.safe_load((TEMPLATES / "cpu.yaml").read_text())
    del cpu["spec"]["containers"][0]["env"]
    (tmp_path / "cpu.yaml").write_text(yaml.safe_dump(cpu))
    monkeypatch.setenv("UNDERSTUDY_POD_TEMPLATES", str(tmp_path))
    monkeypatch.setenv("UNDERSTUDY_REVOKED", str(tmp_path / "revoked.txt"))
    with pytest.raises(errors.Misconfigured, match="UNDERSTUDY_REVOKED") as caught:
        operator("ingest_recipients", shard).execute(pod_context)
    assert caught.value.code == "pod.settings"
    assert not cluster.created


@pytest.mark.parametrize(
    ("status", "said", "error", "code"),
    [
        (403, "pods is forbidden: exceeded quota: stages", errors.Transient, "pod.quota"),
        (403, "pods is forbidden: cannot create resource", errors.Misconfigured, "pod.refused"),
        (422, "spec.containers[0].image: Required value", errors.Misconfigured, "pod.refused"),
    ],
)
def test_a_refusal_of_the_api_server_is_told_as_what_it_means(
    store, shard, worker, cluster, pod_context, status, said, error, code
):
    cluster.refuse = (status, said)
    with pytest.raises(error, match=re.escape(said)) as caught:
        operator("ingest_recipients", shard).execute(pod_context)
    assert caught.value.code == code


def test_without_a_cluster_the_setting_is_named(
    store, shard, worker, pod_context, monkeypatch, tmp_path
):
    monkeypatch.setenv("UNDERSTUDY_RUNTIME", "kubernetes")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nowhere"))
    monkeypatch.setenv("UNDERSTUDY_POD_DEFERRABLE", "0")
    with pytest.raises(errors.Misconfigured, match="UNDERSTUDY_POD_CONNECTION"):
        operator("ingest_recipients", shard).execute(pod_context)


class WorkerDied(BaseException):
    """Ends a task as abruptly as a test can."""


def dies_once(monkeypatch):
    """The worker dies while it waits for its pod: nothing is cleaned up."""
    from operators.runtimes.pod_operator import StagePod

    def die(self, pod):
        pod_of = next(iter(StagePod.cluster.pods.values()))
        pod_of.wait_for_line("working")
        raise WorkerDied

    with monkeypatch.context() as patch:
        patch.setattr(StagePod, "await_pod_start", die)
        patch.setattr(StagePod, "post_complete_action", lambda self, **_: None)
        yield


@pytest.mark.parametrize("ended", [False, True], ids=["still works", "has succeeded since"])
def test_a_task_whose_worker_died_takes_the_result_of_the_pod_that_it_started(
    store, shard, worker, cluster, pod_context, monkeypatch, tmp_path, ended
):
    from operators.runtimes.pod_operator import StagePod

    go_on = tmp_path / "go-on"
    wait = (
        f"import os, time\nprint('working', flush=True)\nwhile not os.path.exists({str(go_on)!r}): "
    )
    worker(wait + "time.sleep(0.05)\n" + WRITE_RESULT)
    monkeypatch.setattr(StagePod, "cluster", cluster, raising=False)
    for _ in dies_once(monkeypatch):
        with pytest.raises(WorkerDied):
            operator("ingest_recipients", shard).execute(pod_context)
    [pod] = cluster.created
    if ended:
        go_on.touch()
        with pod.news:
            assert pod.news.wait_for(lambda: pod.exit_code == 0, 60)
    else:
        cluster.on_read = lambda _: go_on.touch()
    ref = operator("ingest_recipients", shard).execute(another_try(pod_context, 2))
    assert len(cluster.created) == 1
    assert ref["made"] == 2
    assert "/002.result.json" in ref["result"]
    assert StageResult.model_validate_json(store.get(ref["result"])).units


def test_a_pod_left_by_a_dead_worker_and_evicted_since_is_replaced(
    store, shard, worker, cluster, pod_context, monkeypatch
):
    from operators.runtimes.pod_operator import StagePod

    worker(SLEEP)
    monkeypatch.setattr(StagePod, "cluster", cluster, raising=False)
    for _ in dies_once(monkeypatch):
        with pytest.raises(WorkerDied):
            operator("ingest_recipients", shard).execute(pod_context)
    cluster.evict(cluster.created[0])
    worker.writes_result()
    ref = operator("ingest_recipients", shard).execute(another_try(pod_context, 2))
    assert len(cluster.created) == 2
    assert ref["made"] == 2


def test_a_task_that_is_killed_takes_its_pod_along(store, shard, worker, cluster, pod_context):
    worker(SLEEP)
    task = operator("ingest_recipients", shard)
    while_it_works(cluster, lambda pod: task.on_kill())
    with pytest.raises(errors.UnderstudyError):
        task.execute(pod_context)
    with cluster.created[0].news:
        assert cluster.created[0].news.wait_for(lambda: cluster.created[0].exit_code, 30) == 143


def left(task, context, **resumed):
    """What a task leaves its worker for."""
    from airflow.sdk.exceptions import TaskDeferred

    with pytest.raises(TaskDeferred) as caught:
        task.resume(context, **resumed) if resumed else task.execute(context)
    assert caught.value.method_name == "resume"
    return caught.value


def test_a_deferrable_task_leaves_its_worker_and_comes_back_for_the_result(
    store, shard, worker, deferrable, pod_context, capsys
):
    say = "print(json.dumps({'event': 'progress', 'unit': 'anna', 'done': 9, 'total': 9}))\n"
    worker(say + WRITE_RESULT)
    deferred = left(operator("ingest_recipients", shard), pod_context)
    event = run_trigger(deferred)
    ref = operator("ingest_recipients", shard).resume(pod_context, event)
    assert ref["made"] == 2
    assert "anna 9/9" in capsys.readouterr().out
    assert len(deferrable.created) == 1


def test_a_deferrable_task_comes_back_to_the_stages_error(
    store, shard, worker, deferrable, pod_context
):
    worker(FAIL.format(65))
    deferred = left(operator("ingest_recipients", shard), pod_context)
    event = run_trigger(deferred)
    with pytest.raises(errors.BadInput, match="the reason"):
        operator("ingest_recipients", shard).resume(pod_context, event)


def test_a_deferrable_task_learns_that_its_pod_is_gone(
    store, shard, worker, deferrable, pod_context
):
    worker(SLEEP)
    while_it_works(deferrable, deferrable.forget)
    deferred = left(operator("ingest_recipients", shard), pod_context)
    event = run_trigger(deferred)
    with pytest.raises(errors.Preempted):
        operator("ingest_recipients", shard).resume(pod_context, event)


def test_a_deferrable_task_works_through_its_templates_variants_one_by_one(
    store, tries_another, worker, deferrable, pod_context
):
    worker.writes_result()
    stage = "ingest_template"
    first = left(operator(stage, tries_another), pod_context)
    event = run_trigger(first)
    second = left(operator(stage, tries_another), pod_context, event=event)
    request = event["request"]
    event = run_trigger(second)
    assert event["request"] != request
    ref = operator(stage, tries_another).resume(pod_context, event)
    assert ref["made"] == 1
    assert len(deferrable.created) == 2


def test_a_deferrable_task_does_nothing_twice_when_a_variant_fails_for_good(
    store, tries_another, worker, deferrable, pod_context
):
    worker(WRITE_RESULT + "sys.exit(65 if 'template-2' in request['plan'] else 0)")
    stage = "ingest_template"
    event = run_trigger(left(operator(stage, tries_another), pod_context))
    second = left(operator(stage, tries_another), pod_context, event=event)
    ref = operator(stage, tries_another).resume(pod_context, run_trigger(second))
    assert ref["made"] == 1
    assert len(deferrable.created) == 2


def test_what_a_try_has_settled_is_told_again_errors_and_all(store):
    from operators.runtimes.pod_records import PodRecord, record_key, settled_by_pods

    key = "acme/run/x/sign/001.request.json"

    def record(error, code):
        kept = PodRecord(
            pod="p", error=error, code=code, message="why", pod_class="cpu", memory_mib=1,
            scratch_mib=1,
        )  # fmt: skip
        store.put(record_key(key), kept.model_dump_json().encode())

    assert settled_by_pods(store, f"{store.uri}#{key}") is None
    record("LeaseHeld", "lease.held")
    assert settled_by_pods(store, f"{store.uri}#{key}") is None, "it is looked at again"
    record("Misconfigured", "pod.image")
    with pytest.raises(errors.Misconfigured, match="why") as caught:
        settled_by_pods(store, f"{store.uri}#{key}")
    assert caught.value.code == "pod.image"


def test_a_swap_for_gpus_gets_a_pod_with_one(
    store, shard, worker, cluster, pod_context, publish, monkeypatch
):
    from include.contracts.manifest import BackendRef
    from include.contracts.plan import ShardPlan
    from include.stages.specs import STAGES
    from tests.operators.pod_fixtures import IMAGE

    monkeypatch.setenv("UNDERSTUDY_POD_GPU_IMAGE", IMAGE)
    plan = ShardPlan.model_validate_json(store.get(shard["plan"]))
    classes = []
    for name in ("mesh", "mesh-batched"):
        backend = BackendRef(name=name, version="1")
        rows = []
        for row in plan.rows:
            swap = row.materials["face_swap"].model_copy(update={"backend": backend})
            rows.append(row.model_copy(update={"materials": {**row.materials, "face_swap": swap}}))
        changed = plan.model_copy(update={"rows": tuple(rows)})
        store.put(shard["plan"], changed.model_dump_json().encode())
        for artifact in (*STAGES["face_swap"].upstream, *STAGES["face_swap"].after):
            for unit in ("template", "anna", "tom"):
                if artifact in changed.unit(unit).materials:
                    publish(shard, unit, artifact)
        worker.writes_result()
        operator("face_swap", shard).execute(pod_context)
        classes.append(cluster.created[-1].manifest["metadata"]["labels"]["understudy/class"])
    assert classes == ["cpu", "gpu-small"]
