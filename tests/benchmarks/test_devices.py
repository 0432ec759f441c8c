"""The benchmark of devices runs where there is no GPU, and says what it measured."""

from __future__ import annotations

import json

from benchmarks import devices


def test_the_path_of_a_gpu_can_be_tried_on_the_cpu(tmp_path, capsys):
    out = tmp_path / "d.json"
    options = ["--device", "cpu", "--size", "64x48", "--repeat", "1", "--out", str(out)]
    assert devices.main(options) == 0
    result = json.loads(out.read_text())
    assert [row["batch"] for row in result["rows"]] == list(devices.BATCHES)
    assert all(row["frames_a_second"] > 0 for row in result["rows"])
    assert result["most_apart"] <= 1
    assert "cpu: compact, scale 2, 64x48" in capsys.readouterr().out
