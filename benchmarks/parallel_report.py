"""What runs in sequence and side by side say: ratios, Amdahl's bound, Airflow's own part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.live import Task
from benchmarks.measure import Cost, Spread, print_table

ORDERS = ("sequence", "parallel")
SWAP, LIP, UPSCALE, COMPOSE = STEPS = ("face_swap", "lip_sync", "upscale", "compose")


@dataclass(frozen=True)
class Arm:
    """One run of a graph."""

    tasks: Mapping[str, Task]
    work: Mapping[str, Cost] = field(default_factory=dict)
    """Each step's own, without what starts its process; nothing where there is none."""
    digest: str = ""
    """SHA-256 of the video."""

    @property
    def path(self) -> float:
        """The critical path, seconds: from the start of face_swap to the end of compose."""
        return self.tasks[COMPOSE].end - self.tasks[SWAP].start

    @property
    def between(self) -> float:
        """Seconds of the path in which no task ran: Airflow handing over to the next."""
        runs = sorted((task.start, task.end) for task in self.tasks.values())
        idle, end = 0.0, runs[0][1]
        for start, stop in runs[1:]:
            idle, end = idle + max(0.0, start - end), max(end, stop)
        return idle

    @property
    def timeline(self) -> dict[str, list[float]]:
        """Start and end of every task, seconds from the start of the path."""
        start = self.tasks[SWAP].start
        return {
            step: [round(task.start - start, 3), round(task.end - start, 3)]
            for step, task in self.tasks.items()
        }

    @property
    def cpu(self) -> float:
        """Processor seconds of all steps' own work."""
        return sum(cost.cpu for cost in self.work.values())


def amdahl(seconds: Mapping[str, float]) -> float:
    """How many times faster the path can become with lip sync and upscaling side by side.

    Args:
        seconds: of each step, run in sequence.
    """
    least = seconds[SWAP] + max(seconds[LIP], seconds[UPSCALE]) + seconds[COMPOSE]
    return sum(seconds[step] for step in STEPS) / least


def figures(pairs: list[dict[str, Arm]]) -> dict[str, Any]:
    """Each pair's figures, and under ``summary`` their medians and spread.

    ``bound`` is Amdahl's for the task times of the sequence, as Airflow noted them; ``work_bound``
    the same for the steps' own time. ``share`` is how much of the saving that the bound allows was
    there. ``stretch`` is how much longer a step took with the other beside it.
    """
    out: dict[str, Any] = {
        "sequence": [pair["sequence"].path for pair in pairs],
        "parallel": [pair["parallel"].path for pair in pairs],
        "between_sequence": [pair["sequence"].between for pair in pairs],
        "between_parallel": [pair["parallel"].between for pair in pairs],
    }
    out["times"] = _each(out, lambda seq, par: seq / par)
    if all(pair["sequence"].work for pair in pairs):
        tasks = [_task_seconds(pair["sequence"]) for pair in pairs]
        out["saving"] = _each(out, lambda seq, par: 1 - par / seq)
        out["bound"] = [amdahl(seconds) for seconds in tasks]
        out["bound_saving"] = [1 - 1 / bound for bound in out["bound"]]
        both = zip(out["saving"], out["bound_saving"], strict=True)
        out["share"] = [saved / allowed for saved, allowed in both]
        work = [{step: cost.wall for step, cost in p["sequence"].work.items()} for p in pairs]
        out["work_bound"] = [amdahl(seconds) for seconds in work]
        out |= _inside(pairs)
    summary = {name: asdict(Spread.of(values)) for name, values in out.items()}
    steps = {
        order: {step: _spread(p[order].tasks[step].seconds for p in pairs) for step in STEPS}
        for order in ORDERS
    }
    digests = sorted({arm.digest for pair in pairs for arm in pair.values() if arm.digest})
    lines = [{order: pair[order].timeline for order in ORDERS} for pair in pairs]
    found = {"summary": summary, "task_seconds": steps, "videos": digests, "timelines": lines}
    return {**out, **found}


