"""The physical floor: what one more recipient takes if there is nothing but pixels.

Decoding the plate's frames of the changed GOPs, one warp for every face frame, upscaling the ROI,
and encoding the changed GOPs once, each part on its own. Everything that a part reads lies in
memory before its clock starts, and models are loaded. ``upscale_changed`` is no part of the sum:
upscaling, instead of the whole ROI, only what the warp changes within a GOP, with the margin that
makes it exact.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from benchmarks.linear import planned_rows
from benchmarks.measure import Cost, Meter, write_json
from include.contracts.plan import CampaignPlan, ShardPlan, UnitPlan
from include.media.decode import VideoReader
from include.media.gops import GopWriter
from include.settings import Settings
from include.stages.analysis import colour_reference
from include.stages.clips import Image, changed_window, clip_name, template_frames
from include.stages.compose import delivered_frames
from include.stages.context import Events, StageContext
from include.stages.segments import load_points
from include.stages.specs import STAGES
from include.stages.timeline import Gop, gops_of, template_fps, template_size
from include.stages.upscaling import Reach, reach_of, upscale_crop, upscaler_for
from include.store import open_store
from include.store.cache import ArtifactCache
from models.face_swap import load_swapper
from models.upscale.base import Upscaler

PARTS = ("decode", "warp", "upscale", "encode")
CHANGED = "upscale_changed"


def measure_floor(
    shard: ShardPlan, unit: UnitPlan, settings: Settings, *, threads: int = 1
) -> dict[str, Cost]:
    """Measure each part for a recipient that was rendered.

    Args:
        shard: the plan that the unit is in.
        unit: the recipient; all its artifacts up to ``upscale`` and ``lip_sync`` exist.
        settings: where the store is.
        threads: of decoder and upscaler.
    """
    meter = Meter({name: Cost() for name in (*PARTS, CHANGED)})
    with tempfile.TemporaryDirectory(prefix="understudy-floor-") as folder:
        ctx = StageContext(
            spec=STAGES["compose"],
            shard=shard,
            unit=unit,
            cache=ArtifactCache(open_store(settings.store), shard.brief.tenant),
            scratch=Path(folder),
            settings=settings,
            events=Events("floor", io.StringIO()),
            run_id="floor",
            threads=threads,
        )
        for gop in gops_of(ctx):
            if gop.segment is not None:
                _decode(ctx, gop, meter)
                _warp(ctx, gop, meter)
                _upscale(ctx, gop, meter)
                _encode(ctx, gop, meter)
    return meter.steps


def _decode(ctx: StageContext, gop: Gop, meter: Meter) -> None:
    plate = ctx.fetch("upscale_plate", clip_name("plate", gop))
    with meter.step("decode"), VideoReader(plate, threads=ctx.threads) as reader:
        for _ in reader.yuv_frames():
            pass


def _warp(ctx: StageContext, gop: Gop, meter: Meter) -> None:
    if gop.segment is None:
        return
    bgr = cv2.imread(str(ctx.fetch("ingest_recipients/face", "photo")), cv2.IMREAD_COLOR)
    photo = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)
    with np.load(ctx.fetch("ingest_recipients/face", "points"), allow_pickle=False) as stored:
        swapper = load_swapper("mesh", photo, stored["points"])
    reference = colour_reference(ctx, gop.segment)
    swapper.texture(reference)
    points = load_points(ctx.fetch("track_face", "track"))
    for index, frame in enumerate(template_frames(ctx, gop.start, gop.stop), gop.start):
        part = np.ascontiguousarray(frame[gop.window.slice()])
        local = gop.window.to_local(points[index])
        with meter.step("warp"):
            swapper.swap(part, local, reference)


def _upscale(ctx: StageContext, gop: Gop, meter: Meter) -> None:
    upscaler = upscaler_for(ctx.unit.materials["compose"], ctx.threads)
    if upscaler is None:
        return
    _upscaled("upscale", ctx, gop, upscaler, Reach(gop.window, gop.window, gop.window), meter)
    changed = changed_window(ctx, "face_swap", gop)
    if changed is not None:
        reach = reach_of(upscaler, changed, template_size(ctx))
        _upscaled(CHANGED, ctx, gop, upscaler, reach, meter)


def _upscaled(
    part: str, ctx: StageContext, gop: Gop, upscaler: Upscaler, reach: Reach, meter: Meter
) -> None:
    for number, crop in enumerate(_crops(ctx, gop, reach.input.slice())):
        if number == 0:
            upscale_crop(upscaler, crop, reach)  # the first call of a shape prepares it
        with meter.step(part):
            upscale_crop(upscaler, crop, reach)


def _crops(ctx: StageContext, gop: Gop, part: tuple[slice, slice]) -> Iterator[Image]:
    for frame in template_frames(ctx, gop.start, gop.stop):
        yield np.ascontiguousarray(frame[part])


def _encode(ctx: StageContext, gop: Gop, meter: Meter) -> None:
    params = ctx.unit.materials["compose"].params
    frames = list(delivered_frames(ctx, gop))
    size = (frames[0].width, frames[0].height)
    path, crf = ctx.scratch / "floor.mp4", int(params["crf"])
    with meter.step("encode"), GopWriter(path, size, template_fps(ctx), crf=crf) as writer:
        for planes in frames:
            writer.write(planes)


def main(argv: list[str] | None = None) -> int:
    """Measure one recipient of a plan; writes JSON. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="understudy bench floor", description=__doc__)
    parser.add_argument("--plan", type=Path, required=True, help="a CampaignPlan as JSON")
    parser.add_argument("--unit", required=True, help="a recipient that was rendered")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args(argv)
    plan = CampaignPlan.model_validate_json(args.plan.read_bytes())
    settings = Settings.from_env().with_store(plan.store)
    shard, unit = next((s, row) for s, row in planned_rows(plan) if row.id == args.unit)
    found = measure_floor(shard, unit, settings, threads=args.threads)
    write_json(args.json, {name: asdict(cost) for name, cost in found.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
