"""``bench cache`` runs a campaign again, unchanged and with one change at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cache import AGAIN, CHANGES, FIRST, Figure, figures, main
from benchmarks.measure import Cost


def test_each_run_is_compared_with_the_first_of_its_own_round() -> None:
    found = figures(
        {
            FIRST: [Figure(Cost(20.0, 10.0), 9), Figure(Cost(60.0, 30.0), 9)],
            AGAIN: [Figure(Cost(1.0, 1.0), 0), Figure(Cost(1.0, 2.0), 0)],
        }
    )
    assert found[AGAIN]["times_fewer"] == [10.0, 15.0]
    assert found[AGAIN]["processes"] == [0]
    assert found[AGAIN]["summary"]["wall"]["runs"] == 2


@pytest.mark.slow
def test_a_finished_campaign_starts_no_process_and_a_change_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cache.json"
    options = ["--recipients", "1", "--rounds", "1", "--seconds", "0.6", "--size", "240x180"]
    assert main([*options, "--out", str(out)]) == 0
    runs = json.loads(out.read_text())["runs"]
    assert list(runs) == [FIRST, AGAIN, *CHANGES]
    (first,) = runs[FIRST]["processes"]
    assert runs[AGAIN]["processes"] == [0]
    assert all(0 < runs[change]["processes"][0] < first for change in CHANGES)
    assert "| nothing changed | 0 |" in capsys.readouterr().out
    assert out.with_suffix(".svg").exists()


@pytest.mark.parametrize("wrong", [["--rounds", "0"], ["--threads", "0"], ["--recipients", "0"]])
def test_options_that_measure_nothing_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
