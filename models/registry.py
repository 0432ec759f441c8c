"""The registry of backends: ways to do a stage, described as data.

A stage's package declares its backends as ``BACKENDS`` in its ``__init__``, which imports nothing
heavy: the planner reads versions and weight digests from here without torch or OpenCV.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field


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


def backend(stage: str, name: str) -> Backend:
    """Look up a backend.

    Raises:
        KeyError: there is no such backend; the message lists those of the stage.
    """
    known: Mapping[str, Backend] = importlib.import_module(f"models.{stage}").BACKENDS
    if name not in known:
        raise KeyError(f"no {stage} backend {name!r}; there are {', '.join(sorted(known))}")
    return known[name]
