"""The row's four steps on whole frames, each a process: a pipeline of files between tools.

Every step reads and writes clips of whole frames without loss. Lip sync and upscaling both start
from the swapped frames, so that they can run at the same time; the mouth is upscaled again when it
is there and pasted onto the upscaled frame, as ``compose`` does it inside its window. What depends
on the template alone comes from the store, where its stages have put it.

Some imports are inside the steps: a process pays for those that its step needs, as stages do.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Cost, Meter, write_json
from include.contracts.plan import ShardPlan, ShardRef
from include.media.decode import VideoReader
from include.media.encode import DeliveryWriter
from include.media.lossless import LosslessRgbWriter, LosslessYuvWriter
from include.media.pixels import Yuv420, paste_yuv, rgb_to_yuv420
from include.settings import Settings
from include.stages.analysis import colour_reference, mouth_frame, occlusions
from include.stages.context import Events, StageContext
from include.stages.segments import Segment, load_points, read_segments
from include.stages.specs import STAGES
from include.stages.timeline import template_fps, template_size
from include.store import open_store
from include.store.cache import ArtifactCache
from models.face.occlusion import keep_occluders
from models.face.roi import Window

if TYPE_CHECKING:
    from models.lip_sync.viseme import VisemeRenderer

Image = NDArray[np.uint8]

SWAPPED, SPOKEN, BIG, MOUTHS = "swapped.avi", "spoken.avi", "big.avi", "mouths.json"
VIDEO = "video.mp4"
"""What the last step leaves in the folder."""


def open_row(shard: ShardPlan, store: str, settings: Settings, scratch: Path) -> StageContext:
    """The first row of a shard whose template and sources have been taken in."""
    return StageContext(
        spec=STAGES["compose"],
        shard=shard,
        unit=shard.rows[0],
        cache=ArtifactCache(open_store(store), shard.brief.tenant),
        scratch=scratch,
        settings=settings.with_store(store),
        events=Events("full_frames", io.StringIO()),
        run_id="full_frames",
        threads=settings.threads,
    )


def face_swap(ctx: StageContext, folder: Path) -> None:
    """Write every frame of the template with the recipient's face: RGB, the template's size."""
    from models.face_swap import load_swapper

    backend = ctx.unit.materials["face_swap"].backend
    bgr = cv2.imread(str(ctx.fetch("ingest_recipients/face", "photo")), cv2.IMREAD_COLOR)
    with np.load(ctx.fetch("ingest_recipients/face", "points"), allow_pickle=False) as stored:
        photo = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
        swapper = load_swapper(backend.name if backend else "mesh", photo, stored["points"])
    points = load_points(ctx.fetch("track_face", "track"))
    with (
        VideoReader(ctx.fetch("ingest_template", "video")) as reader,
        _writer(ctx, folder / SWAPPED) as writer,
    ):
        for index, frame, segment, mask in _seen(ctx, reader.frames()):
            out = frame
            if segment is not None:
                out, _ = swapper.swap(frame, points[index], colour_reference(ctx, segment))
                _uncover(frame, out, mask, segment.window)
            writer.write(out)


def lip_sync(ctx: StageContext, folder: Path) -> None:
    """Write every frame with the mouth that the voice asks for, and where the mouths changed it.

    Raises:
        SystemExit: the row has no voice.
    """
    from include.stages.clips import Changed, as_list
    from include.stages.lip_sync import mouth_commands
    from include.stages.voice import voice_of

    place = voice_of(ctx)
    if place is None:
        raise SystemExit(f"{ctx.unit.id} has no voice: there is no lip sync to measure")
    curves, size = mouth_commands(ctx, place), template_size(ctx)
    mouths = _Mouths(ctx, folder / SWAPPED)
    changed: dict[int, Changed] = {}
    with VideoReader(folder / SWAPPED) as reader, _writer(ctx, folder / SPOKEN) as writer:
        for index, frame, segment, mask in _seen(ctx, reader.frames()):
            out = frame
            if segment is not None:
                number = index - segment.start
                command = float(curves.open[index]), float(curves.width[index])
                out, _ = mouths.of(segment).render(frame, number, *command)
                _uncover(frame, out, mask, segment.window)
                part = segment.window.slice()
                changed.setdefault(segment.index, Changed()).add(frame[part], out[part])
            writer.write(out)
    windows = {s.index: s.window for s in read_segments(ctx.facts("track_face"))}
    found = {index: boxes.window(windows[index], size) for index, boxes in changed.items()}
    write_json(folder / MOUTHS, {str(i): as_list(w) for i, w in found.items() if w is not None})


def upscale(ctx: StageContext, folder: Path) -> None:
    """Write every swapped frame at delivery size: yuv420p."""
    from benchmarks.whole_frames import upscaled
    from include.stages.upscaling import upscaler_for

    upscaler = upscaler_for(ctx.unit.materials["upscale"], ctx.threads)
    with (
        VideoReader(folder / SWAPPED) as reader,
        LosslessYuvWriter(folder / BIG, _delivery_size(ctx), template_fps(ctx)) as writer,
    ):
        for planes in upscaled(reader.frames(), upscaler, Meter()):
            writer.write(planes)


def compose(ctx: StageContext, folder: Path) -> None:
    """Paste the mouths, encode every frame, add the sound."""
    from include.media.mux import mux_mp4
    from include.stages.compose import sound_of
    from include.stages.voice import voice_of

    crf = int(ctx.unit.materials["compose"].params["crf"])
    silent, count = ctx.scratch / "silent.mp4", 0
    with DeliveryWriter(silent, _delivery_size(ctx), template_fps(ctx), crf=crf) as writer:
        for planes in delivered(ctx, folder):
            writer.write(planes)
            count += 1
    mux_mp4(silent, sound_of(ctx, voice_of(ctx), count), folder / VIDEO)


def delivered(ctx: StageContext, folder: Path) -> Iterator[Yuv420]:
    """Every frame as it goes to the encoder: the upscaled one with the upscaled mouth on it."""
    from include.stages.upscaling import reach_of, upscale_crop, upscaler_for

    material = ctx.unit.materials["compose"]
    upscaler, scale = upscaler_for(material, ctx.threads), int(material.params["scale"])
    found = json.loads((folder / MOUTHS).read_text())
    size = template_size(ctx)
    reaches = {int(i): reach_of(upscaler, Window(*window), size) for i, window in found.items()}
    with VideoReader(folder / BIG) as big, VideoReader(folder / SPOKEN) as spoken:
        for planes, (_, frame, segment) in zip(
            big.yuv_frames(), _segments(ctx, spoken.frames()), strict=True
        ):
            reach = reaches.get(segment.index) if segment else None
            if reach is not None:
                crop = np.ascontiguousarray(frame[reach.input.slice()])
                at = reach.output.scaled(scale)
                pixels = rgb_to_yuv420(upscale_crop(upscaler, crop, reach))
                paste_yuv(planes, pixels, at.x, at.y)
            yield planes


STEPS: dict[str, Callable[[StageContext, Path], None]] = {
    "face_swap": face_swap,
    "lip_sync": lip_sync,
    "upscale": upscale,
    "compose": compose,
}
"""By the name of the stage that does it in windows."""


class _Mouths:
    """The mouth's renderer of a segment, made when its first frame comes."""

    def __init__(self, ctx: StageContext, swapped: Path) -> None:
        self._ctx, self._swapped = ctx, swapped
        self._points = load_points(ctx.fetch("track_face", "track"))
        self._index = -1

    def of(self, segment: Segment) -> VisemeRenderer:
        """The segment's renderer; only the last one asked for is kept."""
        from models.lip_sync.viseme import Reference, VisemeRenderer, analyse_mouth

        if segment.index != self._index:
            pick = mouth_frame(self._ctx, segment)
            with VideoReader(self._swapped) as reader:
                typical = next(reader.frames(pick, pick + 1))
            model = analyse_mouth(self._points[segment.start : segment.stop])
            self._renderer = VisemeRenderer(model, Reference(typical, self._points[pick]))
            self._index = segment.index
        return self._renderer


