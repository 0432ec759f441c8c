"""Does one job: its inputs become a store of their own, in which the stage's own process runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from include.contracts.brief import Brief, OutputSpec, TemplateSpec
from include.contracts.manifest import BlobRef, KeyMaterial, Manifest
from include.contracts.plan import TEMPLATE_UNIT, ShardPlan, UnitPlan
from include.contracts.remote import JobError, JobFile, JobRequest
from include.contracts.stage import Event, StageRequest, StageResult
from include.errors import Usage
from include.keys import chunk_material
from include.settings import PROJECT
from include.stages.specs import MAKER, STAGES, StageSpec
from include.store import open_store
from include.store.cache import ArtifactCache

TENANT = "job"
UNIT = "job"
_PLAN, _REQUEST, _RESULT = "job/plan.json", "job/request.json", "job/result.json"
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES")


def check_request(request: JobRequest) -> StageSpec:
    """Refuse what can never be done.

    Raises:
        Usage: ``job.malformed``: not a stage that may be called, or keys that do not agree.
    """
    material = request.material
    spec = MAKER.get(material.stage)
    if spec is None or not spec.remote:
        able = ", ".join(name for name, each in STAGES.items() if each.remote)
        raise Usage(f"{material.stage} is not done here; {able} are", code="job.malformed")
    keys = {name: each.key() for name, each in request.upstream.items()}
    if keys != material.upstream or set(keys) != set(spec.upstream):
        raise Usage("upstream does not have the keys that material names", code="job.malformed")
    known = {key: name for name, key in keys.items()}
    for each in request.inputs:
        name = each.material.stage.removesuffix("/chunk")
        chunk = each.material.upstream.get(name)
        is_chunk = name != each.material.stage and chunk in {*known, material.key()}
        if each.material.key() not in known and not is_chunk:
            raise Usage(f"input {each.material.stage} is none of upstream", code="job.malformed")
    return spec


def job_key(request: JobRequest) -> str:
    """The key of what a job makes: also its idempotency key."""
    if request.chunk is None:
        return request.material.key()
    return chunk_material(request.material, request.chunk).key()


@dataclass
class Workshop:
    """The folder of one job.

    Args:
        root: empty at first; removed by its owner.
        python: the stage worker's interpreter.
        threads: of the stage.
    """

    root: Path
    python: Path
    threads: int = 1

    @property
    def cache(self) -> ArtifactCache:
        """Artifacts of this job only."""
        return ArtifactCache(open_store(str(self.root / "store")), TENANT)

    def furnish(self, request: JobRequest, blob: Callable[[str], Path]) -> None:
        """Lay out what the stage reads.

        Args:
            request: a job that was checked.
            blob: digest to a file that holds its bytes.
        """
        spec, cache = MAKER[request.material.stage], self.cache
        for each in request.inputs:
            for file in each.files.values():
                place = self.root / "store" / cache.blob_key(file.sha256)
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    os.link(blob(file.sha256), place)
            files = {name: _plain(file) for name, file in each.files.items()}
            cache.publish(each.material, files, each.facts)
        plan = _plan(request)
        for name in spec.after:  # the caller has checked what this stage only waits for
            owner = plan.template if MAKER[name].scope == "template" else plan.rows[0]
            cache.publish(owner.materials[name], {}, {})
        store = cache.store
        store.put(_PLAN, plan.model_dump_json().encode())
        asked = StageRequest(
            stage=spec.name,
            store=store.uri,
            tenant=TENANT,
            plan=_PLAN,
            units=(UNIT,),
            run_id="job",
            result=_RESULT,
            threads=self.threads,
            chunk=request.chunk,
        )
        store.put(_REQUEST, asked.model_dump_json().encode())

    @contextmanager
    def process(self, stage: str) -> Iterator[subprocess.Popen[str]]:
        """The stage at work, in a session of its own; killed with all it started in the end."""
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        environment |= {"PYTHONPATH": str(PROJECT), "UNDERSTUDY_STATE": str(self.root / "state")}
        if "UNDERSTUDY_BACKENDS" in os.environ:
            environment["UNDERSTUDY_BACKENDS"] = os.environ["UNDERSTUDY_BACKENDS"]
        uri = f"{self.cache.store.uri}#{_REQUEST}"
        with (self.root / "stderr").open("w") as noise:
            process = subprocess.Popen(
                [str(self.python), "-m", "include.stages", stage, "--request", uri],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=noise,
                start_new_session=True,
                text=True,
                errors="replace",
            )
        try:
            yield process
        finally:
            kill_group(process.pid)
            process.wait()
            if process.stdout:
                process.stdout.close()

    def made(self, request: JobRequest) -> Manifest | None:
        """What the stage made; None when it did not."""
        material = request.material
        if request.chunk is not None:
            material = chunk_material(material, request.chunk)
        return self.cache.lookup(material.stage, material.key())

    def problem(self, returncode: int, said: str) -> JobError:
        """Why it did not, from the stage's result or its exit code."""
        store = self.cache.store
        if store.head(_RESULT) is not None:
            unit = StageResult.model_validate_json(store.get(_RESULT)).units[0]
            if unit.status != "made":
                message = (unit.message or unit.status).removeprefix(f"{UNIT}: ")
                code = returncode or (75 if unit.retry else 65)
                return JobError(code=unit.code or "failed", message=message[:4000], exit_code=code)
        return JobError(
            code="stage", message=f"ended with {returncode}: {said}"[:4000], exit_code=returncode
        )


def kill_group(pid: int) -> None:
    """Kill a process with everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def event_of(line: str) -> Event | None:
    """The event in a line of a stage's output."""
    try:
        return Event.model_validate_json(line)
    except ValidationError:
        return None


def _plain(file: JobFile) -> BlobRef:
    return BlobRef(**file.model_dump(exclude={"url"}))


def _plan(request: JobRequest) -> ShardPlan:
    """A plan with one row that knows of the brief no more than the job does."""
    known = {**request.upstream, request.material.stage: request.material}
    # Demand asks for everything that could be made already: nothing else is, here.
    nothing = {
        name: KeyMaterial(stage=name, stage_version=spec.version, params={"job": "none"})
        for name, spec in MAKER.items()
    }
    materials = {**nothing, **known}

    def unit(ident: str, scope: str) -> UnitPlan:
        mine = {name: each for name, each in materials.items() if MAKER[name].scope == scope}
        speaks = bool(request.material.params.get("lip_sync", True))
        return UnitPlan(id=ident, materials=mine, lip_sync=speaks)

    scale = request.material.params.get("scale", 1)
    return ShardPlan(
        brief=Brief(
            campaign="job",
            tenant=TENANT,
            template=TemplateSpec(video="none"),
            output=OutputSpec(scale=scale),
            recipients="none",
        ),
        brief_sha256="0" * 64,
        label="job",
        template=unit(TEMPLATE_UNIT, "template"),
        chunk_s=request.chunk_s,
        rows=(unit(UNIT, "row"),),
    )
