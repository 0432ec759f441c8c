"""``bench fanout``: planning and mapping a large campaign, with stages that do nothing.

A campaign of many recipients (photos of random bytes, each with its own signed consent record) is
planned cold and warm; then the real DAG runs it on a live stack. ``UNDERSTUDY_NOOP`` keeps stages
from running: what is measured is planning, the scheduler, the tasks' own cost and whether the API
and the grid still answer. Nothing is rendered, so nothing can be published.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import resource
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib import request
from urllib.parse import quote

from benchmarks.fanout_campaign import make_campaign
from benchmarks.fanout_database import Database
from include.cli.environments import ENVIRONMENTS
from include.cli.follow import DAG, ENDED
from include.cli.stack import Stack, free_port, running_stack
from include.contracts.plan import CampaignPlan
from include.planning import plan_campaign
from include.settings import PROJECT, Settings
from include.store import open_store

HOME = PROJECT / ".understudy" / "bench" / "fanout"
"""The benchmark's own campaign, store, keys and Airflow, unless ``--home`` says otherwise."""
NOOP_MARK = "noop-store"
"""See ``operators.runtimes.noop``."""
POLL_S = 5.0
SCHEDULER = "airflow.jobs.scheduler_job_runner.SchedulerJobRunner"
"""Its logger's name."""
LOOP = re.compile(r"Ran scheduling loop in ([\d.]+) ms")


@dataclass(frozen=True)
class Planning:
    """One pass from the brief to the shards."""

    wall: float
    cpu: float
    shards: int
    peak_mib: float


@dataclass
class Watch:
    """What was seen of a run from outside."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    """Response times by question."""

    def ask(self, name: str, question: Callable[[], Any]) -> Any:
        """Ask the API something and note how long the answer took."""
        start = time.perf_counter()
        answer = question()
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        return answer


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="understudy bench fanout", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="recipients")
    parser.add_argument("--photo-kib", type=int, default=40, help="size of a photo")
    parser.add_argument("--slots", type=int, help="stage processes at a time; default all cores")
    parser.add_argument("--shard-size", type=int, default=0, help="0: as the planner chooses")
    parser.add_argument("--plan-only", action="store_true", help="no Airflow")
    parser.add_argument(
        "--database",
        default="",
        metavar="URL",
        help="an empty PostgreSQL database for Airflow, as UNDERSTUDY_DATABASE_URL names one; "
        "default: SQLite in the working folder",
    )
    parser.add_argument("--home", type=Path, default=HOME, help="working folder, made anew")
    parser.add_argument("--out", type=Path, default=PROJECT / ".understudy/bench/fanout.json")
    arguments = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(arguments)
    if importlib.util.find_spec("airflow") is None:  # benchmarks start where stages run
        python = str(ENVIRONMENTS["airflow"].python)
        os.execv(python, [python, "-m", "benchmarks.fanout", *arguments])
    settings = bench_settings(args.home.resolve(), args.slots, args.shard_size)
    if args.database:
        os.environ["UNDERSTUDY_DATABASE_URL"] = args.database
        Database(args.database).refuse_if_used()
    tell(f"making {args.rows} photos and consent records")
    brief = make_campaign(args.home / "campaign", args.rows, args.photo_kib << 10, settings)
    where = {**machine(), "database": Database(args.database).name}
    body: dict[str, Any] = {"machine": where, "rows": args.rows, "slots": settings.slots}
    body["planning"] = {name: asdict(found) for name, found in measure_planning(brief, settings)}
    if not args.plan_only:
        body["run"] = measure_run(brief, settings)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    print_tables(body)
    print(f"\nwritten to {args.out}")
    return 0 if body.get("run", {}).get("state", "success") == "success" else 1


def tell(text: str) -> None:
    """A line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def bench_settings(home: Path, slots: int | None, shard_size: int) -> Settings:
    """The benchmark's settings; also put into our environment, for the processes we start."""
    os.environ["UNDERSTUDY_STORE"] = str(home / "store")
    os.environ["UNDERSTUDY_STATE"] = str(home / "state")
    os.environ["UNDERSTUDY_ROOTS"] = str(home)
    os.environ["UNDERSTUDY_NOOP"] = "1"
    os.environ["UNDERSTUDY_SHARD_SIZE"] = str(shard_size)
    if slots:
        os.environ["UNDERSTUDY_SLOTS"] = str(slots)
    for name in ("UNDERSTUDY_CONSENT_KEYS", "UNDERSTUDY_REVOKED", "UNDERSTUDY_DATABASE_URL"):
        os.environ.pop(name, None)
    return Settings.from_env()


