from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.stages.segments import Segment
from include.stages.timeline import GOP_S, chunk_spans, plan_gops
from models.face.roi import Window

WINDOW = Window(10, 20, 64, 80)


@st.composite
def time_lines(draw: st.DrawFn) -> tuple[int, Fraction, list[int], list[Segment]]:
    frames = draw(st.integers(1, 900))
    fps = draw(st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(10), Fraction(60)]))
    cuts = draw(st.sets(st.integers(1, max(1, frames - 1)), max_size=6))
    shots = [0, *sorted(cut for cut in cuts if cut < frames)]
    segments: list[Segment] = []
    for start, stop in pairwise([*shots, frames]):
        if draw(st.booleans()):
            a = draw(st.integers(start, stop - 1))
            b = draw(st.integers(a + 1, stop))
            segments.append(Segment(len(segments), a, b, WINDOW))
    return frames, fps, shots, segments


@given(time_lines())
def test_gops_cover_every_frame_once_and_never_mix_face_and_no_face(time_line) -> None:
    frames, fps, shots, segments = time_line
    gops = plan_gops(frames, fps, shots, segments)
    assert [gop.start for gop in gops] == [0, *(gop.stop for gop in gops[:-1])]
    assert gops[-1].stop == frames
    assert [gop.index for gop in gops] == list(range(len(gops)))
    face = {i for segment in segments for i in range(segment.start, segment.stop)}
    for gop in gops:
        assert 1 <= gop.frames <= max(1, GOP_S * fps)
        inside = face & set(range(gop.start, gop.stop))
        assert inside == (set(range(gop.start, gop.stop)) if gop.segment else set())
        assert not any(gop.start < shot < gop.stop for shot in shots)


@given(time_lines(), st.sampled_from([0.0, 0.5, 2.0, 10.0]))
def test_chunks_are_whole_gops_in_order(time_line, chunk_s: float) -> None:
    frames, fps, shots, segments = time_line
    gops = plan_gops(frames, fps, shots, segments)
    spans = chunk_spans(gops, fps, chunk_s)
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == frames
    starts = {gop.start for gop in gops}
    longest = max(gop.frames for gop in gops)
    for span in spans:
        assert span.start in starts
        assert not chunk_s or span.stop - span.start <= max(chunk_s * fps, longest)
    assert len(spans) == 1 or chunk_s


def test_a_gop_without_the_face_has_no_window() -> None:
    (gop,) = plan_gops(5, Fraction(25), [0], [])
    with pytest.raises(ValueError, match="no face"):
        _ = gop.window
