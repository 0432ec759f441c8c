"""``bench linear``: the baseline. One recipient after the other, every step on whole frames.

What a pipeline without compiled templates does: for each recipient it takes in the template,
follows the face, swaps and speaks on whole frames, upscales and encodes all of them, checks and
signs the result. The same models, encoder, mix, checks and signer as the stages use, but in one
process and without windows, cache or store between the steps; nothing is done twice that a sane
implementation would do once: frames stream from decoder to encoder, models are loaded once per
process. Every speed claim is measured against it, and the frames that it hands to the encoder are
what delta rendering has to reproduce.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import Cost, Meter, print_table, restart_with_threads, write_json
from benchmarks.whole_frames import (
    HandOver,
    Prepared,
    linear_frames,
    open_context,
    prepare,
    swapped_frames,
    upscaled,
)
from include.contracts.plan import CampaignPlan, ShardPlan, UnitPlan
from include.gate import check_consents
from include.media.audio import Audio, mix_voice_over_bed, read_audio, write_wav
from include.media.captions import webvtt
from include.media.encode import DeliveryWriter
from include.media.images import save_jpeg
from include.media.mux import mux_mp4
from include.media.pixels import yuv420_to_rgb
from include.media.preview import PreviewMark
from include.planning import plan_campaign
from include.provenance.pki import signing_identity
from include.provenance.sign import sign_video
from include.samples.ready import SAMPLES, make_ready
from include.settings import PROJECT, Settings
from include.stages import safety, sign
from include.stages.context import Inputs, Output
from include.stages.timeline import template_fps
from include.stages.voice import voice_of
from include.store import open_store
from models.safety.finding import combine, unavailable
from models.safety.flash import FlashCounter, check_badness
from models.safety.policy import DEFAULT_POLICY
from models.safety.script import check_script

__all__ = ["Rendered", "linear_frames", "planned_rows", "render"]

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Rendered:
    """One recipient's video and what it took."""

    unit: str
    verdict: str
    video: Path
    """Signed when the verdict is ``pass``."""
    frames: int
    cost: Cost
    steps: dict[str, Cost]


def render(
    shard: ShardPlan,
    unit: UnitPlan,
    settings: Settings,
    out: Path,
    *,
    threads: int = 1,
    common: Inputs | None = None,
) -> Rendered:
    """Render one recipient from its source files to a signed video in ``out``.

    Args:
        shard: the plan that the unit is in; its store holds the sources.
        unit: the recipient.
        settings: where the store is, and the nudity detector.
        out: folder for video, thumbnail and captions.
        threads: of decoder and upscaler.
        common: what serves all recipients of the process; without it the detector is started anew.

    Raises:
        UnderstudyError: a source cannot be used, consent does not hold, or signing fails.
    """
    start, meter = Cost.now(), Meter()
    with tempfile.TemporaryDirectory(prefix="understudy-linear-") as folder:
        ctx = open_context(shard, unit, settings, Path(folder), threads=threads, common=common)
        ready = prepare(ctx, meter)
        counter = FlashCounter()
        frames = _counted(swapped_frames(ctx, ready, meter), counter, template_fps(ctx), meter)
        _compose(ctx, ready, frames, meter)
        with meter.step("safety"):
            ctx.made["classify"] = _classify(ctx, counter)
        verdict = str(ctx.facts("classify")["verdict"])
        video = ctx.fetch("compose", "video")
        if verdict == "pass":
            with meter.step("sign"):
                video = _sign(ctx, video)
        out.mkdir(parents=True, exist_ok=True)
        for name in ("thumbnail", "captions"):
            shutil.copy2(ctx.fetch("compose", name), out)
        kept = Path(shutil.copy2(video, out / "video.mp4"))
    count = int(ctx.facts("ingest_template")["frames"])
    return Rendered(unit.id, verdict, kept, count, Cost.now() - start, meter.steps)


def _counted(
    frames: Iterable[Image], counter: FlashCounter, fps: Fraction, meter: Meter
) -> Iterator[Image]:
    for index, frame in enumerate(frames):
        with meter.step("count flashes"):
            counter.add(float(index / fps), frame)
        yield frame


def _compose(ctx: HandOver, ready: Prepared, frames: Iterable[Image], meter: Meter) -> None:
    """Encode all frames in one run of the encoder, mix the sound, join both."""
    silent, thumbnail = ctx.scratch / "silent.mp4", ctx.scratch / "thumbnail.jpg"
    _encode(ctx, ready, frames, (silent, thumbnail), meter)
    with meter.step("sound and container"):
        video, captions = ctx.scratch / "video.mp4", ctx.scratch / "captions.vtt"
        mux_mp4(silent, _sound(ctx), video)
        place = voice_of(ctx)
        script = (ctx.unit.script or "") if place else ""
        span = (place.start, place.stop) if place else (0.0, 0.0)
        captions.write_text(webvtt(script, *span, locale=ctx.unit.locale), encoding="utf-8")
    ctx.made["compose"] = Output(
        {
            "video": (video, "video/mp4"),
            "thumbnail": (thumbnail, "image/jpeg"),
            "captions": (captions, "text/vtt"),
        }
    )


