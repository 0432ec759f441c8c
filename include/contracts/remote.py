"""The contract between a worker and a model API: jobs over HTTP, named by the artifact's key.

::

    POST   /v1/jobs                        JobRequest, header Idempotency-Key: the artifact's key
                                           202 JobStatus; 409 Problem with the digests of inputs
                                           that the server lacks and cannot fetch
    GET    /v1/jobs/{job}                  200 JobStatus
    DELETE /v1/jobs/{job}                  200 JobStatus, cancelled if it was not over
    GET    /v1/jobs/{job}/outputs/{name}   200 bytes, headers Content-Length, Repr-Digest (RFC 9530)
    PUT    /v1/blobs/{sha256}              204; an input that the server cannot fetch by URL

The same key gives the same job, however often it is submitted: a caller that was killed finds its
job again. Errors are a Problem; 429 and 503 carry Retry-After. A call back is a POST of the bare
job's name, signed (see ``include.remote.webhook``): it says "look now", never what to believe.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from include.contracts.base import Contract, Sha256
from include.contracts.manifest import BlobRef, KeyMaterial

JobName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{16,64}$")]
OutputName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Measured = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]

MAX_FILES = 20_000
"""Inputs or outputs of one job: a changed GOP makes one each."""


class JobFile(BlobRef):
    """A file that a job reads."""

    url: str | None = None
    """Where the server may fetch it, without credentials, for as long as the job may take."""


class JobInput(Contract):
    """An artifact, or the chunk of one, that a job reads."""

    material: KeyMaterial
    facts: dict[str, Any] = Field(default_factory=dict)
    files: dict[OutputName, JobFile] = Field(default_factory=dict, max_length=MAX_FILES)


class JobRequest(Contract):
    """One artifact, or one chunk of it, to be made.

    Nothing here says whose it is: no brief, no names, no script.
    """

    schema_version: Literal[1] = 1
    material: KeyMaterial
    """What decides the output: stage and its version, backend with its weights, parameters."""
    chunk: int | None = Field(default=None, ge=0)
    """Make only this chunk."""
    chunk_s: float = Field(default=0.0, ge=0)
    """Length of the chunks that long templates are worked through in, seconds; 0 for none."""
    upstream: dict[str, KeyMaterial] = Field(default_factory=dict)
    """By artifact: what ``material.upstream`` has the keys of."""
    inputs: tuple[JobInput, ...] = ()
    """What exists of ``upstream``, and chunks of the artifact that were made before."""
    total_s: float = Field(gt=0)
    """Seconds after which the caller has no use for the output any more."""
    callback: str | None = None
    """Where to say that the job is over."""


class JobError(Contract):
    """Why a job failed, in the terms of ``include.errors``."""

    code: str = Field(max_length=64)
    message: str = Field(max_length=4000)
    exit_code: int = 1


class JobStatus(Contract):
    """How far a job is."""

    schema_version: Literal[1] = 1
    job: JobName
    key: Sha256
    """The idempotency key."""
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    done: int = Field(default=0, ge=0)
    total: int = Field(default=0, ge=0)
    """Frames."""
    ahead: int = Field(default=0, ge=0)
    """Jobs that are served before this one."""
    outputs: dict[OutputName, BlobRef] = Field(default_factory=dict, max_length=MAX_FILES)
    facts: dict[str, Any] = Field(default_factory=dict)
    seconds: Measured = 0.0
    cpu_seconds: Measured = 0.0
    peak_mib: Measured = 0.0
    price: float = Field(default=0.0, ge=0, le=1e6, allow_inf_nan=False)
    """What the job costs so far, in ``currency``; owed also for a job that failed."""
    currency: str = "USD"
    error: JobError | None = None

    @property
    def over(self) -> bool:
        """Whether it will not change any more by itself."""
        return self.state in ("done", "failed", "cancelled")


class Problem(Contract):
    """Any answer that is not the one asked for."""

    code: str = Field(max_length=64)
    message: str = Field(max_length=4000)
    missing: tuple[Sha256, ...] = Field(default=(), max_length=MAX_FILES)
    """Digests of inputs to upload before the job is submitted again."""
