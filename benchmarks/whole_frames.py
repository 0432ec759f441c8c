"""One recipient on whole frames: the pixels of the linear renderer, without windows or cache."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, tee
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Meter
from include.contracts.manifest import BlobRef
from include.contracts.plan import ShardPlan, UnitPlan
from include.media.decode import VideoReader
from include.media.pixels import Yuv420, rgb_to_yuv420
from include.settings import Settings
from include.stages import ingest_recipients, ingest_template
from include.stages.context import Events, Inputs, Output, StageContext
from include.stages.lip_sync import cut_curves, mouth_commands
from include.stages.segments import Points, Segment, find_segments, shot_ranges
from include.stages.specs import STAGES
from include.stages.timeline import template_size
from include.stages.track_face import clean, presenter_in, watch
from include.stages.upscaling import upscaler_for
from include.stages.voice import voice_of
from include.store import open_store
from include.store.cache import ArtifactCache
from models.face.landmarks import Face, FaceMesh
from models.face.occlusion import (
    CONTEXT,
    FaceStatistics,
    keep_occluders,
    occlusion_masks,
    sample_numbers,
)
from models.face.roi import Window, face_window
from models.face_swap import load_swapper
from models.face_swap.mesh import MeshSwapper
from models.face_swap.reference import ColourReference, sample_frames
from models.lip_sync.curves import MouthCurves
from models.lip_sync.viseme import (
    MouthModel,
    Reference,
    VisemeRenderer,
    analyse_mouth,
    mouth_window,
)
from models.upscale.base import Upscaler

Image = NDArray[np.uint8]


@dataclass
class HandOver(StageContext):
    """A stage's context without a store: what one step made, the next one finds here."""

    made: dict[str, Output] = field(default_factory=dict)

    def facts(self, artifact: str) -> dict[str, Any]:
        """Facts of an earlier step. KeyError when it did not run."""
        return dict(self.made[artifact].facts)

    def fetch(self, artifact: str, output: str) -> Path:
        """An earlier step's file, where it lies. KeyError when it was not made."""
        return self._file(artifact, output)[0]

    def blob(self, artifact: str, output: str) -> BlobRef:
        """Digest and size of an earlier step's file."""
        path, media_type = self._file(artifact, output)
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        size = path.stat().st_size
        return BlobRef(sha256=digest, size=size, media_type=media_type, filename=path.name)

    def _file(self, artifact: str, output: str) -> tuple[Path, str]:
        found = self.made[artifact].files[output]
        if isinstance(found, BlobRef):
            return self.cache.fetch(found, self.scratch / "in"), found.media_type
        return found


@dataclass(frozen=True)
class Take:
    """One run of frames with the face, and what renders them."""

    segment: Segment
    colours: ColourReference
    face: FaceStatistics
    """What the face looks like with nothing in front of it."""
    mouth: VisemeRenderer | None
    """None where the recipient does not speak, or the mouth is never inside the frame."""


@dataclass(frozen=True)
class Prepared:
    """All that has to be known before the first frame can be rendered."""

    points: Points
    swapper: MeshSwapper
    takes: tuple[Take, ...]
    curves: MouthCurves | None
    upscaler: Upscaler | None


def open_context(
    shard: ShardPlan,
    unit: UnitPlan,
    settings: Settings,
    folder: Path,
    *,
    threads: int = 1,
    common: Inputs | None = None,
) -> HandOver:
    """A context that reads the plan's source files and keeps everything else in a folder.

    What the process has started already, such as the nudity detector, is in ``common``.
    """
    return HandOver(
        spec=STAGES["compose"],
        shard=shard,
        unit=unit,
        cache=ArtifactCache(open_store(settings.store), shard.brief.tenant),
        scratch=folder,
        settings=settings,
        events=Events("linear", io.StringIO()),
        run_id="linear",
        threads=threads,
        common=common,
    )


