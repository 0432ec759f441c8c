"""``bench delta``: what a recipient costs, rendered on whole frames and by delta.

Both arms run right after one another on the same machine, with the same encoder, upscaler and
safety settings and the same number of threads per process; the order turns from pair to pair.
Linear is one process that renders all recipients of a run one after the other (see
``benchmarks/linear.py``); delta are the stages as they run in production, each in a process of its
own, with an empty store: what compiling the template took is told apart from what its recipients
took, so a cold template is the sum and a warm one the second alone. Measuring what was rendered for
drift is not rendering: it is in neither arm, and told apart. Processor seconds are those of
all processes and threads; starting interpreters and importing libraries is in both. Nothing is
extrapolated: every number of recipients shown was rendered. Many recipients are rendered in a
template of the sample's shape that is shorter and smaller, because on the sample itself thirty of
them take hours on whole frames. With ``--add`` a run goes on where one was interrupted, pair by
pair, or adds to its figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.delta_pairs import Arm, Begun, Point, figures
from benchmarks.delta_report import draw, marginal, report
from benchmarks.measure import (
    Cost,
    machine,
    paired,
    run_child,
    thread_environment,
    write_json,
)
from benchmarks.rrdb_weights import make_weights
from include.backends import declare
from include.contracts.plan import CampaignPlan, ShardPlan
from include.local_run import Run, run_stage
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.settings import PROJECT, Settings
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache
from models.registry import DECLARED_ENV

FACE_SHARES = (0.05, 0.15, 0.40)
ON_SCREEN = (0.3, 0.6, 1.0)
RRDB = "bench-rrdb"


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = _parse(argv)
    work = args.out.parent / f"{args.out.stem}-work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    body = _begun(args)
    try:
        with _backends(work, args):
            for part, point, pairs in _points(args):
                if all(found["point"]["label"] != point.label for found in body[part]):
                    begun = Begun(body, part, point, lambda: write_json(args.out, body))
                    made = measure(point, pairs, work, floor=part != "surface", begun=begun)
                    begun.end(made)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    body["marginal"] = marginal(body["sample"])
    body["marginal_many"] = marginal(body["many"])
    write_json(args.out, body)
    report(body)
    draw(body, args.out.with_suffix(""))
    print(f"\nwritten to {args.out} and beside it")
    return 0


PARTS_OF_BODY = ("sample", "many", "surface")


def _begun(args: argparse.Namespace) -> dict[str, Any]:
    """What the figures start with: an earlier, perhaps interrupted run's, or nothing.

    Raises:
        SystemExit: they are of another RRDB-class network.
    """
    if args.add and args.out.exists():
        body: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8"))
        if RRDB in args.upscalers and body["settings"].get("rrdb") != args.rrdb:
            raise SystemExit(f"{args.out} is of --rrdb {body['settings'].get('rrdb')}")
        return body
    facts = {"machine": machine(), "settings": _settings_of(args)}
    return {**facts, **{part: [] for part in PARTS_OF_BODY}}


def _points(args: argparse.Namespace) -> Iterator[tuple[str, Point, int]]:
    """What is measured: part of the figures, point, pairs."""
    quick = Shape(0.15, 0.6, (320, 180), 0.8) if args.quick else None
    short = Shape(0.08, 0.6, args.many_size, args.many_seconds)
    for part, counts, shape in (("sample", args.recipients, quick), ("many", args.many, short)):
        for name in args.upscalers:
            for threads in args.threads:
                for count in counts:
                    yield part, Point(count, threads, name, shape), args.pairs
    for point in _surface(args):
        yield "surface", point, args.surface_pairs or args.pairs


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench delta", description=__doc__)
    cores = len(os.sched_getaffinity(0))
    every = ["1", str(cores)] if cores > 1 else ["1"]
    add = parser.add_argument
    add("--pairs", type=int, default=5, help="pairs of runs for each figure")
    add(
        "--threads",
        type=_integers,
        default=",".join(every),
        help="threads per process, such as 1,8",
    )
    add("--recipients", type=_integers, default="1,3", help="of the sample template; empty: none")
    add("--many", type=_integers, default="", help="of a short template, such as 1,3,10,30")
    add("--many-size", type=_size, default="480x270", help="of the short template")
    add("--many-seconds", type=float, default=2.0, help="length of the short template")
    add("--upscalers", type=lambda text: text.split(","), default="compact,rrdb")
    add("--rrdb", type=_integers, default="16,2,8", help="its features,blocks,growth")
    add("--add", action="store_true", help="keep what the file holds, measure what it lacks")
    add("--quick", action="store_true", help="a tiny template for the sample's, to try it all out")
    add("--no-surface", action="store_true", help="without the surface")
    add("--surface-pairs", type=int, default=0, help="pairs for a point of it; 0: as --pairs")
    add("--surface-size", type=_size, default="480x270", help="of the surface's templates")
    add("--surface-seconds", type=float, default=2.0, help="length of the surface's templates")
    add("--face-shares", type=_floats, default=FACE_SHARES, help="such as 0.05,0.15,0.4")
    add("--on-screen", type=_floats, default=ON_SCREEN, help="such as 0.3,0.6,1")
    add("--out", type=Path, default=PROJECT / ".understudy/bench/delta.json")
    args = parser.parse_args(argv)
    counts = (args.pairs, *args.threads, *args.recipients, *args.many)
    if min(counts) < 1:
        parser.error("--pairs, --threads, --recipients and --many take numbers from 1 on")
    if len(args.rrdb) != 3:
        parser.error("--rrdb takes three numbers, such as 16,2,8")
    args.out = args.out.resolve()  # what is declared beside it is found from everywhere
    args.upscalers = [RRDB if name == "rrdb" else name for name in args.upscalers]
    return args


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


def _settings_of(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name != "out"}


def _surface(args: argparse.Namespace) -> Iterator[Point]:
    if args.no_surface:
        return
    arms = itertools.product(args.upscalers, args.threads, args.face_shares, args.on_screen)
    for name, threads, share, shown in arms:
        shape = Shape(share, shown, args.surface_size, args.surface_seconds)
        yield Point(2, threads, name, shape)


@contextmanager
def _backends(work: Path, args: argparse.Namespace) -> Iterator[None]:
    """Declare the RRDB-class network, with weights made here, where it is asked for."""
    if RRDB not in args.upscalers:
        yield
        return
    features, blocks, growth = args.rrdb
    file, weights = work / "backends.yaml", work / "rrdb.safetensors"
    make_weights(weights, features=features, blocks=blocks, growth=growth, scale=2, seed=0)
    declare(file, name=RRDB, weights=str(weights), licence="Apache-2.0", origin="made to measure")
    before = os.environ.get(DECLARED_ENV)
    os.environ[DECLARED_ENV] = str(file)
    try:
        yield
    finally:
        os.environ.pop(DECLARED_ENV, None)
        if before is not None:
            os.environ[DECLARED_ENV] = before


def measure(
    point: Point, pairs: int, work: Path, *, floor: bool = False, begun: Begun | None = None
) -> dict[str, Any]:
    """Measure a point in pairs; see the module for what is compared.

    Args:
        point: what.
        pairs: how many times.
        work: a folder for campaigns and stores.
        floor: measure the physical floor of one recipient as well.
        begun: pairs of an interrupted run, and where to keep those of this one.

    Returns:
        Plain figures: each pair's, and medians with spread.

    Raises:
        SystemExit: a recipient was not delivered.
    """
    settings = Settings.from_env()
    everybody = point.recipients
    settings = replace(settings, shard_size=everybody, roots=(*settings.roots, work))
    folder = Path(tempfile.mkdtemp(dir=work))
    before = {name: os.environ.get(name) for name in thread_environment(1)}
    os.environ.update(thread_environment(point.threads))
    try:
        brief = make_campaign(
            folder / "campaign",
            settings,
            point.recipients,
            shape=point.shape,
            upscaler=point.upscaler,
        )
        arms: dict[str, Callable[[int], Arm]] = {
            "linear": lambda number: linear(brief, settings, point),
            "delta": lambda number: delta(brief, settings, point, floor=floor),
        }
        found = paired(
            pairs,
            arms,
            lambda text: _say(f"{point.label}: {text}"),
            begun=begun.pairs if begun else (),
            keep=begun.keep if begun else lambda pairs: None,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
    return figures(point, found)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def planned(brief: Path, settings: Settings) -> Iterator[tuple[CampaignPlan, Settings, Path]]:
    """A campaign planned on an empty store, the settings for it, and the plan as a file."""
    with tempfile.TemporaryDirectory(prefix="understudy-bench-", dir=brief.parent) as folder:
        fresh = settings.with_store(f"{folder}/store")
        plan = plan_campaign(str(brief), fresh)
        if plan.rejects:
            raise SystemExit(f"rows were rejected: {plan.rejects[0].message}")
        path = Path(folder) / "plan.json"
        path.write_text(plan.model_dump_json(), encoding="utf-8")
        yield plan, fresh, path


def linear(brief: Path, settings: Settings, point: Point) -> Arm:
    """Render every recipient on whole frames."""
    with planned(brief, settings) as (_, _, path):
        answer = path.with_name("linear.json")
        options = ["--plan", path, "--out", path.with_name("out"), "--json", answer]
        cost = _child(settings, "benchmarks.linear", options, point.threads)
        rows = json.loads(answer.read_text())["rows"]
    held = [row["unit"] for row in rows if row["verdict"] != "pass"]
    if held or len(rows) != point.recipients:
        raise SystemExit(f"linear did not deliver {held or 'everybody'}")
    steps = {name: [row["steps"][name]["cpu"] for row in rows] for name in rows[0]["steps"]}
    mean = {name: round(sum(values) / len(values), 3) for name, values in steps.items()}
    further = _mean([Cost(row["wall"], row["cpu"]) for row in rows[1:]])
    return Arm(Cost(), cost, further, {}, {"cpu_by_step": mean})


def delta(brief: Path, settings: Settings, point: Point, *, floor: bool) -> Arm:
    """Compile the template, then render every recipient with it, stage by stage."""
    with planned(brief, settings) as (plan, fresh, path):
        run = Run()
        template, _ = _stages("template", plan, fresh, run, point.threads)
        rows, measuring = _stages("row", plan, fresh, run, point.threads)
        store = open_store(plan.store)
        shards = [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]
        units = [row.id for shard in shards for row in shard.rows]
        for unit in units:
            result = run.unit("publish", unit)
            if result.status != "made":
                raise SystemExit(f"delta did not deliver {unit}: {result.message}")
        costs = {}
        if floor:
            answer = path.with_name("floor.json")
            options = ["--plan", path, "--unit", units[0], "--json", answer]
            _child(settings, "benchmarks.floor", options, point.threads)
            costs = {k: Cost(**v) for k, v in json.loads(answer.read_text()).items()}
        facts = _facts(ArtifactCache(store, plan.tenant), shards[0], run)
        facts["cpu_measuring"] = round(measuring.cpu / point.recipients, 3)
    return Arm(template, rows, _mean([_unit_cost(run, unit) for unit in units[1:]]), costs, facts)


def _measures(stage: str) -> bool:
    return stage.startswith("measure_")


def _unit_cost(run: Run, unit: str) -> Cost:
    """What rendering one recipient took, without starting the stages' processes."""
    made = [result for (stage, _), result in run.results.items() if not _measures(stage)]
    results = [found for result in made for found in result.units]
    own = [Cost(found.seconds, found.cpu_seconds) for found in results if found.id == unit]
    return sum(own, Cost())


