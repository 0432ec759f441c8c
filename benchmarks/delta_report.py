"""What ``bench delta`` found, as tables and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import plot
from benchmarks.floor import CHANGED, PARTS
from benchmarks.measure import Spread, print_table


def marginal(sample: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What one more recipient costs: from the fewest to the most recipients that were rendered.

    Pairs of the two runs with the same number are compared, and set against the floor.
    """
    out = []
    keys = dict.fromkeys(_arms(point) for point in sample)
    for upscaler, threads in keys:
        runs = [point for point in sample if _arms(point) == (upscaler, threads)]
        few, many = min(runs, key=_count), max(runs, key=_count)
        n, m = _count(few), _count(many)
        if n == m:
            continue
        row: dict[str, Any] = {"upscaler": upscaler, "threads": threads, "from": n, "to": m}
        for kind in ("cpu", "wall"):
            more = {
                arm: [
                    (b * m - a * n) / (m - n)
                    for a, b in zip(few[kind][arm], many[kind][arm], strict=True)
                ]
                for arm in ("linear", "delta_warm")
            }
            over = zip(more["delta_warm"], few[kind]["floor"], strict=True)
            row |= {f"{kind}_{arm}": asdict(Spread.of(values)) for arm, values in more.items()}
            row[f"{kind}_over_floor"] = asdict(Spread.of(a / b for a, b in over))
        out.append(row)
    return out


def _arms(point: Mapping[str, Any]) -> tuple[str, int]:
    return point["point"]["upscaler"], point["point"]["threads"]


def _count(point: Mapping[str, Any]) -> int:
    return int(point["point"]["recipients"])


def report(body: Mapping[str, Any]) -> None:
    """Print the tables."""
    _report_counts(body["sample"], body["marginal"], "sample template")
    _report_counts(body.get("many", []), body.get("marginal_many", []), "short template")
    _report_further(body["surface"], "template")


def _report_counts(points: list[dict[str, Any]], more: list[dict[str, Any]], template: str) -> None:
    if not points:
        return
    print(f"\nSeconds a recipient, median (lowest to highest), {template}\n")
    head = ("recipients, upscaler, threads", "", "linear", "delta, cold", "delta, warm",
            "times fewer, cold", "times fewer, warm")  # fmt: skip
    names = ("linear", "delta_cold", "delta_warm", "times_fewer_cold", "times_fewer_warm")
    print_table(head, _rows(points, names))
    _report_floor(points)
    _report_further(points, "recipients, upscaler, threads", "further_over_floor")
    if more:
        print("\nOne more recipient, seconds\n")
        rows = [
            (f"{row['upscaler']}, {row['threads']} threads, {row['from']} to {row['to']}", kind,
             *(_spread(row[f"{kind}_{n}"]) for n in ("linear", "delta_warm", "over_floor")))
            for row in more for kind in ("cpu", "wall")
        ]  # fmt: skip
        print_table(("", "", "linear", "delta", "delta over floor"), rows)


def _report_further(points: list[dict[str, Any]], title: str, *also: str) -> None:
    several = [point for point in points if _count(point) > 1]
    if not several:
        return
    print("\nA further recipient, in processes that run and have their models, seconds\n")
    names = ("linear_further", "delta_further", "times_fewer_further", *also)
    head = (title, "", "linear", "delta", "times fewer", *("delta over floor" for _ in also))
    print_table(head, _rows(several, names))


def _report_floor(sample: list[dict[str, Any]]) -> None:
    print("\nThe physical floor of one recipient, seconds\n")
    rows = [
        (
            point["point"]["label"],
            kind,
            *(_spread(point[kind]["floor_parts"][name]) for name in (*PARTS, CHANGED)),
            _spread(point[f"{kind}_summary"]["floor"]),
        )
        for point in sample
        for kind in ("cpu", "wall")
    ]
    head = ("decode", "warp", "upscale ROI", "encode", "upscale only changed")
    print_table(("recipients, upscaler, threads", "", *head, "floor: first four"), rows)


def _rows(points: list[dict[str, Any]], names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for point in points:
        for kind in ("cpu", "wall"):
            found = point[f"{kind}_summary"]
            yield point["point"]["label"], kind, *(_spread(found[name]) for name in names)


def _spread(found: Mapping[str, Any]) -> str:
    return str(Spread(**found))


def draw(body: Mapping[str, Any], stem: Path) -> None:
    """Write the figures beside the JSON.

    ``delta-sample.svg`` and ``delta-many.svg`` by number of recipients, ``delta-surface-NAME.svg``
    for each upscaler with one thread a process, ``delta-surface-NAME-2-threads.svg`` with two;
    those without figures are left out.
    """
    for part, template in (("sample", "sample template"), ("many", "short template")):
        groups = {
            _short_label(point["point"]): {
                name.replace("_", ", "): Spread(**point["cpu_summary"][name])
                for name in ("linear", "delta_cold", "delta_warm")
            }
            for point in body.get(part, [])
        }
        if groups:
            figure = plot.bars(f"Processor seconds a recipient, {template}", "CPU seconds", groups)
            plot.save(stem.with_name(f"{stem.name}-{part}.svg"), figure)
    for arms in dict.fromkeys(_arms(point) for point in body["surface"]):
        points = [point for point in body["surface"] if _arms(point) == arms]
        label = _arms_label(points[0]["point"]).replace(", ", "-").replace(" ", "-")
        name = f"{stem.name}-surface-{label}.svg"
        plot.save(stem.with_name(name), _surface(points))


def _surface(points: list[dict[str, Any]]) -> str:
    """Ratios by the face's share of the frame and how long the presenter is seen, as SVG."""
    cells = {
        (f"face {shape['face_share']:.0%}", f"{shape['on_screen']:.0%}"): Spread(
            **point["cpu_summary"]["times_fewer_further"]
        )
        for point in points
        for shape in [point["point"]["shape"]]
    }
    arms = _arms_label(points[0]["point"])
    title = f"Times fewer CPU seconds than linear for a further recipient, {arms}"
    return plot.grid(title, "share of the frame", "presenter on screen", cells)


def _arms_label(point: Mapping[str, Any]) -> str:
    """The upscaler, and the threads where there are several."""
    name, threads = str(point["upscaler"]), point["threads"]
    return name if threads == 1 else f"{name}, {threads} threads"


def _short_label(point: Mapping[str, Any]) -> str:
    return f"{point['recipients']} x {_arms_label(point)}"