def _segments(
    ctx: StageContext, frames: Iterator[Image]
) -> Iterator[tuple[int, Image, Segment | None]]:
    """Every frame with its number and the segment that it lies in."""
    inside = {
        index: segment
        for segment in read_segments(ctx.facts("track_face"))
        for index in range(segment.start, segment.stop)
    }
    for index, frame in enumerate(frames):
        yield index, frame, inside.get(index)


def _seen(
    ctx: StageContext, frames: Iterator[Image]
) -> Iterator[tuple[int, Image, Segment | None, Image | None]]:
    """As ``_segments``, with the mask of what is in front of the face."""
    masks: Iterator[Image | None] = iter(())
    for index, frame, segment in _segments(ctx, frames):
        if segment is None:
            yield index, frame, None, None
            continue
        if index == segment.start:
            masks = occlusions(ctx, segment, segment.start, segment.stop)
        yield index, frame, segment, next(masks)


def _uncover(before: Image, after: Image, mask: Image | None, window: Window) -> None:
    """Put back what is in front of the face, in place."""
    if mask is not None:
        part = window.slice()
        after[part] = keep_occluders(before[part], after[part], mask)


def _writer(ctx: StageContext, path: Path) -> LosslessRgbWriter:
    return LosslessRgbWriter(path, template_size(ctx), template_fps(ctx))


def _delivery_size(ctx: StageContext) -> tuple[int, int]:
    scale = int(ctx.unit.materials["compose"].params["scale"])
    width, height = template_size(ctx)
    return width * scale, height * scale


def main(argv: list[str] | None = None) -> int:
    """Run one step for the first row of a shard; what it cost goes into the folder."""
    parser = argparse.ArgumentParser(prog="understudy bench full_frames", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--shard", required=True, help="a ShardRef as JSON")
    parser.add_argument("--folder", required=True, type=Path, help="of the steps' clips")
    args = parser.parse_args(argv)
    start = Cost.now()
    ref = ShardRef.model_validate_json(args.shard)
    shard = ShardPlan.model_validate_json(open_store(ref.store).get(ref.plan))
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="understudy-full-frames-") as scratch:
        ctx = open_row(shard, ref.store, Settings.from_env(), Path(scratch))
        STEPS[args.step](ctx, args.folder)
    write_json(args.folder / f"{args.step}.json", asdict(Cost.now() - start))
    return 0


if __name__ == "__main__":
    sys.exit(main())