def _mean(costs: list[Cost]) -> Cost | None:
    if not costs:
        return None
    total = sum(costs, Cost())
    return Cost(total.wall / len(costs), total.cpu / len(costs))


def _stages(
    scope: str, plan: CampaignPlan, settings: Settings, run: Run, threads: int
) -> tuple[Cost, Cost]:
    """What rendering took, and measuring for drift."""
    rendering, measuring = Cost(), Cost()
    for spec in STAGES.values():
        if spec.scope == scope:
            start = Cost.now()
            for ref in [plan.template] if scope == "template" else plan.shards:
                run_stage(spec, ref, settings, run, "bench", threads)
            took = Cost.now() - start
            if _measures(spec.name):
                measuring += took
            else:
                rendering += took
    return rendering, measuring


def _child(settings: Settings, module: str, options: Iterable[object], threads: int) -> Cost:
    command = [str(settings.worker_python), "-m", module, "--threads", str(threads)]
    environment = {**os.environ, **thread_environment(threads), "PYTHONPATH": str(PROJECT)}
    return run_child([*command, *(str(option) for option in options)], environment, PROJECT)


def _facts(cache: ArtifactCache, shard: ShardPlan, run: Run) -> dict[str, Any]:
    """What the template turned out to be, and what each stage took."""
    template = shard.template
    track = cache.lookup("track_face", template.key("track_face"))
    video = cache.lookup("ingest_template", template.key("ingest_template"))
    if track is None or video is None:
        raise SystemExit("the template was not made")
    cpu: dict[str, float] = {}
    for (name, _), result in run.results.items():
        cpu[name] = round(cpu.get(name, 0.0) + result.cpu_seconds, 3)
    return {
        "size": [video.facts["width"], video.facts["height"]],
        "frames": video.facts["frames"],
        "frames_with_face": track.facts["frames_with_face"],
        "face_share": track.facts["face_share"],
        "cpu_by_stage": cpu,
    }


if __name__ == "__main__":
    sys.exit(main())
