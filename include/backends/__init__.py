"""Declares backends with weights of one's own, and finds their files.

Needs the stage worker's environment; planners read declarations through ``models.registry``.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import yaml

from include.errors import BadInput, Usage
from include.settings import Settings
from include.store import open_object
from models.registry import Declaration, backend, declared, entries
from models.upscale.margin import measure_margin
from models.upscale.rrdb import Rrdb
from models.upscale.rrdb_file import read_parameters


def weights_file(name: str, stage: str = "upscale") -> Path | None:
    """Where a declared backend's weights lie on this machine; fetches them from an object store.

    Args:
        name: the backend.
        stage: its package below ``models``.

    Returns:
        The file, whose digest the loader checks; ``None`` for a backend that is not declared.

    Raises:
        BadInput: ``upscaler.weights``: what the store holds is not the declared file.
        StoreUnavailable: the store cannot be reached.
        KeyError: there is no such backend.
    """
    item = backend(stage, name).declared
    if item is None:
        return None
    if "://" not in item.weights:
        return Path(item.weights)
    kept = Settings.from_env().state / "weights" / f"{item.sha256}{Path(item.weights).suffix}"
    if not (kept.is_file() and _sha256(kept) == item.sha256):
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            part = Path(folder) / kept.name
            _fetch(item, part)
            os.replace(part, kept)
    return kept


def _fetch(item: Declaration, path: Path) -> None:
    store, key = open_object(item.weights)
    if store.head(key) is None:
        raise BadInput(
            f"upscaler {item.name}: weights {item.weights} are missing; correct the declaration",
            code="upscaler.weights",
        )
    store.get_file(key, path)
    found = _sha256(path)
    if found != item.sha256:
        raise BadInput(
            f"upscaler {item.name}: weights {item.weights} have sha256 {found}, not the declared "
            f"{item.sha256}; restore the file, or declare the new one",
            code="upscaler.weights",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def declare(
    file: Path,
    *,
    name: str,
    weights: str,
    licence: str,
    origin: str,
    margin: int | None = None,
    opened: Path | None = None,
    threads: int = 1,
) -> Declaration:
    """Add an RRDBNet to a file of declarations, or replace the entry of that name.

    Args:
        file: the YAML file; made if there is none.
        name: what briefs will call it.
        weights: the file as a worker sees it: a path, or ``s3://bucket/key``.
        licence: SPDX expression, or where the terms are.
        origin: who made it, and from what.
        margin: effective radius in input pixels; ``None`` measures it, which takes from a second to
            some minutes with the network's size.
        opened: the same file on this machine, where ``weights`` is not readable here.
        threads: CPU threads to measure with.

    Returns:
        The entry.

    Raises:
        Usage: the weights or the file cannot be used; the message says why.
    """
    here = opened or Path(weights)
    try:
        parameters = read_parameters(here)
        upscaler = Rrdb(name, parameters, margin=margin, threads=threads)
    except ValueError as error:
        raise Usage(str(error), code="upscaler.weights") from error
    entry: dict[str, Any] = {
        "name": name,
        "stage": "upscale",
        "kind": "rrdb",
        "weights": weights,
        "sha256": _sha256(here),
        "scale": parameters.scale,
        "margin": margin or measure_margin(upscaler),
        "licence": licence,
        "origin": origin,
    }
    listed = entries(file) if file.exists() else []
    listed = [item for item in listed if not isinstance(item, dict) or item.get("name") != name]
    _write(file, [*listed, entry])
    made = declared(file)["upscale", name].declared
    if made is None:
        raise Usage(f"{file}: {name} was replaced while it was written; declare it again")
    return made


def _write(file: Path, listed: list[Any]) -> None:
    text = yaml.safe_dump({"backends": listed}, sort_keys=False, allow_unicode=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        part = Path(folder) / file.name
        part.write_text(text, encoding="utf-8")
        declared(part)
        os.replace(part, file)
