"""``lip_sync``: the mouth follows the voice, as a clip inside the ROI."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from include.media.audio import read_audio
from include.stages.clips import Image, clip_files, clip_writer, segment_frames, template_fps
from include.stages.context import Output, StageContext
from include.stages.segments import Segment, load_points, read_segments
from include.stages.voice import VoicePlace, phonemes_of, voice_of
from models.face.roi import Window
from models.lip_sync.curves import MouthCurves, mouth_curves
from models.lip_sync.viseme import Reference, VisemeRenderer, analyse_mouth, mouth_window
from models.speech.phonemes import Source, envelope


def run(ctx: StageContext, artifact: str) -> Output:
    """Render the mouth of every face frame; it rests where nobody speaks.

    Outputs: ``mouth-NNN`` per segment (lossless RGB of a window inside the ROI); none when the
    row has no voice. Facts: ``segments`` with those windows, ``curves`` source.

    Raises:
        BadInput: the voice does not fit (``voice.too_long``).
    """
    place = voice_of(ctx)
    if place is None:
        return Output({}, {"segments": [], "spoken": False})
    fps = template_fps(ctx)
    frames = int(ctx.facts("ingest_template")["frames"])
    curves = _curves(ctx, place, frames, fps)
    points = load_points(ctx.fetch("track_face", "track"))
    segments = read_segments(ctx.facts("face_swap"))
    total = sum(segment.frames for segment in segments)
    written: list[Segment] = []
    done = 0
    for segment in segments:
        spoken = MouthCurves(
            curves.open[segment.start : segment.stop],
            curves.width[segment.start : segment.stop],
            curves.fps,
        )
        mouth = _render_segment(ctx, segment, points[segment.start : segment.stop], spoken, fps)
        if mouth is not None:
            written.append(replace(segment, window=mouth))
        done += segment.frames
        ctx.progress(done, total)
    return Output(
        clip_files(ctx, "mouth", written),
        {
            "segments": [segment.as_fact() for segment in written],
            "spoken": True,
            "open": [round(float(value), 3) for value in curves.open],
        },
    )


def _curves(ctx: StageContext, place: VoicePlace, frames: int, fps: Fraction) -> MouthCurves:
    energy = None
    if ctx.facts("ingest_recipients/voice")["phonemes_by"] == Source.RECOGNITION.value:
        voice = read_audio(ctx.fetch("ingest_recipients/voice", "voice"))
        lead = np.zeros(round(place.start * voice.rate), np.float32)
        energy = envelope(np.concatenate([lead, voice.samples.mean(axis=1)]), voice.rate)
    return mouth_curves(phonemes_of(ctx, place), frames, fps, energy=energy)


def _render_segment(
    ctx: StageContext,
    segment: Segment,
    points: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    curves: MouthCurves,
    fps: Fraction,
) -> Window | None:
    """Write one segment's clip; None when its mouth never moves inside the frame."""
    facts = ctx.facts("ingest_template")
    model = analyse_mouth(points)
    found = mouth_window(model, curves, (int(facts["width"]), int(facts["height"])))
    if found is None:
        return None
    roi = segment.window
    window = inside(found, roi)
    pick = model.reference_index
    part = _roi_frame(ctx, segment, pick)
    renderer = VisemeRenderer(model, Reference(part, roi.to_local(points[pick])))
    cut = Window(window.x - roi.x, window.y - roi.y, window.w, window.h).slice()
    with clip_writer(ctx, "mouth", segment, window, fps) as writer:
        for index, frame in segment_frames(ctx, segment, (("face_swap", "roi"),)):
            number = index - segment.start
            part = np.ascontiguousarray(frame[roi.slice()])
            spoken = float(curves.open[number]), float(curves.width[number])
            picture, _ = renderer.render(part, number, *spoken, origin=(roi.x, roi.y))
            writer.write(np.ascontiguousarray(picture[cut]))
    return window


def inside(window: Window, roi: Window) -> Window:
    """The part of a window that lies in the ROI: what moves the mouth never leaves it."""
    x0, y0 = max(window.x, roi.x), max(window.y, roi.y)
    x1, y1 = min(window.box[2], roi.box[2]), min(window.box[3], roi.box[3])
    return Window(x0, y0, x1 - x0, y1 - y0)


def _roi_frame(ctx: StageContext, segment: Segment, number: int) -> Image:
    """One swapped frame of a segment, its ROI."""
    one = replace(segment, stop=segment.start + number + 1)
    last: Image | None = None
    for _, frame in segment_frames(ctx, one, (("face_swap", "roi"),)):
        last = frame
    if last is None:
        raise ValueError(f"segment {segment.index} has no frame {number}")
    return np.ascontiguousarray(last[segment.window.slice()])