def _each(out: Mapping[str, list[float]], of: Callable[[float, float], float]) -> list[float]:
    return [of(seq, par) for seq, par in zip(out["sequence"], out["parallel"], strict=True)]


def _task_seconds(arm: Arm) -> dict[str, float]:
    return {step: arm.tasks[step].seconds for step in STEPS}


def _inside(pairs: list[dict[str, Arm]]) -> dict[str, list[float]]:
    """What tasks spent around their steps' work, the work's processor time, and the stretch."""
    out: dict[str, list[float]] = {}
    for order in ORDERS:
        arms = [pair[order] for pair in pairs]
        out[f"cpu_{order}"] = [arm.cpu for arm in arms]
        out[f"around_a_step_{order}"] = [
            sum(arm.tasks[step].seconds - arm.work[step].wall for step in STEPS) / len(STEPS)
            for arm in arms
        ]
    for step in (LIP, UPSCALE):
        out[f"stretch_{step}"] = [
            pair["parallel"].tasks[step].seconds / pair["sequence"].tasks[step].seconds
            for pair in pairs
        ]
    return out


def _spread(values: Iterable[float]) -> dict[str, Any]:
    return asdict(Spread.of(values))


def report(body: Mapping[str, Any]) -> None:
    """Print the Markdown tables."""
    forms = {name: form for name, form in body["forms"].items() if "bound" in form}
    if forms:
        _print_paths(forms)
        _print_steps(forms)
    _print_overhead(body["forms"])


def _print_paths(forms: Mapping[str, Any]) -> None:
    header = ("critical path", "in sequence, s", "in parallel, s", "times faster")
    print()
    print_table(
        (*header, "Amdahl's bound", "saved", "the bound allows", "share of the bound"),
        [
            (
                name,
                *(Spread(**form["summary"][k]) for k in ("sequence", "parallel", "times", "bound")),
                *(_percent(form["summary"][k]) for k in ("saving", "bound_saving", "share")),
            )
            for name, form in forms.items()
        ],
    )


def _print_steps(forms: Mapping[str, Any]) -> None:
    print()
    print_table(
        ("task, s", *STEPS),
        [
            (f"{name} in {order}", *(Spread(**form["task_seconds"][order][s]) for s in STEPS))
            for name, form in forms.items()
            for order in ORDERS
        ],
    )


def _print_overhead(forms: Mapping[str, Any]) -> None:
    """Airflow's own part: the hand-overs, and the whole graph with tasks that do nothing."""
    empty = forms.get("nothing")
    rows = []
    for name, form in forms.items():
        for order in ORDERS:
            found = form["summary"]
            around = found.get(f"around_a_step_{order}")
            part = "-"
            if empty is not None:
                share = empty["summary"][order]["median"] / found[order]["median"]
                part = f"{100 * share:.0f}%"
            between = Spread(**found[f"between_{order}"])
            rows.append((f"{name} in {order}", between, Spread(**around) if around else "-", part))
    print()
    print_table(
        (
            "overhead",
            "between tasks, s",
            "in a task around its step, s",
            "the graph with nothing in it, of the path",
        ),
        rows,
    )
    if empty is not None:
        each = empty["summary"]["sequence"]["median"] / len(STEPS)
        print(f"\nAirflow itself takes {each:.2f} s of the path for a task, hand-over included.")


def _percent(found: Mapping[str, Any]) -> str:
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{100 * found['median']:.1f}% ({low:.1f} to {high:.1f})"


def draw(body: Mapping[str, Any], path: Path) -> None:
    """Draw the critical paths and the least that Amdahl's law allows, as SVG."""
    groups = {}
    for name, form in body["forms"].items():
        groups[name] = {f"in {o}": Spread.of(form[o]) for o in ORDERS}
        if "bound" in form:
            both = zip(form["sequence"], form["bound"], strict=True)
            groups[name]["Amdahl's bound"] = Spread.of(path / bound for path, bound in both)
    threads = body["settings"].get("threads", 1)
    several = "" if threads == 1 else f", {threads} threads a stage"
    title = f"Critical path: lip sync and upscaling{several}"
    plot.save(path, plot.bars(title, "seconds", groups))