def linear_frames(
    shard: ShardPlan, unit: UnitPlan, settings: Settings, *, threads: int = 1
) -> Iterator[Yuv420]:
    """Render a recipient from its source files, up to what would go to the encoder.

    Args:
        shard: the plan that the unit is in; its store holds the sources.
        unit: the recipient.
        settings: where the store is.
        threads: of decoder and upscaler.

    Yields:
        Every frame at delivery size, without the mark of a preview.
    """
    with tempfile.TemporaryDirectory(prefix="understudy-linear-") as folder:
        ctx = open_context(shard, unit, settings, Path(folder), threads=threads)
        meter = Meter()
        ready = prepare(ctx, meter)
        yield from upscaled(swapped_frames(ctx, ready, meter), ready.upscaler, meter)


def prepare(ctx: HandOver, meter: Meter) -> Prepared:
    """Everything before the frames: template, track, photo, voice, looks ahead.

    Raises:
        UnderstudyError: the template, the photo or the voice cannot be used.
    """
    with meter.step("ingest template"):
        ctx.made["ingest_template"] = ingest_template.run(ctx, "ingest_template")
    with meter.step("track face"):
        points, segments = _track(ctx)
    for name in ("ingest_recipients/face", "ingest_recipients/voice"):
        with meter.step("ingest recipient"):
            ctx.made[name] = ingest_recipients.run(ctx, name)
    with meter.step("look ahead"):
        place = voice_of(ctx)
        curves = mouth_commands(ctx, place) if place else None
        swapper = _swapper(ctx)
        takes = tuple(_take(ctx, segment, points, swapper, curves) for segment in segments)
    material = ctx.unit.materials["compose"]
    return Prepared(points, swapper, takes, curves, upscaler_for(material, ctx.threads))


def _reader(ctx: HandOver) -> VideoReader:
    return VideoReader(ctx.fetch("ingest_template", "video"), threads=ctx.threads)


def _track(ctx: HandOver) -> tuple[Points, list[Segment]]:
    facts = ctx.facts("ingest_template")
    shots, size = facts["shots"], template_size(ctx)
    found: list[list[Face]] = []
    with _reader(ctx) as reader:
        for start, stop in shot_ranges(shots, reader.facts.frames):
            with FaceMesh(video=True) as mesh:
                found += watch(mesh.detect, reader.frames(start, stop))
    points = presenter_in(ctx, found)
    clean(points, shots)
    windows = []
    for start, stop in shot_ranges(shots, len(points)):
        seen = [p for p in points[start:stop] if not np.isnan(p[0, 0])]
        windows.append(face_window(seen, size) if seen else None)
    return points, find_segments(points, shots, size, windows)


def _swapper(ctx: HandOver) -> MeshSwapper:
    bgr = cv2.imread(str(ctx.fetch("ingest_recipients/face", "photo")), cv2.IMREAD_COLOR)
    photo = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    backend = ctx.unit.materials["face_swap"].backend
    with np.load(ctx.fetch("ingest_recipients/face", "points"), allow_pickle=False) as stored:
        return load_swapper(backend.name if backend else "mesh", photo, stored["points"])


def _take(
    ctx: HandOver,
    segment: Segment,
    points: Points,
    swapper: MeshSwapper,
    curves: MouthCurves | None,
) -> Take:
    """Learn a segment's colours and its unobstructed face, then its mouth on a swapped frame."""
    start, own = segment.start, points[segment.start : segment.stop]
    picks = [start + i for i in sample_frames(list(own))]
    looks = [start + i for i in sample_numbers(list(own))]
    model = analyse_mouth(own)
    pick = start + model.reference_index
    frames = _frames(ctx, {pick, *picks, *looks})
    colours = ColourReference.measure([(frames[i], points[i]) for i in picks])
    face = FaceStatistics.learn([_around(frames[i], points[i], segment.window) for i in looks])
    mouth = None
    if curves is not None and _mouth_shows(ctx, model, segment, curves):
        near = range(max(start, pick - CONTEXT), min(segment.stop, pick + CONTEXT + 1))
        shown = _frames(ctx, set(near))
        masks = occlusion_masks((_around(shown[i], points[i], segment.window) for i in near), face)
        mask = list(masks)[near.index(pick)]
        typical, _ = swapper.swap(frames[pick], points[pick], colours)
        _uncover(frames[pick], typical, mask, segment.window)
        mouth = VisemeRenderer(model, Reference(typical, points[pick]))
    return Take(segment, colours, face, mouth)


