"""The registry of backends: ways to do a stage, described as data.

A stage's package declares its backends as ``BACKENDS`` in its ``__init__``, which imports nothing
heavy: the planner reads versions and weight digests from here without torch or OpenCV.

Backends with their owner's weights are declared in a YAML file that ``UNDERSTUDY_BACKENDS`` names
and that planner and workers both read. The weights themselves only workers open::

    backends:
      - name: studio-x2
        stage: upscale
        kind: rrdb
        weights: /models/studio_x2.safetensors   # or s3://; relative paths start beside this file
        sha256: 5a41…
        scale: 2
        margin: 24
        licence: BSD-3-Clause
        origin: trained by the studio on its own footage
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from include.errors import Usage

DECLARED_ENV = "UNDERSTUDY_BACKENDS"
"""Names the file of declared backends."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class Declaration(BaseModel):
    """One entry of the file: a backend whose weights belong to the user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """What a brief calls it."""
    stage: Text
    """The package below ``models``: ``upscale``."""
    kind: Text
    """The code that runs the weights: a key of the package's ``KINDS``."""
    weights: Text
    """The file as a worker sees it: a path, or ``s3://bucket/key``."""
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """Digest of the file."""
    scale: Literal[2, 4] | None = None
    """What an upscaler enlarges by."""
    margin: Annotated[int, Field(ge=1, le=4096)] | None = None
    """How far an output pixel looks in practice, in input pixels; ``None`` takes the theoretical
    radius of the network."""
    licence: Text
    """SPDX expression, or where the terms are."""
    origin: Text
    """Who made the weights, and from what."""


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One way to do one stage. Name, version and weights digest are part of artifact keys."""

    stage: str
    """The package below ``models`` that it belongs to: ``face_swap``, ``upscale``, ..."""
    name: str
    version: str
    """Changes when the output does."""
    weights_sha256: str | None
    """Digest of the weights file, ``None`` for code without weights."""
    licence: str
    """SPDX expression of code and weights."""
    origin: str
    """Who made it, or which package ships it."""
    limits: Mapping[str, str] = field(default_factory=dict)
    """What callers must know: sizes, poses, known weak spots."""
    declared: Declaration | None = None
    """The user's own entry; ``None`` for what ships with the project."""


def backend(stage: str, name: str) -> Backend:
    """Look up a backend, built in or declared.

    Raises:
        KeyError: there is no such backend; the message lists those of the stage.
        Usage: as `backends`.
    """
    built_in: Mapping[str, Backend] = _package(stage).BACKENDS
    if name in built_in:
        return built_in[name]
    known = backends(stage)
    if name not in known:
        raise KeyError(f"no {stage} backend {name!r}; there are {', '.join(sorted(known))}")
    return known[name]


def backends(stage: str) -> Mapping[str, Backend]:
    """All backends of a stage by name: built in, then declared.

    Raises:
        Usage: ``backends.missing``, ``backends.malformed``: the file of declarations cannot be
            used; the message names the entry and the field.
    """
    built_in: Mapping[str, Backend] = _package(stage).BACKENDS
    path = os.environ.get(DECLARED_ENV)
    if not path:
        return built_in
    own = {name: item for (kind, name), item in declared(Path(path)).items() if kind == stage}
    return {**built_in, **own}


def _package(stage: str) -> Any:
    name = f"models.{stage}"
    return sys.modules.get(name) or importlib.import_module(name)


def declared(path: Path) -> Mapping[tuple[str, str], Backend]:
    """Read a file of declarations; a file that has not changed is not read again.

    Returns:
        Stage and name to backend; paths of weights are absolute.

    Raises:
        Usage: as `backends`.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise Usage(
            f"{DECLARED_ENV} names {path}, which cannot be read: {error.strerror}; correct the "
            "variable, or unset it to use the built-in backends only",
            code="backends.missing",
        ) from error
    return _read(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _mtime: int, _size: int) -> Mapping[tuple[str, str], Backend]:
    found: dict[tuple[str, str], Backend] = {}
    for number, entry in enumerate(entries(path), 1):
        where = f"{path}: backends[{number}]"
        try:
            item = Declaration.model_validate(entry)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'entry'}: {each['msg']}"
                for each in error.errors()
            )
            raise Usage(f"{where}: {problems}", code="backends.malformed") from error
        problem = _problem(item)
        if (item.stage, item.name) in found:
            problem = f"name: {item.name} is declared twice"
        if problem:
            raise Usage(f"{where}: {problem}", code="backends.malformed")
        if "://" not in item.weights:
            beside = path.absolute().parent / item.weights
            item = item.model_copy(update={"weights": str(beside)})
        found[item.stage, item.name] = _as_backend(item)
    return found


def entries(path: Path) -> list[Any]:
    """Read the list of declarations as it is written, unchecked.

    Raises:
        Usage: ``backends.malformed``: it is not YAML of that form.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        text = " ".join(str(error).split())
        raise Usage(f"{path} is not YAML: {text}", code="backends.malformed") from error
    listed = data.get("backends") if isinstance(data, dict) and set(data) == {"backends"} else None
    if not isinstance(listed, list):
        raise Usage(
            f"{path}: write one list, 'backends:', with one entry for each backend",
            code="backends.malformed",
        )
    return listed


def _problem(item: Declaration) -> str | None:
    """What is wrong with an entry beside the form of its fields."""
    try:
        package = _package(item.stage)
    except ModuleNotFoundError:
        return f"stage: there is no stage {item.stage!r}; backends can be declared for upscale"
    kinds: Mapping[str, str] = getattr(package, "KINDS", {})
    if not kinds:
        return f"stage: backends cannot be declared for {item.stage!r}, only for upscale"
    if item.kind not in kinds:
        return f"kind: no {item.stage} kind {item.kind!r}; there are {', '.join(sorted(kinds))}"
    if item.name == "auto" or item.name in package.BACKENDS:
        return f"name: {item.name} is taken; choose another"
    if item.stage == "upscale" and item.scale is None:
        return "scale: Field required"
    return None


def _as_backend(item: Declaration) -> Backend:
    margin = "theoretical" if item.margin is None else str(item.margin)
    kind_version = _package(item.stage).KINDS[item.kind]
    return Backend(
        stage=item.stage,
        name=item.name,
        # The margin decides which pixels are made again, by at most a code value: it is output.
        version=f"{item.kind} {kind_version}, margin {margin}",
        weights_sha256=item.sha256,
        licence=item.licence,
        origin=item.origin,
        limits={"scales": str(item.scale), "receptive_field": f"{margin} (radius, input pixels)"},
        declared=item,
    )
