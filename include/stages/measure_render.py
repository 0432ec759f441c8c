"""``measure_render``: a finished video, before it is signed, in figures.

Watches a bounded sample of the frames that the recipient changes, whatever the video's length.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from include.contracts.features import FeatureValue
from include.features.faces import FACE_FIGURES, count_faces, measure_face, no_face
from include.features.frames import FrameViews, shown_frames
from include.features.picture import measure_picture, median_of
from include.features.sound import measure_sound, read_own_sound
from include.media.audio import Audio, read_own_wav
from include.media.pixels import U8, Yuv420, yuv420_to_rgb
from include.stages.clips import CLIP_MARGIN
from include.stages.context import Output, StageContext
from include.stages.measure_common import feature_output
from include.stages.measure_inputs import recipient_photo
from include.stages.measure_reference import (
    F32,
    Reference,
    delivered_window,
    delivery_scale,
    in_blocks,
    reference_of,
)
from include.stages.timeline import template_fps, template_size
from include.stages.voice import voice_of
from models.face.landmarks import FaceMesh
from models.face.roi import Window
from models.face.topology import FACE_OVAL
from models.identity import Embedding, embed_points
from models.lip_sync.sync import measure
from models.quality.identity import median_distance
from models.quality.motion import doubled, flicker_ratio
from models.quality.mouth import follow
from models.quality.offset import delay
from models.quality.picture import outside_difference, sharpness_ratio

READINGS = 30
"""About how many frames the landmarks are read in."""
PHOTO_FACE_PX = 512
"""Height to which the face of a larger photo is brought before it is recognised."""


def run(ctx: StageContext, artifact: str) -> Output:
    """Measure the delivered video: picture, sound, face, and its quality as a render.

    Outputs and facts: see ``feature_output``. Verdict, times and cost stay null: they are known
    only once a run is collected.

    Raises:
        BadInput: ``rule.<name>``: a hard rule for renders is broken.
    """
    path = ctx.fetch("compose", "video")
    frames, wanted = shown_frames(path), int(ctx.facts("ingest_template")["frames"])
    with FrameViews(path, threads=ctx.threads) as reader:
        values = _container(ctx, reader, frames)
        values["dropped_frames"] = float(max(0, wanted - frames))
        if frames == wanted:  # else no frame is known to belong to one of the template
            reference = reference_of(ctx)
            seen = _watch(ctx, reader, reference)
            values |= _close(ctx, seen, reference)
            values |= _motion(seen, reference)
            values |= _mouth(ctx, seen, reference)
    sound = read_own_sound(path)
    values |= measure_sound(sound)
    values["av_offset"] = _av_offset(ctx, sound)
    ctx.progress(frames, frames)
    return feature_output(ctx, artifact, "compose", values, f"the video of {ctx.unit.id}")


def _container(ctx: StageContext, reader: FrameViews, frames: int) -> dict[str, FeatureValue]:
    width, height = reader.facts.size
    size = ctx.blob("compose", "video").size
    return {
        "codec": reader.facts.codec,
        "width": float(width),
        "height": float(height),
        "aspect_ratio": width / height,
        "fps": float(reader.facts.fps),
        "duration": float(frames / template_fps(ctx)),
        "bits_per_pixel": 8 * size / (width * height * max(frames, 1)),
    }


@dataclass
class _Seen:
    """What was kept of the watched frames."""

    blocks: list[F32] = field(default_factory=list)
    """By scene: float32 [n, rows, columns], the face's window."""
    looks: dict[int, Yuv420] = field(default_factory=dict)
    """Whole frames by number."""
    points: dict[int, NDArray[np.float32] | None] = field(default_factory=dict)
    """Landmarks by frame, in pixels of the template; None where no face was found."""


