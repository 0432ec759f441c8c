"""Works through a stage's chunks: each is an artifact of its own, so that long work can resume.

A template of one chunk goes straight to the artifact: no chunk is stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from include.contracts.manifest import BlobRef
from include.keys import chunk_material
from include.stages.context import Output, Span, StageContext
from include.store.lease import Lease


class ChunkedStage(Protocol):
    """What the module of a chunked stage offers."""

    def spans(self, ctx: StageContext) -> list[Span]:
        """The chunks, in order; at least one."""

    def run_chunk(self, ctx: StageContext, artifact: str) -> Output:
        """Make what lies in ``ctx.span``."""

    def join(self, ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
        """Make the artifact of its chunks."""


@dataclass(frozen=True)
class Part:
    """One chunk's outputs, in the scratch folder or in the store."""

    files: Mapping[str, tuple[Path, str] | BlobRef]
    facts: Mapping[str, Any]

    def fetch(self, ctx: StageContext, name: str) -> Path:
        """Bring an output here. KeyError when the chunk has none of that name."""
        file = self.files[name]
        if isinstance(file, BlobRef):
            return ctx.cache.fetch(file, ctx.scratch / "parts")
        return file[0]


Publish = Callable[[StageContext, str, Span, Output], Part]
"""Stores a chunk that was made: its context, the artifact, which chunk, its outputs."""


def run_chunked(stage: ChunkedStage, ctx: StageContext, artifact: str, publish: Publish) -> Output:
    """Make an artifact chunk by chunk; those that exist are used."""
    spans = stage.spans(ctx)
    if len(spans) == 1:
        made = stage.run_chunk(replace(ctx, chunk=spans[0]), artifact)
        return stage.join(ctx, artifact, [Part(made.files, made.facts)])
    parts = [make_chunk(stage, ctx, artifact, span, publish) for span in spans]
    return stage.join(ctx, artifact, parts)


def make_chunk(
    stage: ChunkedStage, ctx: StageContext, artifact: str, span: Span, publish: Publish
) -> Part:
    """One chunk, from the cache or made under a lease."""
    material = chunk_material(ctx.owner(artifact).materials[artifact], span.index)
    found = ctx.cache.lookup(material.stage, material.key())
    if found is None:
        with Lease.acquire(ctx.cache.store, ctx.cache.tenant, material.key()):
            found = ctx.cache.lookup(material.stage, material.key())
            if found is None:
                folder = ctx.scratch / f"chunk-{span.index:04}"
                folder.mkdir()
                own = replace(ctx, scratch=folder, chunk=span)
                part = publish(own, artifact, span, stage.run_chunk(own, artifact))
                shutil.rmtree(folder)
                return part
    return Part(found.outputs, found.facts)


def merge(parts: list[Part], lists: tuple[str, ...]) -> Output:
    """The outputs of all chunks together.

    Args:
        parts: the chunks, in order; no output name in two of them.
        lists: facts that are lists, to be joined; of the others the first chunk's count.
    """
    files: dict[str, tuple[Path, str] | BlobRef] = {}
    for part in parts:
        files |= part.files
    facts = dict(parts[0].facts)
    for name in lists:
        facts[name] = [item for part in parts for item in part.facts[name]]
    return Output(files, facts)
