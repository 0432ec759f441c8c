"""``lip_sync``: the mouth follows the voice, as clips inside the ROI."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from include.media.audio import read_own_wav
from include.stages.analysis import occlusions
from include.stages.chunked import Part, merge
from include.stages.clips import (
    CLIP_MARGIN,
    SWAPPED,
    Changed,
    Image,
    clip_fact,
    clip_files,
    clip_writer,
    recipient_frames,
)
from include.stages.context import Output, StageContext
from include.stages.face_swap import open_mouth
from include.stages.segments import Points, Segment, load_points
from include.stages.timeline import Gop, gops_in, spans_of, template_fps, template_size
from include.stages.voice import VoicePlace, phonemes_of, voice_of
from models.face.occlusion import keep_occluders
from models.face.roi import Window
from models.lip_sync.curves import MouthCurves, mouth_curves
from models.lip_sync.viseme import (
    MouthModel,
    Reference,
    VisemeRenderer,
    analyse_mouth,
    mouth_window,
)
from models.speech.phonemes import Source, envelope

spans = spans_of


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Render the mouth of every face frame; it rests where nobody speaks.

    Outputs: ``mouth-NNNNN`` per changed GOP (lossless RGB: a window inside the ROI and CLIP_MARGIN
    around it, with all that lies below); none when the row has no voice.
    Facts: ``clips``, ``spoken``, ``open`` (how far open each frame's mouth is, 0 to 1).

    Raises:
        BadInput: the voice does not fit (``voice.too_long``).
    """
    place = voice_of(ctx)
    if place is None:
        return Output({}, {"clips": [], "spoken": False, "open": []})
    curves = mouth_commands(ctx, place)
    points = load_points(ctx.fetch("track_face", "track"))
    gops = gops_in(ctx)
    total = sum(gop.frames for gop in gops)
    clips: list[dict[str, Any]] = []
    done = 0
    mouths = _Mouths(ctx, points)
    for gop in gops:
        fact = _speak_gop(ctx, gop, mouths, curves)
        if fact is not None:
            clips.append(fact)
        done += gop.frames
        ctx.progress(done, total)
    names = {clip["gop"] for clip in clips}
    span = slice(ctx.span.start, ctx.span.stop)
    return Output(
        clip_files(ctx, "mouth", [gop for gop in gops if gop.index in names]),
        {
            "clips": clips,
            "spoken": True,
            "open": [round(float(value), 3) for value in curves.open[span]],
        },
    )


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """All chunks' clips."""
    return merge(parts, ("clips", "open"))


def mouth_commands(ctx: StageContext, place: VoicePlace) -> MouthCurves:
    """What the mouth does in every frame of the template."""
    energy = None
    if ctx.facts("ingest_recipients/voice")["phonemes_by"] == Source.RECOGNITION.value:
        voice = read_own_wav(ctx.fetch("ingest_recipients/voice", "voice"))
        lead = np.zeros(round(place.start * voice.rate), np.float32)
        energy = envelope(np.concatenate([lead, voice.samples.mean(axis=1)]), voice.rate)
    frames = int(ctx.facts("ingest_template")["frames"])
    return mouth_curves(phonemes_of(ctx, place), frames, template_fps(ctx), energy=energy)


def cut_curves(curves: MouthCurves, start: int, stop: int) -> MouthCurves:
    """The commands of some frames."""
    return MouthCurves(curves.open[start:stop], curves.width[start:stop], curves.fps)


class _Mouths:
    """The renderer of each segment, made when its first GOP comes."""

    def __init__(self, ctx: StageContext, points: Points) -> None:
        self._ctx, self._points = ctx, points
        self._index = -1
        self._renderer: VisemeRenderer | None = None

    def of(self, segment: Segment) -> VisemeRenderer:
        """The segment's renderer; only the last one asked for is kept."""
        if self._renderer is None or segment.index != self._index:
            model = analyse_mouth(self._points[segment.start : segment.stop])
            pixels, window = open_mouth(self._ctx, segment)
            marks = window.to_local(model.points[model.reference_index])
            self._renderer = VisemeRenderer(model, Reference(pixels, marks))
            self._index = segment.index
        return self._renderer


def _speak_gop(
    ctx: StageContext, gop: Gop, mouths: _Mouths, curves: MouthCurves
) -> dict[str, Any] | None:
    """Write one GOP's clip; None when its mouth is never inside the frame."""
    if gop.segment is None:
        raise ValueError(f"GOP {gop.index} has no face")
    renderer, size = mouths.of(gop.segment), template_size(ctx)
    first = gop.start - gop.segment.start
    spoken = cut_curves(curves, gop.start, gop.stop)
    found = mouth_window(_part(renderer.model, first, first + gop.frames), spoken, size)
    window = found.intersection(gop.window) if found else None
    if window is None:
        return None
    clip = window.dilate(CLIP_MARGIN, size)
    roi = gop.window
    around = roi.dilate(CLIP_MARGIN, size)
    changed = Changed()
    masks = occlusions(ctx, gop.segment, gop.start, gop.stop)
    frames = recipient_frames(ctx, gop, around, SWAPPED)
    inner = roi.relative_to(around).slice()
    cut = window.relative_to(roi).slice()
    with clip_writer(ctx, "mouth", gop, clip) as writer:
        for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
            part = np.ascontiguousarray(frame[inner])
            spoken_at = float(spoken.open[number]), float(spoken.width[number])
            picture = _speak(renderer, part, first + number, spoken_at, roi, mask)
            before, after = part[cut], picture[cut]
            changed.add(before, after)
            frame[inner][cut] = after
            writer.write(np.ascontiguousarray(frame[clip.relative_to(around).slice()]))
    return clip_fact(gop, clip, changed.window(window, size))


def _speak(
    renderer: VisemeRenderer,
    part: Image,
    number: int,
    command: tuple[float, float],
    roi: Window,
    mask: Image | None,
) -> Image:
    picture, _ = renderer.render(part, number, *command, origin=(roi.x, roi.y))
    return picture if mask is None else keep_occluders(part, picture, mask)


def _part(model: MouthModel, first: int, last: int) -> MouthModel:
    """A segment's model cut down to some of its frames, to look at their movement."""
    return replace(
        model,
        points=model.points[first:last],
        poses=model.poses[first:last],
        controls=model.controls[first:last],
    )