def _watch(ctx: StageContext, reader: FrameViews, reference: Reference) -> _Seen:
    seen = _Seen()
    step = -(-sum(scene.stop - scene.start for scene in reference.scenes) // READINGS)
    mesh = _mesh(ctx)
    for scene in reference.scenes:
        place = delivered_window(ctx, scene.gop.window)
        rows: list[F32] = []
        for index, planes in enumerate(reader.views(scene.start, scene.stop), scene.start):
            inside = planes.crop(place.x, place.y, place.w, place.h)
            rows.append(in_blocks(inside.y))
            if index == scene.look:
                seen.looks[index] = planes.copy()
            if index == scene.look or (index - scene.start) % step == 0:
                seen.points[index] = _read(mesh, inside, scene.gop.window)
        seen.blocks.append(np.stack(rows))
    return seen


def _mesh(ctx: StageContext) -> FaceMesh:
    """The process's landmark network, at the beginning of a clip."""

    def start() -> FaceMesh:
        return FaceMesh(max_faces=1, video=True)

    mesh = start() if ctx.common is None else ctx.common.keep("face mesh", start)
    mesh.restart()
    return mesh


def _read(mesh: FaceMesh, inside: Yuv420, window: Window) -> NDArray[np.float32] | None:
    """The landmarks in a face's window, which is read at the template's size."""
    picture = cv2.resize(
        yuv420_to_rgb(inside.copy()), (window.w, window.h), interpolation=cv2.INTER_AREA
    )
    faces = mesh.detect(np.asarray(picture, np.uint8))
    if not faces:
        return None
    return np.asarray(faces[0].points + np.array([window.x, window.y, 0], np.float32), np.float32)


def _close(ctx: StageContext, seen: _Seen, reference: Reference) -> dict[str, FeatureValue]:
    """Figures of the frames that are looked at closely."""
    pictures, faces, embeddings = [], [], []
    counts, outside, ratios = [0.0], [], []
    scale = delivery_scale(ctx)
    for scene in reference.scenes:
        planes, plate = seen.looks[scene.look], reference.plate[scene.look]
        rgb, points = yuv420_to_rgb(planes), seen.points[scene.look]
        free = delivered_window(ctx, scene.gop.window.dilate(CLIP_MARGIN, template_size(ctx)))
        outside.append(outside_difference(planes.y, plate, free.slice()))
        pictures.append(measure_picture(rgb))
        counts.append(count_faces(rgb, at_least=0 if points is None else 1))
        if points is None:
            continue
        marks = np.asarray(points * np.float32(scale), np.float32)
        faces.append(measure_face(rgb, marks))
        embeddings.append(embed_points(rgb, marks))
        ratios.append(_sharpness(planes.y, plate, marks))
    known = [ratio for ratio in ratios if ratio is not None]
    figures = median_of(faces) if faces else no_face()
    return {
        **median_of(pictures),
        **{name: figures[name] for name in FACE_FIGURES},
        "face_count": max(counts),
        "outside_difference": max(outside),
        "sharpness_ratio": float(np.median(known)) if known else None,
        "identity_recipient": median_distance(embeddings, [_recipient(ctx)]),
        "identity_actor": median_distance(embeddings, reference.actor),
    }


def _sharpness(shown: U8, plate: U8, marks: NDArray[np.float32]) -> float | None:
    """The ratio inside the face's box, so that little else is filtered."""
    low, high = marks[:, :2].min(0), marks[:, :2].max(0)
    x0, y0 = np.maximum(np.floor(low).astype(int), 0)
    x1, y1 = np.ceil(high).astype(int) + 1
    shown, plate = shown[y0:y1, x0:x1], plate[y0:y1, x0:x1]
    outline = np.asarray(marks[FACE_OVAL, :2] - (x0, y0), np.float32)
    return sharpness_ratio(shown, plate, outline) if shown.size else None


def _recipient(ctx: StageContext) -> Embedding:
    photo, points = recipient_photo(ctx)
    # As large as a delivered face at most: a large photo has details that no video has.
    factor = min(1.0, PHOTO_FACE_PX / float(np.ptp(points[:, 1])))
    if factor < 1:
        small = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        photo = np.asarray(small, np.uint8)
    return embed_points(photo, points * np.float32(factor))


def _motion(seen: _Seen, reference: Reference) -> dict[str, FeatureValue]:
    pairs = zip(seen.blocks, reference.blocks, strict=True)
    twice = sum(doubled(shown, own) for shown, own in pairs)
    steady = flicker_ratio(seen.blocks, reference.blocks)
    return {"flicker": steady, "doubled_frames": float(twice)}


def _mouth(ctx: StageContext, seen: _Seen, reference: Reference) -> dict[str, FeatureValue]:
    lips = ctx.facts("lip_sync")
    read = {index: points for index, points in seen.points.items() if points is not None}
    if not lips["spoken"] or not read:
        return {}
    gaps, _ = measure(np.stack(list(read.values())))
    fps = float(template_fps(ctx))
    times = (np.array(list(read)) / fps).astype(np.float32)
    fit = follow(times, gaps, np.array(lips["open"], np.float32), fps, reference.wide)
    if fit is None:
        return {}
    return {
        "mouth_error": fit.error,
        "mouth_correlation": fit.correlation,
        "mouth_lag": 1000 * fit.lag,
    }


def _av_offset(ctx: StageContext, sound: Audio | None) -> float | None:
    """Milliseconds by which the voice is heard too late."""
    place = voice_of(ctx)
    if place is None or sound is None:
        return None
    voice = read_own_wav(ctx.fetch("ingest_recipients/voice", "voice"))
    if voice.rate != sound.rate:
        return None
    kept = voice.samples[: round(place.duration * voice.rate)].mean(axis=1)
    late = delay(sound.samples.mean(axis=1), kept, voice.rate, place.start)
    return None if late is None else 1000 * late
