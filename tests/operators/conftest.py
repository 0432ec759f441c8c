"""A store, a plan of two rows, and a stand-in for the worker's interpreter."""

import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

import tests.support.airflow_home  # noqa: F401
from tests.operators.pod_fixtures import cluster, deferrable, pod_context  # noqa: F401

PROJECT = Path(__file__).resolve().parents[2]

WORKER = """#!/usr/bin/env python3
import json, sys
sys.path.insert(0, {project!r})
stage, uri = sys.argv[3], sys.argv[5]
base, _, key = uri.replace("file://", "").partition("#")
request = json.load(open(f"{{base}}/{{key}}"))
{body}
"""
WRITE_RESULT = """
units = [{"id": unit, "status": "made"} for unit in request["units"]]
result = {"stage": stage, "plan": request["plan"], "run_id": request["run_id"], "units": units}
open(f"{base}/{request['result']}", "w").write(json.dumps(result))
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store on disk, known to the settings."""
    from include.store import open_store

    monkeypatch.setenv("UNDERSTUDY_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def shard(store):
    """A planned shard of rows ``anna`` and ``tom``, as it comes out of an XCom."""
    from include.contracts.brief import Brief
    from include.contracts.manifest import KeyMaterial
    from include.contracts.plan import ShardPlan, ShardRef, UnitPlan
    from include.stages.specs import MAKER

    def unit(name, scope):
        materials = {
            artifact: KeyMaterial(stage=artifact, stage_version=1, params={"unit": name})
            for artifact, spec in MAKER.items()
            if spec.scope == scope
        }
        return UnitPlan(id=name, materials=materials)

    template = {"video": "t.mp4", "consent": "t.json"}
    brief = Brief(campaign="spring", tenant="acme", template=template, recipients="r.csv")
    plan = ShardPlan(
        brief=brief,
        brief_sha256="0" * 64,
        label="anna … tom (2)",
        template=unit("template", "template"),
        chunk_s=10.0,
        rows=(unit("anna", "row"), unit("tom", "row")),
    )
    key = "acme/plan/x/shard-0000.json"
    store.put(key, plan.model_dump_json().encode())
    ref = ShardRef(store=store.uri, tenant="acme", plan=key, label=plan.label, rows=2)
    return ref.model_dump(mode="json")


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """Installs a worker interpreter that does what the given code says; counts its starts."""
    path = tmp_path / "worker-python"
    starts = tmp_path / "starts"

    def install(body):
        count = f"open({str(starts)!r}, 'a').write('x')\n"
        path.write_text(WORKER.format(project=str(PROJECT), body=count + body))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("UNDERSTUDY_WORKER_PYTHON", str(path))

    install.starts = lambda: len(starts.read_text()) if starts.exists() else 0
    install.writes_result = lambda: install(WRITE_RESULT)
    return install


@pytest.fixture
def context():
    """The little of Airflow's context that the operator reads."""
    ti = SimpleNamespace(
        dag_id="campaign_render",
        task_id="render_shard.sign",
        map_index=0,
        try_number=1,
        max_tries=2,
    )
    return {"ti": ti, "run_id": "manual__2026-01-01T00:00:00+00:00"}


@pytest.fixture
def publish(store, tmp_path):
    """Makes an artifact of a unit exist."""
    from include.contracts.plan import ShardPlan
    from include.store.cache import ArtifactCache

    def make(shard, unit, artifact):
        plan = ShardPlan.model_validate_json(store.get(shard["plan"]))
        material = plan.unit(unit).materials[artifact]
        file = tmp_path / "out.bin"
        file.write_bytes(f"{unit} {artifact}".encode())
        cache = ArtifactCache(store, "acme")
        cache.publish(material, {"out": (file, "application/octet-stream")}, {})

    return make


@pytest.fixture
def tries_another(store, shard):
    """The shard's template as a plan of its own, with a variant that another row needs."""
    from include.contracts.plan import ShardPlan, ShardRef

    plan = ShardPlan.model_validate_json(store.get(shard["plan"]))
    materials = {
        name: material.model_copy(update={"params": {"tries": "another"}})
        for name, material in plan.template.materials.items()
    }
    other = plan.template.model_copy(update={"materials": materials})
    variant = plan.model_copy(update={"rows": (), "template": other})
    store.put("acme/plan/p/template-2.json", variant.model_dump_json().encode())
    ref = ShardRef.model_validate({**shard, "plan": "acme/plan/p/template-2.json"})
    own = plan.model_copy(update={"rows": (), "variants": (ref,)})
    store.put("acme/plan/p/template.json", own.model_dump_json().encode())
    return {**shard, "plan": "acme/plan/p/template.json"}
