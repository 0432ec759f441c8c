"""``compose``: face and mouth onto the plate, voice over the bed, one video file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from include.media.audio import Audio, mix_voice_over_bed, read_audio, write_wav
from include.media.captions import webvtt
from include.media.decode import VideoReader
from include.media.encode import DeliveryWriter
from include.media.images import save_jpeg
from include.media.mux import mux_mp4
from include.media.pixels import Yuv420, paste_yuv, rgb_to_yuv420, yuv420_to_rgb
from include.media.preview import PreviewMark
from include.stages.clips import clip_name, layer_window, segment_frames, template_fps
from include.stages.context import Output, StageContext
from include.stages.segments import Segment, read_segments
from include.stages.upscaling import upscale_window, upscaler_for
from include.stages.voice import VoicePlace, voice_of
from models.face.roi import Window
from models.upscale.base import Upscaler

Image = NDArray[np.uint8]


def run(ctx: StageContext, artifact: str) -> Output:
    """Paste, encode, mix and mux.

    Outputs: ``video`` (MP4, H.264 and AAC, unsigned), ``thumbnail`` (JPEG), ``captions``
    (WebVTT; no cues without a script). Facts: size, frames, segments, when the voice sounds.

    Raises:
        BadInput: the voice does not fit (``voice.too_long``).
    """
    place = voice_of(ctx)
    silent = ctx.scratch / "silent.mp4"
    thumbnail = ctx.scratch / "thumbnail.jpg"
    size, frames = _encode(ctx, silent, thumbnail)
    sound = _sound(ctx, place, frames)
    video = ctx.scratch / "video.mp4"
    mux_mp4(silent, sound, video)
    captions = ctx.scratch / "captions.vtt"
    script = (ctx.unit.script or "") if place else ""
    span = (place.start, place.stop) if place else (0.0, 0.0)
    captions.write_text(webvtt(script, *span, locale=ctx.unit.locale), encoding="utf-8")
    return Output(
        {
            "video": (video, "video/mp4"),
            "thumbnail": (thumbnail, "image/jpeg"),
            "captions": (captions, "text/vtt"),
        },
        {
            "width": size[0],
            "height": size[1],
            "frames": frames,
            "seconds": round(float(frames / template_fps(ctx)), 3),
            "segments": ctx.facts("face_swap")["segments"],
            "voice": [round(place.start, 3), round(place.stop, 3)] if place else None,
            "voice_trimmed": bool(place and place.trimmed),
        },
    )


def _encode(ctx: StageContext, path: Path, thumbnail: Path) -> tuple[tuple[int, int], int]:
    material = ctx.unit.materials["compose"]
    upscaler = upscaler_for(material, ctx.threads)
    scale, crf = int(material.params["scale"]), int(material.params["crf"])
    segments = read_segments(ctx.facts("face_swap"))
    shown = _thumbnail_frame(segments)
    plate = ctx.fetch("upscale_plate", "plate")
    with VideoReader(plate, threads=ctx.threads) as reader:
        facts = reader.facts
        mark = PreviewMark(facts.size) if material.params["tier"] == "preview" else None
        with DeliveryWriter(path, facts.size, facts.fps, crf=crf, threads=1) as writer:
            patches = _patches(ctx, segments, upscaler, scale)
            upcoming = next(patches, None)
            for index, planes in enumerate(reader.yuv_frames()):
                if upcoming is not None and upcoming[0] == index:
                    _, x, y, patch = upcoming
                    paste_yuv(planes, patch, x, y)
                    upcoming = next(patches, None)
                if mark is not None:
                    mark.draw(planes)
                if index == shown:
                    save_jpeg(yuv420_to_rgb(planes), thumbnail, 88)
                writer.write(planes)
                ctx.progress(index + 1, facts.frames)
    return facts.size, facts.frames


def _thumbnail_frame(segments: list[Segment]) -> int:
    """A third into the longest segment: the face is there and has settled."""
    longest = max(segments, key=lambda segment: segment.frames)
    return longest.start + longest.frames // 3


def _patches(
    ctx: StageContext, segments: list[Segment], upscaler: Upscaler | None, scale: int
) -> Iterator[tuple[int, int, int, Yuv420]]:
    """(frame, x, y, pixels) to paste, in delivery pixels, frame by frame."""
    for segment in segments:
        mouth = layer_window(ctx, "lip_sync", segment)
        face = layer_window(ctx, "upscale", segment)
        if face is None:
            continue
        with ExitStack() as stack:
            clip = ctx.fetch("upscale", clip_name("big", segment.index))
            reader = stack.enter_context(VideoReader(clip, threads=ctx.threads))
            big_frames = reader.frames()
            if mouth is None:
                small: Iterator[tuple[int, Image | None]] = (
                    (index, None) for index in range(segment.start, segment.stop)
                )
            else:
                layers = (("face_swap", "roi"), ("lip_sync", "mouth"))
                small = segment_frames(ctx, segment, layers)
            at = face.scaled(scale)
            for (index, frame), big in zip(small, big_frames, strict=True):
                if mouth is not None and frame is not None:
                    _paste_mouth(big, frame, mouth, face, upscaler, scale)
                yield index, at.x, at.y, rgb_to_yuv420(big)


def _paste_mouth(
    big: Image,
    frame: Image,
    mouth: Window,
    face: Window,
    upscaler: Upscaler | None,
    scale: int,
) -> None:
    """Upscale what the mouth changed and put it into the upscaled face, in place."""
    pixels, reach = upscale_window(upscaler, frame, mouth)
    inside = Window(reach.x - face.x, reach.y - face.y, reach.w, reach.h).scaled(scale)
    big[inside.slice()] = pixels


def _sound(ctx: StageContext, place: VoicePlace | None, frames: int) -> Path | None:
    duration = float(frames / template_fps(ctx))
    if place is None:
        if "audio" not in ctx.manifest("ingest_template").outputs:
            return None
        return ctx.fetch("ingest_template", "audio")
    voice = read_audio(ctx.fetch("ingest_recipients/voice", "voice"))
    kept = round(place.duration * voice.rate)
    bed: Audio | None = None
    if "bed" in ctx.shard.template.sources:
        bed = read_audio(ctx.source("bed", of_template=True))
    mixed = mix_voice_over_bed(
        Audio(voice.samples[:kept], voice.rate), bed, at_s=place.start, duration_s=duration
    )
    path = ctx.scratch / "sound.wav"
    write_wav(path, mixed)
    return path
