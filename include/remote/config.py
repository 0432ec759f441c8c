"""Which model APIs there are, what they cost, and what to fall back to: a YAML file as data.

``UNDERSTUDY_REMOTE`` names it::

    endpoints:
      - name: gpu-cloud
        url: https://models.example.com
        token_env: UNDERSTUDY_REMOTE_TOKEN     # the variable that holds the bearer token
        parallel: 8                            # calls of one task in flight
        models:
          - {stage: upscale, backend: compact, per_frame: 0.0002, currency: USD, total_s: 900}
    fallback:                                  # one step after the other, then the row fails
      upscale:
        - {backend: lanczos}                   # a faster model
        - {scale: 1}                           # a lower resolution

Endpoints that offer the same backend make the same artifact: they are tried in the order written.
A step of ``fallback`` makes another artifact (see ``include.remote.fallback``).
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, Field, StringConstraints, ValidationError, model_validator

from include.contracts.base import Contract, Slug
from include.errors import Usage
from include.stages.specs import STAGES

REMOTE_ENV = "UNDERSTUDY_REMOTE"
SECRETS = "UNDERSTUDY_REMOTE_"
"""Variables that begin so may hold secrets: only the process that calls an API gets them."""
WEBHOOK_SECRET_ENV = f"{SECRETS}WEBHOOK_SECRET"


def _http(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError(f"{value!r} is not an http(s) address without credentials")
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "http" and not local:
        raise ValueError(f"{value!r} would send the token in the clear; use https")
    return value.rstrip("/")


def _callable(value: str) -> str:
    able = [name for name, spec in STAGES.items() if spec.remote]
    if value not in able:
        raise ValueError(f"{value!r} cannot be called; stages that can are {', '.join(able)}")
    return value


Stage = Annotated[str, AfterValidator(_callable)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Price = Annotated[float, Field(ge=0, le=1e6)]


class Model(Contract):
    """One backend at an endpoint: what it costs, and how long to wait for it."""

    stage: Stage
    backend: Slug
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "USD"
    per_call: Price = 0.0
    per_frame: Price = 0.0
    """For each frame of the template, or of the chunk."""
    per_second: Price = 0.0
    """For each second of the template, or of the chunk."""
    connect_s: Seconds = 5.0
    submit_s: Seconds = 30.0
    """For one answer: a submission, a question about a job, a block of a download."""
    total_s: Seconds = 900.0
    """From submission to the last byte; the job is cancelled then."""
    max_bytes: int = Field(default=4 << 30, gt=0)
    """All outputs of a job together."""

    def price(self, frames: int, fps: float) -> float:
        """What a call costs by the declared prices, in ``currency``."""
        return self.per_call + self.per_frame * frames + self.per_second * frames / fps


class Endpoint(Contract):
    """One model API."""

    name: Slug
    url: Annotated[str, AfterValidator(_http)]
    token_env: Annotated[str, StringConstraints(pattern=rf"^{SECRETS}[A-Z0-9_]+$")] = (
        f"{SECRETS}TOKEN"
    )
    parallel: int = Field(default=4, ge=1, le=64)
    models: tuple[Model, ...] = Field(min_length=1)

    def model(self, stage: str, backend: str) -> Model | None:
        """What it offers for a backend of a stage."""
        return next((m for m in self.models if (m.stage, m.backend) == (stage, backend)), None)

    @property
    def token(self) -> str:
        """The bearer token; empty when the variable is not set."""
        return os.environ.get(self.token_env, "")


class Step(Contract):
    """One step of a fallback chain: what a row is made with instead."""

    backend: Slug | None = None
    """Another backend of the stage; at an endpoint that offers it, else on a machine of ours."""
    scale: Literal[1, 2, 4] | None = None
    """Another ``output.scale``."""

    @model_validator(mode="after")
    def _changes_something(self) -> Step:
        if self.backend is None and self.scale is None:
            raise ValueError("a step names a backend, a scale, or both")
        return self


class Remotes(Contract):
    """The whole file."""

    endpoints: tuple[Endpoint, ...] = ()
    fallback: dict[Stage, tuple[Step, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _unique(self) -> Remotes:
        names = [endpoint.name for endpoint in self.endpoints]
        if len(set(names)) < len(names):
            raise ValueError("two endpoints have the same name")
        for stage, steps in self.fallback.items():
            if stage != "upscale" and any(step.scale for step in steps):
                raise ValueError(f"fallback.{stage}: the scale is upscale's to change")
        return self

    def offering(self, stage: str, backend: str) -> list[tuple[Endpoint, Model]]:
        """Endpoints that make a stage's artifacts with a backend, in the order to try them."""
        found = ((endpoint, endpoint.model(stage, backend)) for endpoint in self.endpoints)
        return [(endpoint, model) for endpoint, model in found if model is not None]


def load_remotes() -> Remotes:
    """The file that ``UNDERSTUDY_REMOTE`` names; nothing declared without one.

    Raises:
        Usage: ``remote.declarations``: it cannot be used; the message names the field.
    """
    path = os.environ.get(REMOTE_ENV)
    if not path:
        return Remotes()
    try:
        about = Path(path).stat()
    except OSError as error:
        raise Usage(
            f"{REMOTE_ENV} names {path}, which cannot be read: {error.strerror}; correct the "
            "variable, or unset it to call no API",
            code="remote.declarations",
        ) from error
    return _read(Path(path), about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _mtime: int, _size: int) -> Remotes:
    try:
        return Remotes.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except ValidationError as error:
        problem = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}" for item in error.errors()
        )
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
    raise Usage(f"{path}: {problem}", code="remote.declarations")