def measure_planning(brief: Path, settings: Settings) -> list[tuple[str, Planning]]:
    """Plan with an empty store and index, then twice with full ones."""
    shutil.rmtree(settings.store, ignore_errors=True)
    (settings.state / "digests.sqlite").unlink(missing_ok=True)
    open_store(settings.store).put(NOOP_MARK, b"")
    time.sleep(2.5)  # files younger than the index's settling time are not remembered
    passes = []
    for name in ("cold", "warm", "warm again"):
        tell(f"planning, {name}")
        passes.append((name, _plan(brief, settings)))
    return passes


def _plan(brief: Path, settings: Settings) -> Planning:
    wall, cpu = time.perf_counter(), time.process_time()
    plan = plan_campaign(str(brief), settings)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Planning(
        round(time.perf_counter() - wall, 2),
        round(time.process_time() - cpu, 2),
        len(plan.shards),
        round(peak),
    )


class WatchedStack(Stack):
    """The project's stack, whose scheduler notes how long each of its loops took."""

    def environment(self) -> dict[str, str]:
        """See ``Stack.environment``."""
        level = f"{SCHEDULER}=DEBUG"
        return {**super().environment(), "AIRFLOW__LOGGING__NAMESPACE_LEVELS": level}


def scheduler_loops(stack: Stack) -> list[float]:
    """Seconds of each loop that the scheduler noted so far, without its sleep between them."""
    text = (stack.log_dir / "scheduler.log").read_text(errors="replace")
    return [float(found) / 1000 for found in LOOP.findall(text)]


def measure_run(brief: Path, settings: Settings) -> dict[str, Any]:
    """Run the campaign on a live stack and watch it from outside."""
    home = brief.parents[1] / "airflow"
    shutil.rmtree(home, ignore_errors=True)
    stack = WatchedStack(home, free_port(), open_doors=True, settings=settings)
    database = Database(os.environ.get("UNDERSTUDY_DATABASE_URL", ""))
    tell(f"starting Airflow on {stack.url}")
    with running_stack(stack):
        groups = {name: int(p["pid"]) for name, p in stack._state()["pids"].items()}
        before = {**cpu_by_process(groups), "database": database.cpu()}
        loops_before = len(scheduler_loops(stack))
        api, watch = stack.api(), Watch()
        start = time.perf_counter()
        run_id = api.trigger(DAG, {"brief": str(brief), "shard_size": settings.shard_size})
        while (state := _look(stack, run_id, watch)) not in ENDED:
            time.sleep(POLL_S)
        wall = time.perf_counter() - start
        after = {**cpu_by_process(groups), "database": database.cpu()}
        loops = scheduler_loops(stack)[loops_before:]
        size = database.mib(home)
        instances = api.task_instances(DAG, run_id)
        ref = api.xcom(DAG, run_id, "plan", "campaign")
    plan = CampaignPlan.model_validate_json(open_store(ref["store"]).get(ref["plan"]))
    cpu = {name: round(after[name] - before[name], 1) for name in after}
    return {
        "state": state,
        "wall": round(wall, 1),
        "shards": len(plan.shards),
        **_of_tasks(instances, wall, cpu),
        "scheduler_loop": spread(loops),
        "load_1min_at_end": round(os.getloadavg()[0], 2),
        "response": {name: spread(found) for name, found in watch.seconds.items()},
        "database_mib": size,
    }


def _of_tasks(
    instances: list[dict[str, Any]], wall: float, cpu: dict[str, float]
) -> dict[str, Any]:
    durations = [float(i["duration"]) for i in instances if i["duration"]]
    return {
        "tasks": len(instances),
        "mapped_tasks": sum(i["map_index"] >= 0 for i in instances),
        "task_states": dict(Counter(str(i["state"]) for i in instances)),
        "task_seconds_median": round(statistics.median(durations), 2),
        "wall_per_task": round(wall / len(instances), 3),
        "tasks_per_second": round(len(instances) / wall, 3),
        "cpu": cpu,
        "cpu_per_task": round(sum(cpu.values()) / len(instances), 3),
    }


