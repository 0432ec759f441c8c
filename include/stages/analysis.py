"""Reads what ``analyse_face`` learned of the presenter: colours, open mouths, occlusion."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import repeat

import numpy as np

from include.media.decode import VideoReader
from include.stages.clips import Image
from include.stages.context import StageContext
from include.stages.segments import Segment
from models.face_swap.reference import ColourReference

_REFERENCES: dict[tuple[str, int], ColourReference] = {}
"""What depends on the template alone, kept for the shard's other rows."""


def colour_reference(ctx: StageContext, segment: Segment) -> ColourReference:
    """The presenter's own colours and light in a segment."""
    key = (ctx.owner("analyse_face").key("analyse_face"), segment.index)
    if key not in _REFERENCES:
        path = ctx.fetch("analyse_face", f"colour-{segment.index:03}")
        with np.load(path, allow_pickle=False) as stored:
            _REFERENCES[key] = ColourReference.from_arrays(stored)
    return _REFERENCES[key]


def mouth_frame(ctx: StageContext, segment: Segment) -> int:
    """The template's frame in which a segment's mouth is most typically open."""
    return int(ctx.facts("analyse_face")["mouth_frames"][str(segment.index)])


def occlusions(
    ctx: StageContext, segment: Segment, start: int, stop: int
) -> Iterator[Image | None]:
    """For each frame the mask of what is in front of the face, or None where nothing is.

    Args:
        ctx: the unit.
        segment: that holds the frames.
        start: first frame of the template.
        stop: exclusive.

    Yields:
        uint8 [h, w] of the segment's window, 255 where the template's pixels stay.
    """
    found = [o for o in ctx.facts("analyse_face")["occluded"] if o["segment"] == segment.index]
    at = start
    for clip in sorted(found, key=lambda item: int(item["start"])):
        first, last = max(at, clip["start"]), min(stop, clip["stop"])
        if first >= last:
            continue
        yield from repeat(None, first - at)
        with ExitStack() as stack:
            path = ctx.fetch("analyse_face", clip["output"])
            reader = stack.enter_context(VideoReader(path))
            for mask in reader.frames(first - clip["start"], last - clip["start"]):
                plane = np.ascontiguousarray(mask[..., 0])
                yield plane if plane.any() else None
        at = last
    yield from repeat(None, stop - at)
