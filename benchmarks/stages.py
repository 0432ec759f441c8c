"""``bench stages``: what each stage costs on the sample campaign.

Every stage runs in a process of its own with an empty store, as in a pod. Seconds per frame are
wall time over the frames that the stage works on: all of the template's, those with the face, or
those without.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from include.contracts.plan import CampaignPlan, ShardPlan
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.ready import SAMPLES, make_ready
from include.settings import PROJECT, Settings
from include.stages.specs import MAKER, STAGES
from include.store import open_store
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
    parser.add_argument("--out", type=Path, default=PROJECT / ".understudy/bench/stages.json")
    args = parser.parse_args(argv)
    settings = Settings.from_env()
    brief = make_ready(SAMPLES, settings)
    samples: dict[str, list[Figures]] = {}
    frames: dict[str, int] = {}
    for number in range(args.rounds):
        with tempfile.TemporaryDirectory(prefix="understudy-bench-") as folder:
            fresh = settings.with_store(folder)
            plan = plan_campaign(str(brief), fresh)
            run_campaign(plan, fresh, run_id=f"bench-{number}")
            _collect(plan, fresh, samples, frames)
    rows = [_row(name, samples[name], frames) for name in STAGES if name in samples]
    print_table(rows)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
    body = {"machine": machine, "rounds": args.rounds, "stages": [asdict(row) for row in rows]}
    args.out.write_text(json.dumps(body, indent=2) + "\n")
    print(f"\nwritten to {args.out}")
    return 0


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
