"""The template's time line: closed GOPs, which of them a recipient can change, and chunks.

A GOP lies wholly inside one run of frames with the presenter's face, or wholly outside all of
them. Those inside are rendered and encoded for every recipient; the others are encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from include.stages.context import Span, StageContext
from include.stages.segments import Segment, read_segments
from models.face.roi import Window

GOP_S = 2.0
"""Longest time from one keyframe to the next, seconds: what players need for seeking."""


@dataclass(frozen=True)
class Gop:
    """A group of pictures that is decoded and exchanged on its own."""

    index: int
    start: int
    """First frame of the template, inclusive."""
    stop: int
    """Exclusive."""
    segment: Segment | None
    """The run of face frames that it lies in; None where no recipient changes anything."""

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return self.stop - self.start

    @property
    def window(self) -> Window:
        """The ROI of its segment. ValueError for a GOP that nobody changes."""
        if self.segment is None:
            raise ValueError(f"GOP {self.index} has no face")
        return self.segment.window


def plan_gops(frames: int, fps: Fraction, shots: list[int], segments: list[Segment]) -> list[Gop]:
    """Cut a template into closed GOPs.

    They begin where a shot begins, where the face comes or goes, and in between at even distances
    of at most ``GOP_S``.

    Args:
        frames: length of the template.
        fps: frames per second.
        shots: first frame of each shot; the first is 0.
        segments: runs of frames with the face, in order.
    """
    edges = {0, frames, *shots}
    for segment in segments:
        edges |= {segment.start, segment.stop}
    longest = max(1, int(GOP_S * fps))
    gops: list[Gop] = []
    for start, stop in pairwise(sorted(edges)):
        inside = next((s for s in segments if s.start <= start < s.stop), None)
        count = -(-(stop - start) // longest)
        cuts = [start + (stop - start) * k // count for k in range(count + 1)]
        gops += [Gop(len(gops) + k, a, b, inside) for k, (a, b) in enumerate(pairwise(cuts))]
    return gops


def chunk_spans(gops: Iterable[Gop], fps: Fraction, chunk_s: float) -> list[Span]:
    """Join consecutive GOPs to chunks of about ``chunk_s`` seconds.

    Args:
        gops: the whole time line.
        fps: frames per second.
        chunk_s: a chunk is closed when another GOP would make it longer than this; 0 makes one
            chunk of everything.
    """
    longest = chunk_s * fps if chunk_s > 0 else float("inf")
    bounds: list[tuple[int, int]] = []
    for gop in gops:
        if bounds and gop.stop - bounds[-1][0] <= longest:
            bounds[-1] = (bounds[-1][0], gop.stop)
        else:
            bounds.append((gop.start, gop.stop))
    return [Span(index, start, stop) for index, (start, stop) in enumerate(bounds)]


def template_fps(ctx: StageContext) -> Fraction:
    """The template's constant frame rate."""
    numerator, denominator = ctx.facts("ingest_template")["fps"]
    return Fraction(numerator, denominator)


def template_size(ctx: StageContext) -> tuple[int, int]:
    """(width, height) of the template's frames."""
    facts = ctx.facts("ingest_template")
    return int(facts["width"]), int(facts["height"])


def gops_of(ctx: StageContext) -> list[Gop]:
    """The unit's whole time line."""
    facts = ctx.facts("ingest_template")
    segments = read_segments(ctx.facts("track_face"))
    return plan_gops(int(facts["frames"]), template_fps(ctx), facts["shots"], segments)


def spans_of(ctx: StageContext) -> list[Span]:
    """The chunks that this unit is worked through in."""
    return chunk_spans(gops_of(ctx), template_fps(ctx), ctx.shard.chunk_s)


def gops_in(ctx: StageContext, *, changed: bool = True) -> list[Gop]:
    """The GOPs of the current chunk that a recipient can change, or the others."""
    span = ctx.span
    return [
        gop
        for gop in gops_of(ctx)
        if span.start <= gop.start < span.stop and (gop.segment is not None) == changed
    ]
