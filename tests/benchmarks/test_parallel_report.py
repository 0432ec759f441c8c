"""``bench parallel`` computes what it says from the runs that it measured."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.live import Task
from benchmarks.measure import Cost
from benchmarks.parallel_report import STEPS, Arm, amdahl, draw, figures, report

SECONDS = {"face_swap": 2.0, "lip_sync": 3.0, "upscale": 5.0, "compose": 4.0}


def arm(order: str, gap: float = 0.0) -> Arm:
    """The steps with a gap before each; every task spends half a second around its work."""
    tasks, at = {}, 100.0
    for step in STEPS:
        tasks[step] = Task(at, at + SECONDS[step])
        if order == "sequence" or step != "lip_sync":
            at += SECONDS[step] + gap
    work = {step: Cost(SECONDS[step] - 0.5, SECONDS[step] - 0.8) for step in STEPS}
    return Arm(tasks, work, "a" * 64)


def pair(gap: float = 0.0) -> dict[str, Arm]:
    return {order: arm(order, gap) for order in ("sequence", "parallel")}


def test_the_bound_has_the_longer_of_the_two_instead_of_both() -> None:
    assert amdahl(SECONDS) == pytest.approx(14 / 11)


def test_steps_side_by_side_without_any_gap_reach_the_whole_bound() -> None:
    found = figures([pair(), pair(), pair()])["summary"]
    assert found["sequence"]["median"] == pytest.approx(14)
    assert found["parallel"]["median"] == pytest.approx(11)
    assert found["saving"]["median"] == pytest.approx(3 / 14, abs=1e-4)
    assert found["share"]["median"] == pytest.approx(1)
    assert found["share"]["runs"] == 3
    assert found["work_bound"]["median"] == pytest.approx(12 / 9.5, abs=1e-4)
    assert found["cpu_sequence"]["median"] == pytest.approx(14 - 4 * 0.8)


def test_gaps_between_tasks_are_told_apart_from_what_tasks_spend_around_their_steps() -> None:
    found = figures([pair(1.0)])["summary"]
    assert found["between_sequence"]["median"] == pytest.approx(3)
    assert found["between_parallel"]["median"] == pytest.approx(2)
    assert found["around_a_step_sequence"]["median"] == pytest.approx(0.5)
    assert found["sequence"]["median"] == pytest.approx(17)


def test_two_steps_one_after_the_other_saved_nothing() -> None:
    found = figures([{"sequence": arm("sequence"), "parallel": arm("sequence")}])["summary"]
    assert found["share"]["median"] == 0
    assert found["stretch_upscale"]["median"] == 1


def test_the_report_prints_the_bound_beside_the_figure_and_draws_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = {order: Arm(found.tasks) for order, found in pair().items()}
    forms = {"delta": figures([pair()]), "nothing": figures([empty])}
    body = {"settings": {"threads": 2}, "forms": forms}
    report(body)
    said = capsys.readouterr().out
    assert "| delta | 14.00 (14.00 to 14.00) | 11.00 (11.00 to 11.00) | 1.27" in said
    assert "21.4% (21.4 to 21.4) | 21.4% (21.4 to 21.4) | 100.0%" in said
    assert "| nothing in parallel |" in said
    assert "takes 3.50 s of the path" in said
    draw(body, tmp_path / "parallel.svg")
    assert "2 threads a stage" in (tmp_path / "parallel.svg").read_text()
    ElementTree.parse(tmp_path / "parallel.svg")
