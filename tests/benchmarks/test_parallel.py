"""``bench parallel`` runs both orders of both forms on a live Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.parallel import main
from include.settings import PROJECT


@pytest.mark.slow
def test_both_orders_of_both_forms_make_the_same_video_on_a_live_stack(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.parallel", "--pairs", "1"]
    options = ["--seconds", "0.6", "--size", "240x180", "--upscaler", "lanczos"]
    places = ["--home", str(tmp_path / "home"), "--out", str(tmp_path / "parallel.json")]
    done = subprocess.run(
        [*command, *options, *places],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    forms = json.loads((tmp_path / "parallel.json").read_text())["forms"]
    for name in ("delta", "linear"):
        (timeline,) = forms[name]["timelines"]
        line = timeline["sequence"]
        assert line["lip_sync"][1] <= line["upscale"][0], "upscale waits for lip_sync"
        for order in ("sequence", "parallel"):
            line = timeline[order]
            assert line["face_swap"][1] <= min(line["lip_sync"][0], line["upscale"][0])
            assert max(line["lip_sync"][1], line["upscale"][1]) <= line["compose"][0]
        assert forms[name]["summary"]["bound"]["median"] > 1
        assert len(forms[name]["videos"]) == 1
    assert forms["delta"]["videos"] != forms["linear"]["videos"]
    assert "Amdahl's bound" in done.stdout
    assert (tmp_path / "parallel.svg").exists()
    assert not (tmp_path / "home").exists(), "stores and Airflow's home are removed"


OPTIONS = [["--pairs", "0"], ["--slots", "1"], ["--threads", "0"], ["--forms", "delta,x"]]


@pytest.mark.parametrize("wrong", OPTIONS)
def test_options_that_measure_nothing_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit):
        main(wrong)
