"""What only a GPU can show; skipped where there is none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.rrdb_weights import make_weights
from include.devices.health import judge
from include.devices.table import devices_here
from models.upscale import load_upscaler
from models.upscale.compact import Compact
from models.upscale.compact_batch import BYTES_A_PIXEL
from models.upscale.rrdb import Rrdb
from models.upscale.rrdb_file import read_parameters
from tests.models.upscale.test_batches import photographs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def apart(ours: list[np.ndarray], wanted: list[np.ndarray]) -> np.ndarray:
    return np.abs(np.stack(ours).astype(int) - np.stack(wanted))


def test_compact_is_at_most_one_code_value_off_full_precision():
    exact = Compact(2)
    exact._inner = torch.float32
    frames = photographs()
    found = apart(load_upscaler("compact", 2, device="cuda").upscale_many(frames),
                  [exact.upscale(frame) for frame in frames])  # fmt: skip
    assert found.max() <= 1
    assert (found > 0).mean() < 0.02


def test_at_scale_4_few_values_are_off_by_more_than_one():
    exact = Compact(4)
    exact._inner = torch.float32
    frames = photographs()[:3]
    found = apart(load_upscaler("compact", 4, device="cuda").upscale_many(frames),
                  [exact.upscale(frame) for frame in frames])  # fmt: skip
    assert found.max() <= 6
    assert (found > 1).mean() < 0.005


def test_the_size_of_a_batch_changes_at_most_one_code_value():
    upscaler = load_upscaler("compact", 2, device="cuda")
    frames = photographs()
    together = upscaler.upscale_many(frames)
    assert apart(together, [upscaler.upscale(frame) for frame in frames]).max() <= 1


def test_a_window_is_at_most_one_code_value_off_the_whole_frame():
    upscaler = load_upscaler("compact", 2, device="cuda")
    (frame, *_), part = photographs(), (20, 30, 50, 70)
    cut = frame[20 - 14 : 50 + 14, 30 - 14 : 70 + 14]
    got = upscaler.upscale_parts([cut], (14, 14, 44, 54))
    assert apart(got, [upscaler.upscale_part(frame, part)]).max() <= 1


def test_an_rrdb_network_is_at_most_one_code_value_off(tmp_path):
    make_weights(tmp_path / "w.safetensors", features=64, blocks=4)
    weights = read_parameters(tmp_path / "w.safetensors")
    frames = photographs()[:2]
    exact = Rrdb("own", weights)
    found = apart(Rrdb("own", weights, device="cuda").upscale_many(frames),
                  [exact.upscale(frame) for frame in frames])  # fmt: skip
    assert found.max() <= 1


def test_a_batch_takes_no_more_memory_than_it_is_counted_with():
    upscaler = Compact(2, device="cuda", memory_mib=4096)
    frames = [np.zeros((540, 960, 3), np.uint8)] * upscaler.batch(540, 960)
    upscaler.upscale_many(frames)
    torch.cuda.reset_peak_memory_stats()
    upscaler.upscale_many(frames)
    pixels = len(frames) * (540 + 28) * (960 + 28)
    assert torch.cuda.max_memory_allocated() <= pixels * BYTES_A_PIXEL


def test_the_driver_says_how_its_gpus_are():
    devices = devices_here()
    assert devices
    for device in devices:
        assert device.lost is None
        assert device.uuid.startswith("GPU-")
        assert device.total_mib > 0
        assert judge(device).verdict in ("healthy", "degraded", "drain")
