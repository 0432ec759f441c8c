"""The benchmark of devices runs where there is no GPU, and says what it measured."""

from __future__ import annotations

import json

import pytest

from benchmarks import devices


@pytest.mark.slow
def test_the_path_of_a_gpu_can_be_tried_on_the_cpu(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(devices, "BATCHES", (1, 2))
    out = tmp_path / "d.json"
    options = ["--device", "cpu", "--size", "64x48", "--repeat", "1", "--out", str(out)]
    assert devices.main(options) == 0
    result = json.loads(out.read_text())
    upscale, swap = result["upscale"], result["face_swap"]
    assert [row["batch"] for row in upscale["rows"]] == list(devices.BATCHES)
    assert [row["batch"] for row in swap["rows"]] == [0, *devices.BATCHES]
    assert all(row["frames_a_second"] > 0 for row in (*upscale["rows"], *swap["rows"]))
    assert upscale["most_apart"] <= 1
    said = capsys.readouterr().out
    assert "compact, scale 2, 64x48" in said
    assert "mesh-batched, window" in said