def _look(stack: Stack, run_id: str, watch: Watch) -> str:
    """Ask what the UI asks while somebody looks at the run; returns its state."""
    api, run = stack.api(), quote(run_id, safe="")
    headers = {"Authorization": f"Bearer {_token(stack)}"}

    def ui(path: str) -> bytes:
        call = request.Request(f"{stack.url}/ui/{path}", headers=headers)
        with request.build_opener(request.ProxyHandler({})).open(call, timeout=120) as answer:
            found: bytes = answer.read()
            return found

    path = f"dags/{DAG}/dagRuns/{run}/taskInstances"
    watch.ask("task instances, a page of 100", lambda: api.get(path, limit=100))
    watch.ask("grid: structure", lambda: ui(f"grid/structure/{DAG}?limit=14"))
    watch.ask("grid: runs", lambda: ui(f"grid/runs/{DAG}?limit=14"))
    watch.ask("grid: task summaries", lambda: ui(f"grid/ti_summaries/{DAG}?run_ids={run}"))
    state: str = watch.ask("the run's state", lambda: api.run_state(DAG, run_id))
    return state


def _token(stack: Stack) -> str:
    return str(stack.api()._headers()["Authorization"].removeprefix("Bearer "))


def cpu_by_process(groups: dict[str, int]) -> dict[str, float]:
    """Processor seconds so far of each of Airflow's processes, its dead children included.

    The scheduler's children are the tasks: they count as ``tasks``.
    """
    tick = os.sysconf("SC_CLK_TCK")
    found = dict.fromkeys([*groups, "tasks"], 0.0)
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = int(path.parent.name), path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        group, own, dead = (
            int(rest[2]),
            int(rest[11]) + int(rest[12]),
            int(rest[13]) + int(rest[14]),
        )
        for name, leader in groups.items():
            if group == leader:
                leads = pid == leader or name != "scheduler"
                found[name if leads else "tasks"] += own / tick
                found["tasks" if name == "scheduler" else name] += dead / tick
    return found


def spread(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest, in seconds."""
    ranked = sorted(seconds)
    return {
        "median": round(statistics.median(ranked), 3),
        "p95": round(ranked[int(0.95 * (len(ranked) - 1))], 3),
        "max": round(ranked[-1], 3),
        "count": len(ranked),
    }


def machine() -> dict[str, Any]:
    """Where the figures were taken."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "store": "directory",
    }


def print_tables(body: dict[str, Any]) -> None:
    """Print the figures as Markdown tables."""
    print(f"\n| planning {body['rows']} recipients | wall s | CPU s | shards | peak MiB |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, row in body["planning"].items():
        print(f"| {name} | {row['wall']} | {row['cpu']} | {row['shards']} | {row['peak_mib']} |")
    run = body.get("run")
    if run is None:
        return
    print("\n| running it with stages that do nothing | |\n| --- | ---: |")
    for name in ("state", "shards", "tasks", "mapped_tasks", "wall", "tasks_per_second"):
        print(f"| {name.replace('_', ' ')} | {run[name]} |")
    print(f"| task seconds, median | {run['task_seconds_median']} |")
    for name, seconds in run["cpu"].items():
        print(f"| CPU s, {name} | {seconds} |")
    print(f"| CPU s a task, everything | {run['cpu_per_task']} |")
    print(f"| database MiB | {run['database_mib']} |")
    loop = run["scheduler_loop"]
    times = f"{loop['median']} / {loop['p95']} / {loop['max']}"
    print(f"| scheduler loop s, median / p95 / max of {loop['count']} | {times} |")
    print("\n| response while it runs | median s | p95 s | max s | asked |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, s in run["response"].items():
        print(f"| {name} | {s['median']} | {s['p95']} | {s['max']} | {s['count']} |")


if __name__ == "__main__":
    sys.exit(main())
