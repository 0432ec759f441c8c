"""Which device a stage's process ends up on, with made-up GPUs and the PyTorch that is here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from include.devices.drains import Drain, drained, remember
from include.devices.shares import held_shares
from include.settings import PROJECT

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")

STAGE = """
import sys
from include.contracts.manifest import BackendRef, KeyMaterial
from include.errors import UnderstudyError
from include.stages.upscaling import upscaler_for
from models.registry import backend

name = sys.argv[1]
found = backend("upscale", name)
ref = BackendRef(name=name, version=found.version, weights_sha256=found.weights_sha256)
material = KeyMaterial(stage="upscale", stage_version=3, backend=ref, params={"scale": 2})
try:
    upscaler = upscaler_for(material, 1)
except UnderstudyError as error:
    print(error.code, error.message)
    sys.exit(error.exit_code)
print(getattr(upscaler, "_device", "cpu"))
"""


def stage(folder: Path, device: str, name: str = "compact") -> tuple[int, str]:
    table = [{"uuid": "GPU-made-up", "name": "x", "total_mib": 8192, "free_mib": 8192}]
    (folder / "gpus.json").write_text(json.dumps(table))
    env = {
        **os.environ,
        "UNDERSTUDY_DEVICE": device,
        "UNDERSTUDY_DEVICE_TABLE": str(folder / "gpus.json"),
        "UNDERSTUDY_DEVICE_DIR": str(folder),
        "UNDERSTUDY_DEVICE_WAIT_S": "0",
        "PYTHONPATH": str(PROJECT),
    }
    command = [sys.executable, "-c", STAGE, name]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.strip()


def test_auto_computes_on_the_cpu_where_a_gpu_cannot_be_used(tmp_path):
    assert stage(tmp_path, "auto") == (0, "cpu")
    assert held_shares(tmp_path) == []


def test_a_gpu_that_was_asked_for_and_cannot_be_used_is_an_error(tmp_path):
    code, said = stage(tmp_path, "cuda")
    if torch.version.cuda is None:
        assert (code, said.split()[0]) == (78, "device.torch")
    else:  # a PyTorch for GPUs that finds none: the made-up one is drained
        assert (code, said.split()[0]) == (75, "device.unavailable")
        assert list(drained(tmp_path)) == ["GPU-made-up"]
    assert held_shares(tmp_path) == []


def test_when_all_gpus_are_drained_the_stage_is_tried_again_later(tmp_path):
    remember(tmp_path, Drain("GPU-made-up", "smells", 1.0))
    code, said = stage(tmp_path, "cuda")
    assert (code, said.split()[0]) == (75, "device.unavailable")
    assert "are drained: smells; see ./understudy devices" in said


def test_what_a_gpu_cannot_do_takes_no_share(tmp_path):
    assert stage(tmp_path, "cuda", "lanczos") == (0, "cpu")
    assert not (tmp_path / "lock").exists()
