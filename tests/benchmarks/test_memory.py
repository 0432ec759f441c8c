"""``bench memory`` says how peaks of the same stage compare, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.memory import LARGEST, draw, figures, main, report
from include.stages.specs import STAGES

PAIRS = [
    {"10": {"track_face": 200.0, "compose": 400.0}, "60": {"track_face": 300.0, "compose": 420.0}},
    {"10": {"track_face": 210.0, "compose": 400.0}, "60": {"track_face": 500.0, "compose": 440.0}},
    {"10": {"track_face": 190.0, "compose": 400.0}, "60": {"track_face": 290.0, "compose": 400.0}},
]


def test_a_stage_is_compared_with_itself_and_the_largest_with_the_largest() -> None:
    found = figures(PAIRS)
    assert found["compose"]["ratio"]["median"] == pytest.approx(1.05)
    assert found["track_face"]["60"]["high"] == 500.0
    assert found[LARGEST]["60"]["high"] == 500.0, "another stage may be the largest"
    assert found[LARGEST]["ratio"]["high"] == pytest.approx(1.25)
    assert found[LARGEST]["ratio"]["runs"] == 3


def test_the_table_has_every_length_and_the_figure_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"summary": {"1": figures(PAIRS), "2": figures(PAIRS)}}
    report(body)
    said = capsys.readouterr().out
    assert "| stage, peak MiB | 10 s | 60 s | 60 s over 10 s |" in said
    assert "| compose | 400 (400 to 400) | 420 (400 to 440) | 1.05 (1.00 to 1.10) |" in said
    assert "2 threads a process" in said
    draw(body, tmp_path / "memory.svg")
    assert "the largest" in (tmp_path / "memory.svg").read_text()


@pytest.mark.slow
def test_every_stage_is_measured_and_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    out = tmp_path / "memory.json"
    options = ["--pairs", "1", "--seconds", "0.6,1.2", "--size", "240x180", "--out", str(out)]
    assert main(options) == 0
    first = json.loads(out.read_text())
    (pair,) = first["pairs"]["1"]
    assert all(set(peaks) == set(STAGES) for peaks in pair.values())
    assert all(peak > 20 for peaks in pair.values() for peak in peaks.values())
    assert main([*options, "--add"]) == 0
    assert json.loads(out.read_text()) == first, "nothing was lacking"
    with pytest.raises(SystemExit, match="leave out --add"):
        main([*options[:-4], "--size", "320x180", "--out", str(out), "--add"])


@pytest.mark.parametrize("wrong", [["--pairs", "0"], ["--threads", "0"], ["--seconds", "10"]])
def test_options_that_compare_nothing_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
