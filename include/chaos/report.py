"""The rounds as rows, a table and a few words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from include.chaos.invariants import Attempts
from include.chaos.rounds import RoundFacts


def round_row(
    facts: RoundFacts, attempts: Sequence[Attempts], wrong: Sequence[str]
) -> dict[str, Any]:
    """A round as plain data: faults with their times, runs, attempts, what did not hold."""
    tried, done = sum(a.tried for a in attempts), sum(a.succeeded for a in attempts)
    return {
        "round": facts.number,
        "cold": facts.cold,
        "faults": [asdict(fault) for fault in facts.faults],
        "restarted": facts.restarted,
        "not_injected": facts.not_injected,
        "runs": [
            {
                "why": run.why,
                "state": run.state,
                "ended_s": run.ended_s,
                "delivered": run.delivered,
                "missing": run.totals.get("missing", []),
            }
            for run in facts.runs
        ],
        "seconds": round(facts.seconds, 1),
        "recovered_s": facts.recovered_s,
        "attempts": tried,
        "succeeded": done,
        "attempts_per_success": round(tried / done, 3) if done else None,
        "most_attempts_of_a_task": max((a.most for a in attempts), default=0),
        "stage_processes": sum(a.stages for a in attempts),
        "retried": _retried(facts),
        "load": [round(load, 1) for load in facts.load],
        "timed_out": facts.timed_out,
        "wrong": list(wrong),
    }


def _retried(facts: RoundFacts) -> dict[str, int]:
    """Attempts of every task that needed more than one."""
    return {
        f"{run.why} {t['task_id']}[{t['map_index']}] {t['state']}": int(t["try_number"])
        for run in facts.runs
        for t in run.tasks
        if int(t["try_number"] or 0) > 1
    }


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rounds for people."""
    head = ("round", "faults", "runs", "took", "recovered", "attempts", "most", "load", "held")
    lines = [_cells(row) for row in rows]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [head, *lines]
    )


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    kinds = ", ".join(f"{f['kind']} {f['at_s']:.0f}s" for f in row["faults"])
    kinds += "".join(f", no {kind}" for kind in row["not_injected"])
    recovered = "never" if row["recovered_s"] is None else f"{row['recovered_s']:.0f} s"
    per = row["attempts_per_success"]
    return (
        f"{row['round']}{' cold' if row['cold'] else ''}",
        kinds or "undisturbed",
        " ".join(f"{run['why']}:{run['state']}" for run in row["runs"]),
        f"{row['seconds']:.0f} s",
        recovered if row["faults"] else "-",
        f"{row['attempts']}/{row['succeeded']}" + (f" = {per:.2f}" if per else ""),
        str(row["most_attempts_of_a_task"]),
        f"{row['load'][0]:.0f}-{row['load'][1]:.0f}",
        "yes" if not row["wrong"] else f"NO ({len(row['wrong'])})",
    )


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """All rounds in a few lines."""
    broken = [row for row in rows if row["faults"]]
    injected = sum(len(row["faults"]) for row in broken)
    times = sorted(row["recovered_s"] for row in broken if row["recovered_s"] is not None)
    tried, done = sum(r["attempts"] for r in broken), sum(r["succeeded"] for r in broken)
    held = sum(not row["wrong"] for row in rows)
    lines = [
        f"{injected} faults in {len(broken)} rounds; all promises held in {held} of {len(rows)}"
    ]
    if times:
        middle = times[len(times) // 2]
        lines.append(f"recovered within {middle:.0f} s (median), {times[-1]:.0f} s (longest)")
    if done:
        lines.append(f"{tried / done:.2f} attempts for each task that succeeded")
    return "\n".join(lines)
