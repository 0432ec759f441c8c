"""``bench stages``: what each stage costs on the sample campaign.

Every stage runs in a process of its own with an empty store, as in a pod. Seconds per frame are
wall time over the frames that the stage works on: all of the template's, those with the face, or
those without. The JSON also has every unit's own times and its place in its process: the first
one pays for imports and models. ``bench simulate`` is fed with them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from include.contracts.plan import CampaignPlan, ShardPlan, UnitPlan
from include.local_run import Run, run_campaign
from include.planning import plan_campaign
from include.samples.crowd import make_campaign
from include.samples.ready import SAMPLES, make_ready
from include.settings import PROJECT, Settings
from include.stages.specs import MAKER, STAGES
from include.store import ObjectStore, open_store
from include.store.cache import ArtifactCache

_FACE_STAGES = {"upscale_plate", "analyse_face", "face_swap", "lip_sync", "upscale", "compose"}
_OTHER_STAGES = {"encode_plate"}
_FRAMELESS = {"ingest_recipients", "measure_inputs", "measure_render", "sign", "publish"}

Figures = tuple[float, float, float, float]
"""Wall, processor and store seconds, peak MiB."""


@dataclass(frozen=True)
class Row:
    """One stage: medians over recipients and rounds."""

    stage: str
    frames: int
    seconds: float
    cpu_seconds: float
    io_seconds: float
    """Of the wall time, what was spent fetching inputs and asking the store."""
    seconds_per_frame: float | None
    spread: float
    """Largest less smallest wall time, seconds."""
    peak_mib: float


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="understudy bench stages", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="times to render everything")
    parser.add_argument(
        "--recipients", type=int, default=0, help="in one shard; 0: the sample's own"
    )
    parser.add_argument("--out", type=Path, default=PROJECT / ".understudy/bench/stages.json")
    args = parser.parse_args(argv)
    settings = Settings.from_env()
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
        brief = make_ready(SAMPLES, settings)
        if args.recipients:
            roots = (*settings.roots, Path(folder).resolve())
            settings = replace(settings, roots=roots, shard_size=args.recipients)
            os.environ["UNDERSTUDY_ROOTS"] = os.pathsep.join(map(str, roots))
            brief = make_campaign(Path(folder).resolve() / "campaign", settings, args.recipients)
        return _measure(args, brief, settings)


def _measure(args: argparse.Namespace, brief: Path, settings: Settings) -> int:
    samples: dict[str, list[Figures]] = {}
    frames: dict[str, int] = {}
    units: list[dict[str, Any]] = []
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            fresh = settings.with_store(folder)
            plan = plan_campaign(str(brief), fresh)
            units += _units(run_campaign(plan, fresh, run_id=f"bench-{number}"))
            _collect(plan, fresh, samples, frames)
            volume = volumes(plan, open_store(fresh.store))
    rows = [_row(name, samples[name], frames) for name in STAGES if name in samples]
    print_table(rows)
    machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
    body = {
        "machine": machine,
        "load_1min_at_end": round(os.getloadavg()[0], 2),
        "rounds": args.rounds,
        "stages": [asdict(row) for row in rows],
        "units": units,
        "mib": volume,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(body, indent=2) + "\n")
    print(f"\nwritten to {args.out}")
    return 0


def _units(run: Run) -> list[dict[str, Any]]:
    """What each unit took, and its place in its process from 0 on."""
    return [
        {
            "stage": stage,
            "place": place,
            "seconds": unit.seconds,
            "cpu_seconds": unit.cpu_seconds,
        }
        for (stage, _), result in run.results.items()
        for place, unit in enumerate(unit for unit in result.units if unit.status == "made")
    ]


def volumes(plan: CampaignPlan, store: ObjectStore) -> dict[str, dict[str, float]]:
    """What each row stage reads and writes, as its artifacts and those before it lie in the store.

    Returns:
        By stage MiB: ``row`` for each row, read and written; ``shard`` once for each process, of
        the template's artifacts. Stages that read only a part of something are overestimated.
    """
    cache = ArtifactCache(store, plan.tenant)
    shards = [ShardPlan.model_validate_json(store.get(ref.plan)) for ref in plan.shards]
    rows = [row for shard in shards for row in shard.rows]
    template = shards[0].template

    def size(unit: UnitPlan, artifact: str) -> float:
        found = cache.lookup(artifact, unit.key(artifact))
        return sum(blob.size for blob in found.outputs.values()) / 2**20 if found else 0.0

    out = {}
    for spec in (spec for spec in STAGES.values() if spec.scope == "row"):
        own = [name for name in spec.upstream if MAKER[name].scope == "row"]
        shared = [name for name in spec.upstream if MAKER[name].scope == "template"]
        each = (size(row, name) for row in rows for name in (*own, *spec.artifacts))
        out[spec.name] = {
            "row": round(sum(each) / len(rows), 3),
            "shard": round(sum(size(template, name) for name in shared), 3),
        }
    return out


def _collect(
    plan: CampaignPlan,
    settings: Settings,
    samples: dict[str, list[Figures]],
    frames: dict[str, int],
) -> None:
    store = open_store(settings.store)
    cache = ArtifactCache(store, plan.tenant)
    for ref in (plan.template, *plan.shards):
        shard = ShardPlan.model_validate_json(store.get(ref.plan))
        for unit in shard.rows or (shard.template,):
            for artifact in unit.materials:
                found = cache.lookup(artifact, unit.key(artifact))
                if found is None:
                    raise SystemExit(f"{artifact} of {unit.id} was not made; see `render`")
                figures = (found.seconds, found.cpu_seconds, found.io_seconds, found.peak_mib)
                samples.setdefault(MAKER[artifact].name, []).append(figures)
                if artifact == "ingest_template":
                    frames["all"] = int(found.facts["frames"])
                if artifact == "track_face":
                    frames["face"] = int(found.facts["frames_with_face"])


def _row(name: str, figures: list[Figures], frames: dict[str, int]) -> Row:
    wall = [seconds for seconds, _, _, _ in figures]
    count = frames["face"] if name in _FACE_STAGES else frames["all"]
    if name in _OTHER_STAGES:
        count = frames["all"] - frames["face"]
    seconds = statistics.median(wall)
    return Row(
        stage=name,
        frames=0 if name in _FRAMELESS else count,
        seconds=round(seconds, 3),
        cpu_seconds=round(statistics.median(cpu for _, cpu, _, _ in figures), 3),
        io_seconds=round(statistics.median(io for _, _, io, _ in figures), 3),
        seconds_per_frame=None if name in _FRAMELESS else round(seconds / count, 4),
        spread=round(max(wall) - min(wall), 3),
        peak_mib=round(max(peak for _, _, _, peak in figures)),
    )


def print_table(rows: Iterable[Row]) -> None:
    """Print the rows as a Markdown table."""
    print("| stage | frames | seconds | CPU seconds | store s | s/frame | spread s | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for row in rows:
        each = "" if row.seconds_per_frame is None else f"{row.seconds_per_frame:.4f}"
        print(
            f"| {row.stage} | {row.frames or ''} | {row.seconds:.2f} | {row.cpu_seconds:.2f} "
            f"| {row.io_seconds:.2f} | {each} | {row.spread:.2f} | {row.peak_mib:.0f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
