"""Has one artifact made by a model API: breaker, budget, submission, waiting, download, checks."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path

from include.contracts.manifest import KeyMaterial, Manifest, RemoteCall
from include.contracts.remote import JobFile, JobInput, JobRequest, JobStatus
from include.errors import (
    BadInput,
    BudgetExceeded,
    Preempted,
    RemoteUnavailable,
    UnderstudyError,
    Usage,
)
from include.keys import chunk_material
from include.remote.breaker import Breaker, rules_of
from include.remote.budget import Ledger
from include.remote.client import Api
from include.remote.config import Endpoint, Model, Remotes
from include.remote.http import UNSENT
from include.remote.outputs import check_complete, check_media, check_promise
from include.remote.webhook import Bell
from include.stages.context import Cost, Output, Span, StageContext
from include.stages.specs import MAKER
from include.store.cache import ArtifactCache

log = logging.getLogger(__name__)

POLL_S, POLL_MAX_S = 0.2, 10.0
"""Between two questions about a job: the first pause, and what they grow to."""
LOST_S = 60.0
"""How long a server may be unreachable, being restarted, while it has a job of ours."""
GRACE_S = 15.0
"""What a server is given beyond our own time limit: ours comes first, and cancels."""
NEVER_ACCEPTED = frozenset({"remote.busy", "remote.refused", "remote.token", UNSENT})
"""Codes of a submission that certainly made no job."""


@dataclass
class Caller:
    """Makes artifacts by calls, for the units of one request; used by several threads.

    Args:
        remotes: the declarations.
        bell: rings when a job is over, or when the task is being ended.
        callback: where an API can ring it.
    """

    remotes: Remotes
    bell: Bell = field(default_factory=Bell)
    callback: str | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    breakers: dict[str, Breaker] = field(default_factory=dict)

    def end(self) -> None:
        """End all calls: jobs are cancelled by the threads that wait for them."""
        self.stop.set()
        self.bell.ring()

    def whole(self, ctx: StageContext, artifact: str) -> Output:
        """Have an artifact made.

        Raises:
            BudgetExceeded: the call does not fit into the brief's budget.
            RemoteUnavailable: no endpoint made it; all are named.
            UnderstudyError: what the stage itself said, at the endpoint.
        """
        material = ctx.owner(artifact).materials[artifact]
        return self._made(ctx, artifact, material, None)

    def chunk(self, ctx: StageContext, artifact: str, index: int) -> Output:
        """Have one chunk of an artifact made; errors as for `whole`."""
        material = ctx.owner(artifact).materials[artifact]
        ctx = replace(ctx, chunk=Span(index, 0, 0))
        return self._made(ctx, artifact, chunk_material(material, index), index)

    def _made(
        self, ctx: StageContext, artifact: str, material: KeyMaterial, index: int | None
    ) -> Output:
        name = material.backend.name if material.backend else ""
        offers = self.remotes.offering(ctx.spec.name, name)
        if not offers:
            raise RemoteUnavailable(
                f"no endpoint offers {name} for {ctx.spec.name}", code="remote.no_endpoint"
            )
        tried: list[UnderstudyError] = []
        for endpoint, model in offers:
            call = _Call(self, ctx, endpoint, model, material, index)
            try:
                return call.make(job_request(ctx, artifact, index, model.total_s, self.callback))
            except (RemoteUnavailable, BudgetExceeded, Usage) as error:
                ctx.warn(f"{endpoint.name}: {error.message}")
                tried.append(error)
        if len(tried) == 1:
            raise tried[0]
        decisive = next((e for e in tried if e.retry), tried[-1])
        said = "; ".join(
            f"{offer[0].name}: {e.message}" for offer, e in zip(offers, tried, strict=True)
        )
        raise type(decisive)(said, code=decisive.code)

    def breaker(self, ctx: StageContext, endpoint: Endpoint) -> Breaker:
        """The breaker of an endpoint, one for all threads."""
        made = Breaker(ctx.cache.store, endpoint.name, rules_of(endpoint))
        return self.breakers.setdefault(endpoint.name, made)


@dataclass
class _Call:
    """One artifact at one endpoint."""

    caller: Caller
    ctx: StageContext
    endpoint: Endpoint
    model: Model
    material: KeyMaterial
    index: int | None
    job: JobStatus = field(init=False)

    def make(self, request: JobRequest) -> Output:
        limit = self._limit()
        breaker = self.caller.breaker(self.ctx, self.endpoint)
        token = breaker.enter()
        fine: bool | None = None  # what is not its doing says nothing about the endpoint
        reason = ""
        try:
            made = self._paid(request, limit)
            fine = True
        except RemoteUnavailable as error:
            fine, reason = False, error.message
            raise
        except BadInput:
            fine = True
            raise
        finally:
            breaker.leave(token, fine, reason)
        return made

    def _limit(self) -> float | None:
        budget = self.ctx.shard.brief.budget
        if budget and budget.currency != self.model.currency:
            raise Usage(
                f"budget.currency is {budget.currency}, but {self.endpoint.name} is paid in "
                f"{self.model.currency}; give the budget in that currency",
                code="budget.currency",
            )
        return budget.limit if budget else None

    def _paid(self, request: JobRequest, limit: float | None) -> Output:
        cache, key = self.ctx.cache, self.material.key()
        ledger = Ledger(cache.store, cache.tenant, self.ctx.shard.brief.campaign)
        price, currency = self._price(), self.model.currency
        reserved = ledger.reserve(key, self.endpoint.name, price, limit, currency)
        api = Api(self.endpoint, self.model, self.caller.stop)
        try:
            self.job = api.submit(key, request, cache)
        except Exception as error:
            none = not api.asked or getattr(error, "code", "") in NEVER_ACCEPTED
            if none and reserved.fresh:  # else an earlier attempt may have left a job behind
                ledger.settle(reserved, 0.0)
            raise
        found = self.job.over
        try:
            self._wait(api)
            made = self._fetch(api) if self.job.state == "done" else None
        except UnderstudyError as error:
            if isinstance(error, Preempted) or error.code == "remote.timeout":
                self.job = api.cancel(self.job) or self.job
            raise
        finally:  # until its price is known, a job that was accepted counts as reserved
            if self.job.over:
                ledger.settle(reserved, self.job.price, job=self.job, found=found)
        if made is None:
            raise self._failed(self.job)
        return made

    def _wait(self, api: Api) -> None:
        """Ask, at growing intervals or when the bell rings, until the job is over."""
        end = time.monotonic() + self.model.total_s
        pause, seen, heard = POLL_S, -1, time.monotonic()
        while not self.job.over:
            left = end - time.monotonic()
            if left <= 0:
                raise RemoteUnavailable(
                    f"{self.endpoint.name} did not finish in {self.model.total_s:.0f} s "
                    f"({self.job.state}, {self.job.done} of {self.job.total} frames); the job was "
                    "cancelled",
                    code="remote.timeout",
                )
            self.caller.bell.wait(self.job.job, min(left, pause * random.uniform(0.8, 1.0)))
            if self.caller.stop.is_set():
                raise Preempted("the task is being ended; its jobs were cancelled")
            heard = self._ask(api, heard)
            moved = self.job.done > seen
            if moved and self.job.total:
                done, total = self.job.done, self.job.total
                self.ctx.events.emit("progress", unit=self.ctx.unit.id, done=done, total=total)
            pause = POLL_S if moved else min(POLL_MAX_S, 1.5 * pause)
            seen = self.job.done

    def _ask(self, api: Api, heard: float) -> float:
        """Ask how far the job is; returns when the server was heard of last."""
        try:
            self.job = api.status(self.job)
        except RemoteUnavailable as error:
            if error.code == "remote.lost" or time.monotonic() - heard > LOST_S:
                raise
            return heard
        return time.monotonic()

    def _fetch(self, api: Api) -> Output:
        job = self.job
        check_promise(job, self.model.max_bytes)
        files = {}
        # Fresh: an endpoint that was tried before may have left files under the same names.
        root = Path(tempfile.mkdtemp(prefix="out-", dir=self.ctx.scratch))
        for name, blob in job.outputs.items():
            folder = root / name
            folder.mkdir()
            path = folder / blob.filename
            api.download(job, name, path)
            check_media(path, blob.media_type)
            files[name] = (path, blob.media_type)
        paths = {name: path for name, (path, _) in files.items()}
        check_complete(self.ctx, self.index, paths, job.facts)
        call = RemoteCall(
            endpoint=self.endpoint.name, job=job.job, price=job.price, currency=job.currency
        )
        cost = Cost(job.seconds, job.cpu_seconds, job.peak_mib, call)
        return Output(files, job.facts, cost)

    def _failed(self, job: JobStatus) -> UnderstudyError:
        """What the job's own error means for the row."""
        error, where = job.error, self.endpoint.name
        if job.state == "cancelled" or error is None:
            return RemoteUnavailable(f"{where} cancelled the job", code="remote.cancelled")
        if error.exit_code == BadInput.exit_code:
            return BadInput(error.message, code=error.code)
        if error.exit_code == Usage.exit_code:
            return Usage(f"{where}: {error.message}", code="remote.refused")
        return RemoteUnavailable(
            f"{where}: the job failed ({error.code}): {error.message}", code="remote.failed"
        )

    def _price(self) -> float:
        facts = self.ctx.facts("ingest_template")
        frames = int(facts["frames"])
        if self.index is not None:
            frames = -(-frames // max(1, int(self.ctx.facts("track_face")["chunks"])))
        return self.model.price(frames, float(Fraction(*facts["fps"])))


def job_request(
    ctx: StageContext, artifact: str, index: int | None, total_s: float, callback: str | None
) -> JobRequest:
    """The job that makes an artifact, or a chunk of it.

    Args:
        ctx: the unit; its ``chunk`` set for a chunk.
        artifact: what to make.
        index: which chunk; None for the whole.
        total_s: how long the output is wanted.
        callback: where to say that the job is over.
    """
    material = ctx.owner(artifact).materials[artifact]
    upstream = {name: ctx.owner(name).materials[name] for name in material.upstream}
    found = [ctx.manifest(name) for name in upstream]
    found += _made_before(ctx, material) if index is None and MAKER[artifact].chunked else []
    return JobRequest(
        material=material,
        chunk=index,
        chunk_s=ctx.shard.chunk_s,
        upstream=upstream,
        inputs=tuple(_inputs(ctx.cache, found, total_s)),
        total_s=total_s + GRACE_S,
        callback=callback,
    )


def _made_before(ctx: StageContext, material: KeyMaterial) -> list[Manifest]:
    """Chunks of an artifact that exist."""
    count = (
        int(ctx.facts("track_face").get("chunks", 1)) if "track_face" in material.upstream else 1
    )
    chunks = [chunk_material(material, index) for index in range(count if count > 1 else 0)]
    found = (ctx.cache.lookup(chunk.stage, chunk.key()) for chunk in chunks)
    return [manifest for manifest in found if manifest is not None]


def _inputs(cache: ArtifactCache, found: Iterable[Manifest], total_s: float) -> Iterable[JobInput]:
    for manifest in found:
        files = {}
        for name, blob in manifest.outputs.items():
            url = cache.store.presign(cache.blob_key(blob.sha256), int(total_s) + 600)
            fetched = url if url.startswith(("http://", "https://")) else None
            files[name] = JobFile(**blob.model_dump(), url=fetched)
        yield JobInput(material=manifest.material, facts=manifest.facts, files=files)