def _encode(
    ctx: HandOver,
    ready: Prepared,
    frames: Iterable[Image],
    paths: tuple[Path, Path],
    meter: Meter,
) -> None:
    facts, material = ctx.facts("ingest_template"), ctx.unit.materials["compose"]
    scale, crf = int(material.params["scale"]), int(material.params["crf"])
    size = (facts["width"] * scale, facts["height"] * scale)
    mark = PreviewMark(size) if material.params["tier"] == "preview" else None
    longest = max((take.segment for take in ready.takes), key=lambda segment: segment.frames)
    shown = longest.start + longest.frames // 3
    writer = DeliveryWriter(paths[0], size, template_fps(ctx), crf=crf, threads=1)
    with meter.step("encode"):
        writer.__enter__()
    try:
        for index, planes in enumerate(upscaled(frames, ready.upscaler, meter)):
            with meter.step("encode"):
                if mark is not None:
                    mark.draw(planes)
                if index == shown:
                    save_jpeg(yuv420_to_rgb(planes), paths[1], 88)
                writer.write(planes)
    except BaseException:
        writer.__exit__(*sys.exc_info())
        raise
    with meter.step("encode"):
        writer.__exit__(None, None, None)


def _sound(ctx: HandOver) -> Path | None:
    place = voice_of(ctx)
    if place is None:
        silent = "audio" not in ctx.made["ingest_template"].files
        return None if silent else ctx.fetch("ingest_template", "audio")
    voice = read_audio(ctx.fetch("ingest_recipients/voice", "voice"))
    heard = Audio(voice.samples[: round(place.duration * voice.rate)], voice.rate)
    bed = None
    if "bed" in ctx.shard.template.sources:
        bed = read_audio(ctx.source("bed", of_template=True))
    duration = float(ctx.facts("ingest_template")["frames"] / template_fps(ctx))
    path = ctx.scratch / "sound.wav"
    write_wav(path, mix_voice_over_bed(heard, bed, at_s=place.start, duration_s=duration))
    return path


def _classify(ctx: HandOver, counter: FlashCounter) -> Output:
    """The checks of ``classify_template`` and ``classify``, on the whole finished video."""
    check_consents(ctx)
    facts, fps = ctx.facts("ingest_template"), float(template_fps(ctx))
    video, total = ctx.fetch("compose", "video"), int(facts["frames"])
    indices = safety.sample_indices(total, fps, facts["shots"], [(0, total)])
    looked = safety.look_through(ctx, video, indices)
    findings = [*looked.findings, *check_badness(looked.flashes)]
    findings += counter.findings()
    if ctx.unit.script is None and "audio" in ctx.unit.sources:
        findings.append(unavailable("script", "nobody wrote down what the recording says"))
    else:
        findings += check_script(ctx.unit.script or "", ctx.unit.locale)
    policy = ctx.shard.brief.policy
    verdict = combine(findings, set(policy.required) - {"consent"})
    return Output(
        safety.write_evidence(ctx.scratch, video, looked, findings),
        {
            "verdict": safety.judged(verdict, policy.review),
            "policy": DEFAULT_POLICY.id,
            "checks": safety.as_checks(findings),
        },
    )


def _sign(ctx: HandOver, video: Path) -> Path:
    signed = ctx.scratch / "signed.mp4"
    provenance = sign.provenance_of(ctx, "pass", check_consents(ctx))
    identity = signing_identity(state=ctx.settings.state)
    sign_video(video, signed, provenance, sign.ingredients_of(ctx), identity)
    return signed


def planned_rows(plan: CampaignPlan) -> list[tuple[ShardPlan, UnitPlan]]:
    """Every row of a plan with its shard, in the table's order."""
    store = open_store(plan.store)
    shards = [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]
    return [(shard, row) for shard in shards for row in shard.rows]


def main(argv: list[str] | None = None) -> int:
    """Render recipients one after the other; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    args = _parse(arguments)
    restart_with_threads(args.threads, "benchmarks.linear", arguments)
    settings = Settings.from_env()
    with nullcontext() if args.plan else tempfile.TemporaryDirectory() as folder:
        if args.plan:
            plan = CampaignPlan.model_validate_json(args.plan.read_bytes())
            settings = settings.with_store(plan.store)
        else:
            settings = settings.with_store(str(folder))
            plan = plan_campaign(str(make_ready(SAMPLES, settings)), settings)
        rows = planned_rows(plan)
        if args.only:
            rows = [(shard, row) for shard, row in rows if row.id in args.only]
        common = Inputs(args.out)
        with common.closing:
            made = [
                render(shard, row, settings, args.out / row.id, threads=args.threads, common=common)
                for shard, row in rows
            ]
    _report(made, args.json, args.threads)
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench linear", description=__doc__)
    parser.add_argument("--plan", type=Path, help="a CampaignPlan as JSON; default the samples")
    parser.add_argument("--only", nargs="*", default=[], help="recipient ids")
    parser.add_argument("--threads", type=int, default=1)
    out = PROJECT / ".understudy/bench/linear"
    parser.add_argument("--out", type=Path, default=out, help="folder for the videos")
    parser.add_argument("--json", type=Path, default=out.with_suffix(".json"))
    return parser.parse_args(arguments)


def _report(made: list[Rendered], path: Path, threads: int) -> None:
    body = [
        {
            "unit": one.unit,
            "verdict": one.verdict,
            "frames": one.frames,
            **asdict(one.cost),
            "steps": {name: asdict(cost) for name, cost in one.steps.items()},
        }
        for one in made
    ]
    write_json(path, {"threads": threads, "rows": body})
    names = list(dict.fromkeys(name for one in made for name in one.steps))
    costs = {name: sum((one.steps.get(name, Cost()) for one in made), Cost()) for name in names}
    costs["all"] = sum((one.cost for one in made), Cost())
    rows = [
        (name, *(f"{value / len(made):.2f}" for value in asdict(cost).values()))
        for name, cost in costs.items()
    ]
    print_table(("step", "seconds a recipient", "CPU seconds a recipient"), rows)
    print(json.dumps({one.unit: one.verdict for one in made}))


if __name__ == "__main__":
    sys.exit(main())
