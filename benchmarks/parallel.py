"""``bench parallel``: lip sync and upscaling in sequence against side by side, on a live Airflow.

One recipient of the sample campaign, the template compiled and the sources taken in, everything
that is the recipient's own cold. Two forms: ``delta`` are the stages as they run in production,
``linear`` the same four steps on whole frames (see ``benchmarks/full_frames.py``); each is a DAG
face_swap -> lip_sync, upscale -> compose, and the same DAG with upscale after lip_sync. Both arms
have to make the same video, byte for byte. A third form has the same graph with tasks that do
nothing: what Airflow itself takes for it.

The critical path is what Airflow noted: from the start of face_swap to the end of compose. By
Amdahl's law the least that it can be, of the sequence's own task times, is with the longer of
lip_sync and upscale instead of both.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.full_frames import VIDEO
from benchmarks.live import BenchStack, DagRun, live_stack, run_dag, tell
from benchmarks.measure import Cost, machine, paired, write_json
from benchmarks.parallel_report import ORDERS, STEPS, Arm, draw, figures, report
from include.contracts.plan import ShardPlan, ShardRef
from include.contracts.stage import StageResult
from include.local_run import run_campaign
from include.planning import plan_campaign
from include.samples.crowd import Shape, make_campaign
from include.settings import PROJECT, Settings
from include.store import open_store
from include.store.cache import ArtifactCache

FOLDER = PROJECT / ".understudy/bench"
FORMS = ("delta", "linear", "nothing")
DAGS = '''"""Written by ``understudy bench parallel``: the steps in sequence and side by side."""

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Param

from benchmarks.measure import thread_environment
from include.settings import PROJECT, Settings
from operators.stage import StageOperator

STEPS = ("face_swap", "lip_sync", "upscale", "compose")
COMMAND = '"$PYTHON" -m benchmarks.full_frames "$STEP" --shard "$SHARD" --folder "$FOLDER"'


def stage(step):
    return StageOperator(stage=step, shard="{{ params.shard }}")


def command(step):
    settings = Settings.from_env()
    env = {
        **thread_environment(settings.threads),
        "PYTHON": str(settings.worker_python),
        "STEP": step,
        "SHARD": "{{ params.shard | tojson }}",
        "FOLDER": "{{ params.folder }}",
    }
    return bash(step, COMMAND, env)


def nothing(step):
    return bash(step, "true", {})


def bash(step, command, env):
    more = {"env": env, "append_env": True, "cwd": str(PROJECT), "pool": "cpu"}
    return BashOperator(task_id=step, bash_command=command, **more)


for form, make in (("delta", stage), ("linear", command), ("nothing", nothing)):
    for order in ("sequence", "parallel"):
        with DAG(
            f"{form}_{order}",
            schedule=None,
            render_template_as_native_obj=form == "delta",
            params={"shard": Param({}, type="object"), "folder": Param("", type="string")},
        ):
            swap, lip, upscale, compose = (make(step) for step in STEPS)
            swap >> [lip, upscale] >> compose
            if order == "sequence":
                lip >> upscale
'''


@dataclass(frozen=True)
class Bench:
    """What every arm needs: the stack, and a store in which only the recipient is cold."""

    stack: BenchStack
    ref: ShardRef
    shard: ShardPlan
    folder: Path

    def run(self, form: str, order: str) -> Arm:
        """Run one arm in a folder of its own.

        Raises:
            SystemExit: a task failed.
        """
        folder = self.folder / "arm"
        try:
            return self._arms()[form](order, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _arms(self) -> dict[str, Callable[[str, Path], Arm]]:
        return {"delta": self._delta, "linear": self._linear, "nothing": self._nothing}

    def _delta(self, order: str, folder: Path) -> Arm:
        """The stages, in a copy of the store that nobody has rendered in."""
        shutil.copytree(self.ref.store, folder)
        ref = self.ref.model_copy(update={"store": str(folder)})
        run = self._trigger("delta", order, ref, folder)
        store = open_store(ref.store)
        api, work = self.stack.api(), {}
        for step in STEPS:
            key = api.xcom(run.dag_id, run.run_id, step)["result"]
            (unit,) = StageResult.model_validate_json(store.get(key)).units
            if unit.status != "made":
                raise SystemExit(f"{step} did not make anything: {unit}")
            work[step] = Cost(unit.seconds, unit.cpu_seconds)
        row = self.shard.rows[0]
        made = ArtifactCache(store, ref.tenant).lookup("compose", row.key("compose"))
        if made is None:
            raise SystemExit("compose left no video in the store")
        return Arm(run.tasks, work, made.outputs["video"].sha256)

    def _linear(self, order: str, folder: Path) -> Arm:
        """The steps on whole frames, which only read the store."""
        run = self._trigger("linear", order, self.ref, folder)
        work = {step: Cost(**json.loads((folder / f"{step}.json").read_text())) for step in STEPS}
        with (folder / VIDEO).open("rb") as stream:
            return Arm(run.tasks, work, hashlib.file_digest(stream, "sha256").hexdigest())

    def _nothing(self, order: str, folder: Path) -> Arm:
        return Arm(self._trigger("nothing", order, self.ref, folder).tasks)

    def _trigger(self, form: str, order: str, ref: ShardRef, folder: Path) -> DagRun:
        conf = {"shard": ref.model_dump(mode="json"), "folder": str(folder)}
        return run_dag(self.stack.api(), f"{form}_{order}", conf)


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    args = _parse(argv)
    work = args.home.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for name in ("UNDERSTUDY_DATABASE_URL", "UNDERSTUDY_NOOP"):
        os.environ.pop(name, None)
    settings = Settings.from_env()
    settings = replace(
        settings,
        store=str(work / "store"),
        roots=(*settings.roots, work),
        slots=args.slots,
        threads=args.threads,
    )
    body: dict[str, Any] = {"machine": machine(), "settings": _settings_of(args)}
    ref, shard = prepare(work, settings, _shape(args), args.upscaler)
    dag_ids = tuple(f"{form}_{order}" for form in FORMS for order in ORDERS)
    with live_stack(work / "airflow", settings, DAGS, dag_ids) as stack:
        bench = Bench(stack, ref, shard, work)
        found = {form: measure(bench, form, args.pairs) for form in args.forms}
    shutil.rmtree(work)
    body["forms"] = {form: figures(pairs) for form, pairs in found.items()}
    write_json(args.out, body)
    report(body)
    draw(body, args.out.with_suffix(".svg"))
    print(f"\nwritten to {args.out} and beside it")
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="understudy bench parallel", description=__doc__)
    add = parser.add_argument
    add("--pairs", type=int, default=5, help="pairs of runs of each form")
    add("--forms", type=lambda text: text.split(","), default=",".join(FORMS))
    add("--slots", type=int, default=2, help="stages at a time")
    add("--threads", type=int, default=1, help="of each stage's process")
    add("--seconds", type=float, default=0.0, help="of a template; 0: the sample's own")
    add("--size", default="480x270", help="of that template")
    add("--upscaler", default="auto", help="as in a brief's output.upscaler")
    add("--home", type=Path, default=FOLDER / "parallel", help="working folder, made anew")
    add("--out", type=Path, default=FOLDER / "parallel.json")
    args = parser.parse_args(argv)
    if min(args.pairs, args.threads) < 1 or args.slots < 2:
        parser.error("--pairs and --threads take numbers from 1 on, --slots from 2 on")
    if not set(args.forms) <= set(FORMS):
        parser.error(f"--forms takes some of {','.join(FORMS)}")
    return args


def _settings_of(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name not in ("out", "home")}


def _shape(args: argparse.Namespace) -> Shape | None:
    if not args.seconds:
        return None
    width, _, height = args.size.partition("x")
    return Shape(0.15, 0.6, (int(width), int(height)), args.seconds)


def prepare(
    folder: Path, settings: Settings, shape: Shape | None, upscaler: str
) -> tuple[ShardRef, ShardPlan]:
    """Plan a campaign of one recipient and make all that comes before ``face_swap``.

    Args:
        folder: for the campaign.
        settings: names the store.
        shape: of the template; None takes the sample's.
        upscaler: as in ``output.upscaler`` of a brief.

    Returns:
        The shard that the recipient is in, as reference and in full.

    Raises:
        SystemExit: the recipient cannot be rendered.
    """
    tell("compiling the template")
    brief = make_campaign(folder / "campaign", settings, 1, shape=shape, upscaler=upscaler)
    plan = plan_campaign(str(brief), settings)
    if plan.rejects:
        raise SystemExit(f"the row was rejected: {plan.rejects[0].message}")
    (ref,) = plan.shards
    shard = ShardPlan.model_validate_json(open_store(plan.store).get(ref.plan))
    run = run_campaign(plan, settings, run_id="prepare", until="measure_inputs")
    taken_in = run.unit("ingest_recipients", shard.rows[0].id)
    if taken_in.status != "made":
        raise SystemExit(f"the recipient was not taken in: {taken_in.message}")
    return ref, shard


def measure(bench: Bench, form: str, pairs: int) -> list[dict[str, Arm]]:
    """Run both orders of a form in pairs.

    Raises:
        SystemExit: the arms did not make the same video.
    """
    arms = {order: (lambda _, order=order: bench.run(form, order)) for order in ORDERS}
    found = paired(pairs, arms, lambda text: tell(f"{form}: {text}"))
    digests = {arm.digest for pair in found for arm in pair.values()}
    if len(digests) > 1:
        raise SystemExit(f"{form}: the arms made different videos: {sorted(digests)}")
    return found


if __name__ == "__main__":
    sys.exit(main())
