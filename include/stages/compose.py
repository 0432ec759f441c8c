"""``compose``: face and mouth onto the plate, voice over the bed, one video file.

Only the GOPs that the recipient changes are encoded; the others are copied from the plate as they
were encoded for delivery.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from include.media.audio import (
    Audio,
    cut_wav,
    mix_voice_over_bed,
    read_own_wav,
    write_wav,
)
from include.media.captions import webvtt
from include.media.decode import VideoReader
from include.media.gops import GopRange, GopWriter, join_gops
from include.media.images import save_jpeg
from include.media.pixels import Yuv420, paste_yuv, rgb_to_yuv420, yuv420_to_rgb
from include.media.preview import PreviewMark
from include.stages.bed import read_bed
from include.stages.chunked import Part
from include.stages.clips import (
    SPOKEN,
    changed_window,
    clip_facts,
    clip_name,
    recipient_frames,
)
from include.stages.context import Output, StageContext
from include.stages.encode_plate import encoded_gop
from include.stages.segments import read_segments
from include.stages.timeline import Gop, gops_in, gops_of, spans_of, template_fps, template_size
from include.stages.upscaling import reach_of, upscale_crops, upscaler_for
from include.stages.voice import VoicePlace, voice_of
from models.face.roi import Window

spans = spans_of

Patch = tuple[int, int, Yuv420]
"""x, y and pixels to paste, in delivery pixels."""


def run_chunk(ctx: StageContext, artifact: str) -> Output:
    """Paste and encode the changed GOPs, several at a time where there are threads.

    Outputs: ``gop-NNNNN`` (MP4 of one closed GOP), ``thumbnail`` (JPEG) in the chunk that shows
    its frame.
    """
    gops = gops_in(ctx)
    total, done = sum(gop.frames for gop in gops), 0
    shown = _thumbnail_frame(ctx)
    files: dict[str, tuple[Path, str]] = {}
    with ThreadPoolExecutor(ctx.threads) as pool:
        for gop, path in zip(
            gops, pool.map(lambda gop: _encode(ctx, gop, shown), gops), strict=True
        ):
            files[path.stem] = (path, "video/mp4")
            done += gop.frames
            ctx.progress(done, total)
    thumbnail = ctx.scratch / "thumbnail.jpg"
    if thumbnail.exists():
        files["thumbnail"] = (thumbnail, "image/jpeg")
    return Output(files)


def join(ctx: StageContext, artifact: str, parts: list[Part]) -> Output:
    """Join all GOPs, add sound and captions.

    Outputs: ``video`` (MP4, H.264 and AAC, unsigned), ``thumbnail`` (JPEG), ``captions``
    (WebVTT; no cues without a script). Facts: size, frames, segments, when the voice sounds,
    how many frames were encoded for this recipient.

    Raises:
        BadInput: the voice does not fit (``voice.too_long``), or the bed cannot be used.
    """
    place = voice_of(ctx)
    gops, fps = gops_of(ctx), template_fps(ctx)
    frames = gops[-1].stop
    sound = sound_of(ctx, place, frames)
    video = ctx.scratch / "video.mp4"
    join_gops(_all_gops(ctx, gops, parts), fps, video, audio_wav=sound)
    captions = ctx.scratch / "captions.vtt"
    script = (ctx.unit.script or "") if place else ""
    times = (place.start, place.stop) if place else (0.0, 0.0)
    captions.write_text(webvtt(script, *times, locale=ctx.unit.locale), encoding="utf-8")
    thumbnail = next(part for part in parts if "thumbnail" in part.files)
    scale = int(ctx.unit.materials[artifact].params["scale"])
    width, height = template_size(ctx)
    return Output(
        {
            "video": (video, "video/mp4"),
            "thumbnail": thumbnail.files["thumbnail"],
            "captions": (captions, "text/vtt"),
        },
        {
            "width": width * scale,
            "height": height * scale,
            "frames": frames,
            "frames_encoded": sum(gop.frames for gop in gops if gop.segment),
            "seconds": round(float(frames / fps), 3),
            "segments": ctx.facts("track_face")["segments"],
            "voice": [round(place.start, 3), round(place.stop, 3)] if place else None,
            "voice_trimmed": bool(place and place.trimmed),
        },
    )


def _all_gops(
    ctx: StageContext, gops: Iterable[Gop], parts: list[Part]
) -> Iterator[Path | GopRange]:
    made = {name: part for part in parts for name in part.files}
    for gop in gops:
        if gop.segment is None:
            yield encoded_gop(ctx, gop)
        else:
            yield made[clip_name("gop", gop)].fetch(ctx, clip_name("gop", gop))


def _encode(ctx: StageContext, gop: Gop, shown: int) -> Path:
    params = ctx.unit.materials["compose"].params
    path = ctx.scratch / f"{clip_name('gop', gop)}.mp4"
    width, height = template_size(ctx)
    scale = int(params["scale"])
    size = (width * scale, height * scale)
    with GopWriter(path, size, template_fps(ctx), crf=int(params["crf"])) as writer:
        for index, planes in enumerate(delivered_frames(ctx, gop), gop.start):
            if index == shown:
                save_jpeg(yuv420_to_rgb(planes), ctx.scratch / "thumbnail.jpg", 88)
            writer.write(planes)
    return path


def delivered_frames(ctx: StageContext, gop: Gop) -> Iterator[Yuv420]:
    """The frames of a changed GOP as they go to the encoder: plate, face, mouth, preview mark."""
    with ExitStack() as stack:
        plate = ctx.fetch("upscale_plate", clip_name("plate", gop))
        reader = stack.enter_context(VideoReader(plate))
        mark = None
        if ctx.unit.materials["compose"].params["tier"] == "preview":
            mark = PreviewMark(reader.facts.size)
        layers = [_face_patches(ctx, gop), _mouth_patches(ctx, gop)]
        for planes in reader.yuv_frames():
            for patches in layers:
                patch = next(patches, None)
                if patch is not None:
                    x, y, pixels = patch
                    paste_yuv(planes, pixels, x, y)
            if mark is not None:
                mark.draw(planes)
            yield planes


def _face_patches(ctx: StageContext, gop: Gop) -> Iterator[Patch]:
    """What ``upscale`` made, frame by frame; nothing where the swap changed nothing."""
    fact = clip_facts(ctx, "upscale", gop)
    if fact is None:
        return
    at = Window(*fact["clip"]).scaled(int(ctx.facts("upscale")["scale"]))
    with VideoReader(ctx.fetch("upscale", clip_name("big", gop))) as reader:
        for planes in reader.yuv_frames():
            yield at.x, at.y, planes


def mouth_region(ctx: StageContext, gop: Gop) -> Window | None:
    """What the mouth changed, and what ``upscale`` left of the face; None when nobody speaks."""
    region = changed_window(ctx, "lip_sync", gop)
    for left in ctx.facts("upscale")["left"]:
        if left["gop"] == gop.index:
            rest = Window(*left["window"])
            region = rest if region is None else rest.union(region)
    return region


def _mouth_patches(ctx: StageContext, gop: Gop) -> Iterator[Patch]:
    """The mouth's region, upscaled here."""
    changed = mouth_region(ctx, gop)
    if changed is None:
        return
    material = ctx.unit.materials["compose"]
    upscaler = upscaler_for(material, 1, beside=ctx.threads)
    reach = reach_of(upscaler, changed, template_size(ctx))
    at = reach.output.scaled(int(material.params["scale"]))
    crops = recipient_frames(ctx, gop, reach.input, SPOKEN)
    for pixels in upscale_crops(upscaler, crops, reach):
        yield at.x, at.y, rgb_to_yuv420(pixels)


def _thumbnail_frame(ctx: StageContext) -> int:
    """A third into the longest segment: the face is there and has settled."""
    segments = read_segments(ctx.facts("track_face"))
    longest = max(segments, key=lambda segment: segment.frames)
    return longest.start + longest.frames // 3


def sound_of(ctx: StageContext, place: VoicePlace | None, frames: int) -> Path | None:
    """What is heard, as a WAV: the voice over the bed, else the template's own sound.

    Args:
        ctx: the unit.
        place: when the voice sounds; None when there is none.
        frames: length of the video.

    Returns:
        The file, or None for a silent video.
    """
    duration = float(frames / template_fps(ctx))
    if place is None:
        if "audio" not in ctx.manifest("ingest_template").outputs:
            return None
        own = ctx.fetch("ingest_template", "audio")
        return cut_wav(own, ctx.scratch / "sound.wav", duration)
    voice = read_own_wav(ctx.fetch("ingest_recipients/voice", "voice"))
    heard = Audio(voice.samples[: round(place.duration * voice.rate)], voice.rate)
    mixed = mix_voice_over_bed(heard, read_bed(ctx), at_s=place.start, duration_s=duration)
    path = ctx.scratch / "sound.wav"
    write_wav(path, mixed)
    return path
