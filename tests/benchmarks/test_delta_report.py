"""``bench delta`` computes what it says from the pairs that it measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.delta_pairs import Arm, Point, figures
from benchmarks.delta_report import draw, marginal, report
from benchmarks.measure import Cost
from include.samples.crowd import Shape

PARTS = {name: Cost(1.0, 0.5) for name in ("decode", "warp", "upscale", "encode")}
PARTS["upscale_changed"] = Cost(100.0, 100.0)  # no part of the sum


def pair(count: int, each: float, *, floor: bool = True) -> dict[str, Arm]:
    """Linear costs 80 a recipient; delta 40 once and ``each`` for everybody, and 6 to start."""
    steps = {"cpu_by_step": {"upscale": 60.0}}
    further = (Cost(88.0, 78.0), Cost(each, each)) if count > 1 else (None, None)
    return {
        "linear": Arm(Cost(), Cost(90.0 * count, 80.0 * count), further[0], {}, steps),
        "delta": Arm(
            Cost(50.0, 40.0),
            Cost(7.0 + each * count, 6.0 + each * count),
            further[1],
            PARTS if floor else {},
            {"frames": 200},
        ),
    }


def point(count: int, each: float = 4.0, pairs: int = 3):
    return figures(Point(count, 1, "compact"), [pair(count, each) for _ in range(pairs)])


def test_costs_are_per_recipient_and_a_cold_template_is_shared_by_all() -> None:
    found = point(3)["cpu_summary"]
    assert found["linear"]["median"] == 80.0
    assert found["delta_warm"]["median"] == pytest.approx((6 + 12) / 3)
    assert found["delta_cold"]["median"] == pytest.approx((40 + 6 + 12) / 3, abs=1e-3)
    assert found["times_fewer_warm"]["median"] == pytest.approx(80 / 6, abs=1e-3)
    assert found["times_fewer_warm"]["runs"] == 3


def test_a_further_recipient_is_told_apart_only_where_there_was_one() -> None:
    found = point(3)["cpu_summary"]
    assert found["times_fewer_further"]["median"] == pytest.approx(78 / 4)
    assert "times_fewer_further" not in point(1)["cpu_summary"]


def test_one_more_recipient_costs_the_difference_and_is_set_against_the_floor() -> None:
    (row,) = marginal([point(1), point(3)])
    assert (row["from"], row["to"]) == (1, 3)
    assert row["cpu_delta_warm"]["median"] == pytest.approx(4.0)
    assert row["cpu_linear"]["median"] == pytest.approx(80.0)
    assert row["cpu_over_floor"]["median"] == pytest.approx(4.0 / 2.0)
    assert row["wall_over_floor"]["median"] == pytest.approx(4.0 / 4.0)
    assert point(3)["cpu_summary"]["further_over_floor"]["median"] == pytest.approx(4.0 / 2.0)


def test_one_number_of_recipients_says_nothing_about_one_more() -> None:
    assert marginal([point(3)]) == []


def test_the_report_has_every_table_and_the_figures_are_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shape = Shape(0.15, 0.3, (480, 270), 2.0)
    surface = [
        figures(Point(2, threads, "compact", shape), [pair(2, 4.0, floor=False)])
        for threads in (1, 2)
    ]
    sample = [point(1), point(3)]
    body = {"sample": sample, "surface": surface, "marginal": marginal(sample)}
    report(body)
    said = capsys.readouterr().out
    assert "3 x compact, 1 threads" in said
    assert "face 15%, on screen 30%" in said
    assert "One more recipient" in said
    draw(body, tmp_path / "delta")
    surfaces = ("delta-surface-compact.svg", "delta-surface-compact-2-threads.svg")
    for name in ("delta-sample.svg", *surfaces):
        ElementTree.parse(tmp_path / name)