def _mouth_shows(ctx: HandOver, model: MouthModel, segment: Segment, curves: MouthCurves) -> bool:
    spoken = cut_curves(curves, segment.start, segment.stop)
    return mouth_window(model, spoken, template_size(ctx)) is not None


def _frames(ctx: HandOver, wanted: set[int]) -> dict[int, Image]:
    """Some frames, a few dozen at most, in one pass."""
    first, last = min(wanted), max(wanted)
    with _reader(ctx) as reader:
        frames = enumerate(reader.frames(first, last + 1), first)
        return {index: frame for index, frame in frames if index in wanted}


def _around(frame: Image, points: Points, window: Window) -> tuple[Image, Points]:
    """The face's surroundings, which is all that is looked at for what is in front of it."""
    return np.ascontiguousarray(frame[window.slice()]), window.to_local(points)


def _uncover(before: Image, after: Image, mask: Image, window: Window) -> None:
    """Put back what is in front of the face, in place."""
    if mask.any():
        part = window.slice()
        after[part] = keep_occluders(before[part], after[part], mask)


def swapped_frames(ctx: HandOver, ready: Prepared, meter: Meter) -> Iterator[Image]:
    """Every frame of the template with the recipient's face and mouth, uint8 RGB, its own size."""
    with _reader(ctx) as reader:
        frames = _timed(reader.frames(), "decode", meter)
        done = 0
        for take in ready.takes:
            yield from islice(frames, take.segment.start - done)
            yield from _taken(islice(frames, take.segment.frames), take, ready, meter)
            done = take.segment.stop
        yield from frames


def _taken(frames: Iterator[Image], take: Take, ready: Prepared, meter: Meter) -> Iterator[Image]:
    """Render a segment. The masks look a few frames ahead: the tee holds no more than those."""
    start, window = take.segment.start, take.segment.window
    ahead, frames = tee(frames)
    seen = (_around(frame, ready.points[start + i], window) for i, frame in enumerate(ahead))
    masks = _timed(occlusion_masks(seen, take.face), "occlusion", meter)
    for number, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        index = start + number
        with meter.step("swap"):
            swapped, _ = ready.swapper.swap(frame, ready.points[index], take.colours)
            _uncover(frame, swapped, mask, window)
        if take.mouth is not None and ready.curves is not None:
            command = float(ready.curves.open[index]), float(ready.curves.width[index])
            with meter.step("mouth"):
                spoken, _ = take.mouth.render(swapped, number, *command)
                _uncover(swapped, spoken, mask, window)
            swapped = spoken
        yield swapped


def upscaled(frames: Iterable[Image], upscaler: Upscaler | None, meter: Meter) -> Iterator[Yuv420]:
    """Enlarge whole RGB frames and convert them for the encoder; None keeps their size.

    A frame that repeats the last one, as title cards do, costs a copy: the caller may draw on it.
    """
    last, made = None, None
    for frame in frames:
        if made is None or last is None or not np.array_equal(frame, last):
            with meter.step("upscale"):
                big = frame if upscaler is None else upscaler.upscale(frame)
            with meter.step("to yuv420p"):
                made = rgb_to_yuv420(big)
        last = frame
        yield made.copy()


def _timed(frames: Iterator[Image], name: str, meter: Meter) -> Iterator[Image]:
    while True:
        with meter.step(name):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame
