"""The golden set: the same work done by champion and challenger, side by side.

Every backend renders the golden campaign up to the finished, measured video; nothing is signed or
published. Upscalers also enlarge pictures that they never learned from. What a backend rendered
before is not rendered again: its artifacts are the cache's, and the times are those of then.
"""

from __future__ import annotations

import json
import logging
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from include.contracts.manifest import BackendRef
from include.contracts.plan import CampaignPlan, ShardPlan
from include.contracts.stage import UnitResult
from include.errors import (
    BadInput,
    Bug,
    Misconfigured,
    Transient,
    UnderstudyError,
    error_for_exit,
)
from include.features.collect import asset_rows
from include.local_run import Run, Start, run_campaign, stage_env
from include.planning import plan_campaign
from include.rollout.measures import failed_measures, render_measures
from include.rollout.records import Begin, Comparison, Rules
from include.rollout.statistics import Values, compare_pairs
from include.settings import Settings
from include.stages.specs import STAGES
from include.store import open_store
from include.store.cache import ArtifactCache

log = logging.getLogger(__name__)

LAST = "measure_render"


@dataclass(frozen=True)
class GoldenSet:
    """What is rendered and enlarged."""

    brief: str
    """Path or ``s3://`` of the golden campaign's brief; empty for one of the sample's people."""
    pictures: int = 7
    """Held-out pictures, for upscalers."""
    frames: int = 6
    """Frames of the golden template, for upscalers."""
    crop: int = 512
    """Longest side of either, pixels."""


@dataclass(frozen=True)
class Arm:
    """One backend's share of the golden work."""

    renders: Mapping[str, Values]
    """Measures by recipient."""
    problems: Mapping[str, str]
    """Recipients whose video did not come about, with the reason."""
    plan: CampaignPlan


def compare_golden(
    begin: Begin,
    golden: GoldenSet,
    settings: Settings,
    run_id: str,
    start: Start | None = None,
) -> list[Comparison]:
    """Render and enlarge with both backends, and judge every rule.

    Args:
        begin: stage, backends and rules.
        golden: the work.
        settings: store, interpreters, price of a core hour.
        run_id: names the run's results.
        start: where stages run; see ``include.local_run``.

    Raises:
        Misconfigured: ``rollout.worker``: part of the work needs the stage worker here.
        BadInput: ``unusable``: the champion rendered too few of the golden campaign's recipients.
        UnderstudyError: the golden campaign cannot be planned, or a backend cannot be loaded.
    """
    _check_worker(begin, golden, settings)
    brief = golden.brief
    if not brief:
        brief = golden_brief(settings)
        settings = replace(settings, roots=(*settings.roots, Path(brief).parent))
    rules, stage = begin.rules, begin.stage
    champion = render(brief, stage, begin.champion_is, settings, f"{run_id}-champion", start)
    _check_usable(champion, rules)
    challenger = render(brief, stage, begin.challenger, settings, f"{run_id}-challenger", start)
    found = [
        compare_pairs("renders", rule, champion.renders, challenger.renders, rules)
        for rule in rules.renders
    ]
    if begin.stage == "upscale" and rules.pictures:
        sides = _pictures(begin, golden, settings, champion.plan)
        found += [compare_pairs("pictures", rule, *sides, rules) for rule in rules.pictures]
    return found


def _check_worker(begin: Begin, golden: GoldenSet, settings: Settings) -> None:
    """Stages run wherever the runtime has them; making and enlarging pictures is done here."""
    pictures = begin.stage == "upscale" and bool(begin.rules.pictures)
    if settings.worker_python.exists() or not (pictures or not golden.brief):
        return
    what = "enlarging held-out pictures" if golden.brief else "making the golden campaign"
    raise Misconfigured(
        f"{what} needs the stage worker where this task runs, and there is no "
        f"{settings.worker_python}: give such tasks the image's target `executor`, or name a "
        "golden campaign and rules without pictures",
        code="rollout.worker",
    )


def _check_usable(champion: Arm, rules: Rules) -> None:
    """Two backends that both fail are no evidence that one is as good as the other."""
    made = len(champion.renders) - len(champion.problems)
    if made < rules.min_pairs:
        why = "".join(f"; {unit}: {said}" for unit, said in list(champion.problems.items())[:3])
        raise BadInput(
            f"what is live rendered {made} recipients of the golden campaign, {rules.min_pairs} "
            f"are needed{why}; repair the campaign or take another (--golden)",
            code="unusable",
        )


def golden_brief(settings: Settings) -> str:
    """The brief of ``include.samples.golden``; its media are made at first use, where stages run.

    Raises:
        Bug: it could not be made.
    """
    command = [str(settings.worker_python), "-m", "include.samples", "--golden"]
    done = subprocess.run(command, capture_output=True, text=True, env=stage_env(), check=False)
    if done.returncode != 0:
        raise Bug(f"the golden campaign could not be made: {done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def render(
    brief: str,
    stage: str,
    ref: BackendRef,
    settings: Settings,
    run_id: str,
    start: Start | None = None,
) -> Arm:
    """Render the golden campaign with one backend, and measure every video.

    Raises:
        Transient: a recipient failed for a reason that may pass.
    """
    # A golden campaign shows no customer anything, and its media are not what has drifted.
    plan = plan_campaign(brief, settings, backends={stage: ref}, gated=False)
    run = run_campaign(
        plan, settings, run_id=run_id, until=LAST, threads=settings.threads, start=start
    )
    store = open_store(plan.store)
    shards = [ShardPlan.model_validate_json(store.get(item.plan)) for item in plan.shards]
    rows = asset_rows(ArtifactCache(store, plan.tenant), shards, settings.core_hour)
    measured = {row.unit: render_measures(row.values) for row in rows if row.kind == "render"}
    units = [row.id for shard in shards for row in shard.rows]
    failed = {unit: _failure(run, unit) for unit in units if unit not in measured}
    for unit, found in failed.items():
        if found and found.retry:
            raise Transient(f"{stage} with {ref.name}, {unit}: {found.message}")
    problems = {
        unit: (found and found.message) or "it was not measured" for unit, found in failed.items()
    }
    for unit, problem in problems.items():
        log.warning("%s with %s: no video for %s: %s", stage, ref.name, unit, problem)
    renders = {unit: measured.get(unit) or failed_measures() for unit in units}
    return Arm(renders, problems, plan)


def _failure(run: Run, unit: str) -> UnitResult | None:
    """Why a recipient has no video: the first stage that failed for it."""
    failed = [
        (found.status == "skipped", list(STAGES).index(stage), found)
        for (stage, _), result in run.results.items()
        for found in result.units
        if found.id in (unit, "template") and found.status in ("failed", "skipped")
    ]
    return min(failed, key=lambda item: item[:2])[2] if failed else None


def _pictures(
    begin: Begin, golden: GoldenSet, settings: Settings, plan: CampaignPlan
) -> tuple[dict[str, Values], dict[str, Values]]:
    """Champion's and challenger's figures by picture; one process after the other."""
    store = open_store(plan.store)
    own = ShardPlan.model_validate_json(store.get(plan.template.plan))
    cache = ArtifactCache(store, plan.tenant)
    clip = cache.lookup("ingest_template", own.template.key("ingest_template"))
    with tempfile.TemporaryDirectory(prefix="understudy-golden-") as folder:
        video = None if clip is None else cache.fetch(clip.outputs["video"], Path(folder))
        sides = [
            _enlarge(ref, own.brief.output.scale, golden, video, Path(folder), settings)
            for ref in (begin.champion_is, begin.challenger)
        ]
    return sides[0], sides[1]


def _enlarge(
    ref: BackendRef,
    scale: int,
    golden: GoldenSet,
    video: Path | None,
    folder: Path,
    settings: Settings,
) -> dict[str, Values]:
    out = folder / f"{ref.name}.json"
    command = [str(settings.worker_python), "-m", "include.rollout.pictures"]
    command += ["--backend", ref.name, "--scale", str(max(2, scale)), "--out", str(out)]
    command += ["--pictures", str(golden.pictures), "--crop", str(golden.crop)]
    command += ["--video", str(video), "--frames", str(golden.frames)] if video else []
    done = subprocess.run(command, capture_output=True, text=True, env=stage_env(), check=False)
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise error_for_exit(done.returncode, f"{ref.name} on held-out pictures: {said}")
    rows: dict[str, dict[str, float]] = json.loads(out.read_text(encoding="utf-8"))
    return by_picture(rows)


def by_picture(rows: Mapping[str, Mapping[str, float]]) -> dict[str, Values]:
    """Means over the ways in which a picture was made small: those are not pictures of their own.

    Args:
        rows: figures by ``<picture>/<degradation>``.
    """
    pictures: dict[str, list[Mapping[str, float]]] = {}
    for name, figures in rows.items():
        pictures.setdefault(name.rpartition("/")[0], []).append(figures)
    return {
        picture: {name: fmean(each[name] for each in found) for name in found[0]}
        for picture, found in pictures.items()
    }


def reason_of(error: UnderstudyError) -> str:
    """A failure to render as the reason of a step."""
    return f"golden.{error.code}"[:100]
