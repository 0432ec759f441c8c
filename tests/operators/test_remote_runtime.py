"""Stages at model APIs as Airflow's task sees them: which runtime, which process, what falls."""

from __future__ import annotations

import json
import threading
import time
from types import SimpleNamespace

import pytest
import yaml

from include.contracts.stage import StageResult
from include.errors import Preempted, Transient
from include.stages.specs import STAGES

pytestmark = pytest.mark.airflow

SAYS_MODULE = """
import os
with open(f"{base}/said-{sys.argv[2]}-{stage}", "a") as said:
    said.write(os.environ.get("UNDERSTUDY_REMOTE_TOKEN", "none") + "\\n")
"""
WRITE = (
    SAYS_MODULE
    + """
remote = sys.argv[2] == "include.remote"
bad = {"status": "failed", "code": CODE, "message": "no", "retry": RETRY}
units = [{"id": unit, **(bad if remote else {"status": "made"})} for unit in request["units"]]
result = {"stage": stage, "plan": request["plan"], "run_id": request["run_id"], "units": units}
open(f"{base}/{request['result']}", "w").write(json.dumps(result))
sys.exit(75 if remote and RETRY and not request["last_attempt"] else 0)
"""
)


@pytest.fixture
def declare(tmp_path, monkeypatch):
    """Declares one endpoint for compact, and a fallback; sets the runtime."""

    def write(runtime="remote", chain=({"backend": "lanczos"},), url="http://127.0.0.1:9"):
        model = {"stage": "upscale", "backend": "compact"}
        content = {
            "endpoints": [{"name": "near", "url": url, "models": [model]}],
            "fallback": {"upscale": list(chain)},
        }
        (tmp_path / "remotes.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.setenv("UNDERSTUDY_REMOTE", str(tmp_path / "remotes.yaml"))
        monkeypatch.setenv("UNDERSTUDY_REMOTE_TOKEN", "secret-token")
        monkeypatch.setenv("UNDERSTUDY_RUNTIME", runtime)

    return write


@pytest.fixture
def real_shard(store, shard, publish):
    """The shard with keys as planned, and everything that upscale needs."""
    from include.contracts.manifest import BlobRef
    from include.contracts.plan import ShardPlan, SourceRef
    from include.keys import row_materials, template_materials

    plan = ShardPlan.model_validate_json(store.get(shard["plan"]))
    blob = SourceRef(blob=BlobRef(sha256="1" * 64, size=1, filename="x"), origin="x")
    sources = {"video": blob, "face": blob}
    template = plan.template.model_copy(
        update={"sources": sources, "materials": template_materials(plan.brief, sources)}
    )
    rows = []
    for row in plan.rows:
        row = row.model_copy(update={"sources": sources, "script": row.id})
        rows.append(row.model_copy(update={"materials": row_materials(plan.brief, template, row)}))
    plan = plan.model_copy(update={"template": template, "rows": tuple(rows)})
    store.put(shard["plan"], plan.model_dump_json().encode())
    for artifact in STAGES["upscale"].upstream:
        for unit in ("template", "anna", "tom"):
            if artifact in plan.unit(unit).materials:
                publish(shard, unit, artifact)
    return shard


def upscale(shard):
    from operators.stage import StageOperator

    return StageOperator(task_id="upscale", stage="upscale", shard=shard)


def said(store, module):
    path = store.root / f"said-{module}-upscale"
    return path.read_text().split() if path.exists() else []


def body(code="remote.timeout", retry=True):
    return WRITE.replace("CODE", repr(code)).replace("RETRY", repr(retry))


def test_only_what_an_endpoint_offers_is_called(store, real_shard, worker, context, declare):
    from include.contracts.plan import ShardPlan
    from operators.config import task_settings
    from operators.runtimes import HybridRuntime, LocalRuntime, RemoteRuntime
    from operators.runtimes.choose import choose_runtime

    shard = ShardPlan.model_validate_json(store.get(real_shard["plan"]))

    def chosen(stage):
        return type(choose_runtime(task_settings(), STAGES[stage], shard, store, context))

    declare("local")
    assert chosen("upscale") is LocalRuntime
    declare("remote")
    assert chosen("upscale") is RemoteRuntime
    assert chosen("face_swap") is LocalRuntime, "no endpoint offers it"
    assert chosen("sign") is LocalRuntime
    declare("hybrid")
    assert chosen("upscale") is HybridRuntime
    assert chosen("compose") is HybridRuntime, "it takes a slot of our own, too"
    assert chosen("sign") is LocalRuntime, "it computes nothing"


def test_only_the_calling_process_gets_the_token(store, real_shard, worker, context, declare):
    worker(body("remote.breaker_open"))
    declare()
    upscale(real_shard).execute(context)
    assert said(store, "include.remote") == ["secret-token"]
    assert said(store, "include.stages") == ["none"]


def test_rows_fall_when_the_breaker_is_open_and_their_template_with_them(
    store, real_shard, worker, context, declare
):
    from include.contracts.plan import ShardRef
    from include.remote.fallback import falls_of, parts

    worker(body("remote.breaker_open"))
    declare()
    ref = upscale(real_shard).execute(context)
    own = ShardRef.model_validate(real_shard)
    assert set(falls_of(store, own)) == {"anna", "tom"}
    assert ref["failed"] == 2, "as planned"
    (_, lowered) = parts(store, own)
    names = [info.key for info in store.list("acme/run/") if info.key.endswith("result.json")]
    results = [StageResult.model_validate_json(store.get(key)) for key in names]
    by_plan = {r.plan: [u.status for u in r.units] for r in results if r.stage == "upscale"}
    assert by_plan == {own.plan: ["failed"] * 2, lowered.ref.plan: ["made"] * 2}


def test_a_failure_that_may_pass_is_retried_before_anything_falls(
    store, real_shard, worker, context, declare
):
    from include.contracts.plan import ShardRef
    from include.remote.fallback import falls_of

    worker(body("remote.timeout"))
    declare()
    own = ShardRef.model_validate(real_shard)
    with pytest.raises(Transient):
        upscale(real_shard).execute(context)
    assert falls_of(store, own) == {}
    context["ti"].try_number = 3
    upscale(real_shard).execute(context)
    assert set(falls_of(store, own)) == {"anna", "tom"}


def test_without_a_step_left_the_row_fails_with_a_plan(store, real_shard, worker, context, declare):
    worker(body("budget.exceeded", retry=False))
    declare(chain=())
    ref = upscale(real_shard).execute(context)
    result = StageResult.model_validate_json(store.get(ref["result"]))
    assert {unit.code for unit in result.units} == {"fallback.exhausted"}
    assert "raise budget.limit" in result.units[0].message


def test_later_stages_work_with_the_plan_that_holds(store, real_shard, worker, context, declare):
    from include.contracts.plan import ShardRef
    from include.remote.fallback import parts

    worker(body("remote.breaker_open"))
    declare()
    upscale(real_shard).execute(context)
    (_, lowered) = parts(store, ShardRef.model_validate(real_shard))
    starts = worker.starts()
    upscale(real_shard).execute(context)
    assert worker.starts() == starts + 1, "what fell is not tried as planned again"
    names = [json.loads(store.get(i.key))["plan"] for i in store.list("acme/run/")]
    assert lowered.ref.plan in names


class Recorder:
    """A runtime that says that it ran, and waits if told to."""

    def __init__(self) -> None:
        self.runs, self.go = 0, threading.Event()
        self.began = threading.Event()
        self.go.set()

    def run(self, *_):
        self.began.set()
        self.runs += 1
        self.go.wait(60)
        return 0

    def kill(self):
        self.go.set()

    last_words = ""


def hybrid(store, where, slots=1, queued=lambda: 0):
    from include.remote.capacity import Capacity
    from include.remote.routing import Route
    from operators.runtimes import HybridRuntime

    loads = []

    def decide(load):
        loads.append(load)
        return Route(where, 0, "as the test says")

    local, remote = Recorder(), Recorder()
    made = HybridRuntime(local, remote, Capacity(store, "cpu", slots), decide, queued)
    return SimpleNamespace(runtime=made, local=local, remote=remote, loads=loads)


def test_hybrid_takes_a_free_slot_of_our_own(store):
    one = hybrid(store, "burst")
    one.runtime.run("s#k", STAGES["upscale"], print)
    assert (one.local.runs, one.remote.runs, one.loads) == (1, 0, [])
    assert not one.runtime.was_remote


def test_hybrid_sends_away_what_would_be_too_late_and_measures_the_queue(store):
    busy = hybrid(store, "wait")
    busy.local.go.clear()
    thread = threading.Thread(target=busy.runtime.run, args=("s#k", STAGES["upscale"], print))
    thread.start()
    busy.local.began.wait(30)
    late = hybrid(store, "burst", queued=lambda: 7)
    late.runtime.run("s#k", STAGES["upscale"], print)
    assert (late.local.runs, late.remote.runs) == (0, 1)
    assert late.runtime.was_remote
    (load,) = late.loads
    assert (load.slots, load.busy, load.queued) == (1, 1, 7)
    busy.local.go.set()
    thread.join()


def test_hybrid_lets_an_endpoint_that_failed_show_that_it_works_again(
    store, real_shard, worker, context, declare
):
    from include.contracts.plan import ShardPlan
    from include.remote.breaker import Breaker, rules_of
    from include.remote.config import load_remotes
    from include.remote.routing import Load
    from operators.config import task_settings
    from operators.runtimes.choose import _decider

    declare("hybrid")
    shard = ShardPlan.model_validate_json(store.get(real_shard["plan"]))
    (near,) = load_remotes().endpoints
    late = 0.0  # due in 1970
    decide = _decider(task_settings(), STAGES["upscale"], shard, store, near, late)

    def where():
        return decide(Load(slots=1, busy=1, queued=0)).where

    def breaker(ago=0.0):
        return Breaker(store, "near", rules_of(near), lambda: time.time() - ago)

    def fails(one):
        for _ in range(one.rules.consecutive):
            one.leave(one.enter(), False, "HTTP 503")

    assert where() == "burst"
    fails(breaker())
    assert where() == "wait", "it failed just now"
    for info in list(store.list("_shared/breaker/")):
        store.delete(info.key)
    fails(breaker(ago=60.0))
    assert where() == "burst", "its 30 s are over: somebody has to try it"
    token = breaker().enter()
    assert where() == "wait", "somebody does"
    breaker().leave(token, True)
    assert where() == "burst"


def test_a_task_that_waits_for_a_slot_can_be_ended(store, monkeypatch):
    from include.remote.capacity import Capacity

    with Capacity(store, "cpu", 1).claim():
        waiting = hybrid(store, "wait")
        failed = []

        def run():
            try:
                waiting.runtime.run("s#k", STAGES["upscale"], print)
            except Preempted as error:
                failed.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not waiting.loads:
            pass
        waiting.runtime.kill()
        thread.join(30)
    assert failed
    assert waiting.local.runs == waiting.remote.runs == 0


def test_airflow_is_asked_how_many_tasks_of_the_run_wait(context):
    from operators.runtimes.choose import _queued

    asked = {}
    context["ti"].get_ti_count = lambda **about: asked.update(about) or 5
    assert _queued(context) == 5
    assert asked["states"] == ["scheduled", "queued"]
    assert asked["dag_id"] == "campaign_render"
