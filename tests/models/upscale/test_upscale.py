from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from models.upscale import BACKENDS, RECEPTIVE_FIELD, load_upscaler, weights
from models.upscale.compact import LEAST_PIXELS, STRIP
from models.upscale.network import correct

CASES = [(name, scale) for name in BACKENDS for scale in (2, 4)]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Edges, ramps and noise, so that every pixel's result is its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 5 + 1, width // 7 + 1, 3))
    blocks = np.kron(coarse, np.ones((5, 7, 1)))[:height, :width]
    return np.clip(blocks + rng.normal(0, 9, blocks.shape), 0, 255).astype(np.uint8)


def outwards(box: tuple[int, int, int, int], alignment: int, size: tuple[int, int]):
    """Grow box (top, left, bottom, right) to whole blocks, or to the frame's edge."""
    top, left = (side // alignment * alignment for side in box[:2])
    bottom, right = (-(-side // alignment) * alignment for side in box[2:])
    return top, left, min(bottom, size[0]), min(right, size[1])


def window_with_margin(frame: np.ndarray, box: tuple[int, int, int, int], margin: int):
    """Cut box (top, left, bottom, right) plus margin, stopping at the frame's edge."""
    top, left, bottom, right = box
    above, before = min(margin, top), min(margin, left)
    cut = frame[top - above : bottom + margin, left - before : right + margin]
    return cut, above, before


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_a_window_with_its_margin_gives_the_bytes_of_the_whole_frame(name, scale):
    upscaler = load_upscaler(name, scale)
    height, width = (233, 301) if scale == 2 else (131, 157)
    frame = scene(height, width)
    whole = upscaler.upscale(frame)
    rng = np.random.default_rng(1)
    boxes = [(0, 0, 40, 40), (height - 31, width - 51, height, width), (0, 100, 1, 101)]
    for _ in range(25 if scale == 2 else 8):
        top, left = int(rng.integers(height)), int(rng.integers(width))
        bottom, right = int(rng.integers(top, height)) + 1, int(rng.integers(left, width)) + 1
        boxes.append((top, left, bottom, right))
    for box in boxes:
        box = outwards(box, upscaler.alignment, (height, width))
        cut, above, before = window_with_margin(frame, box, upscaler.receptive_field)
        top, left, bottom, right = (side * scale for side in box)
        y, x = above * scale, before * scale
        got = upscaler.upscale(cut)[y : y + bottom - top, x : x + right - left]
        np.testing.assert_array_equal(got, whole[top:bottom, left:right], err_msg=str(box))


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_a_part_is_what_upscaling_everything_gives_there(name, scale):
    upscaler = load_upscaler(name, scale)
    rng = np.random.default_rng(5)
    for height, width in ((61, 87), (120, 150)):
        frame = scene(height, width)
        whole = upscaler.upscale(frame)
        for _ in range(8):
            top, left = int(rng.integers(height)), int(rng.integers(width))
            bottom = int(rng.integers(top, height)) + 1
            right = int(rng.integers(left, width)) + 1
            box = outwards((top, left, bottom, right), upscaler.alignment, (height, width))
            top, left, bottom, right = (side * scale for side in box)
            got = upscaler.upscale_part(frame, box)
            np.testing.assert_array_equal(got, whole[top:bottom, left:right], err_msg=str(box))


@pytest.mark.parametrize(("name", "scale"), CASES)
def test_the_receptive_field_is_the_declared_one_and_is_reached(name, scale):
    upscaler = load_upscaler(name, scale)
    radius = upscaler.receptive_field
    assert radius == RECEPTIVE_FIELD[name][scale]
    assert f"{radius} at scale {scale}" in BACKENDS[name].limits["receptive_field"]
    assert radius % upscaler.alignment == 0
    frame = scene(64, 64)
    before = upscaler.upscale(frame)
    seen = 0
    for seed in range(6):
        changed = frame.copy()
        changed[32, 32] = np.random.default_rng(seed).choice([0, 255], 3)
        moved = np.nonzero((upscaler.upscale(changed) != before).any(axis=2))
        for side in moved:  # whole blocks between the changed pixel's and the one that moved
            block = upscaler.alignment
            seen = max(seen, block * int(abs(side // (scale * block) - 32 // block).max()))
    assert seen <= radius
    # Rounding to 8 bits may hide the outermost, weakest weights.
    assert seen >= radius - 3 * upscaler.alignment


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (STRIP + 1, 20), (150, 140)])
@pytest.mark.parametrize(("name", "scale"), CASES)
def test_any_size_is_upscaled_exactly_by_the_scale(name, scale, size):
    out = load_upscaler(name, scale).upscale(scene(*size))
    assert out.dtype == np.uint8
    assert out.shape == (size[0] * scale, size[1] * scale, 3)


@pytest.mark.parametrize("size", [(37, 41), (260, 300)], ids=["small", "several strips"])
def test_threads_do_not_change_the_result(size):
    frame = scene(*size)
    one = load_upscaler("compact", 2, threads=1).upscale(frame)
    for threads in (2, 3):
        several = load_upscaler("compact", 2, threads=threads).upscale(frame)
        np.testing.assert_array_equal(several, one)


def test_threads_of_the_process_are_left_as_they_were():
    before = torch.get_num_threads(), cv2.getNumThreads()
    load_upscaler("compact", 2, threads=3).upscale(scene(20, 20))
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_one_frame_can_be_upscaled_again_and_is_not_written_to():
    upscaler, frame = load_upscaler("compact", 4), scene(50, 60)
    kept = frame.copy()
    first = upscaler.upscale(frame)
    np.testing.assert_array_equal(frame, kept)
    np.testing.assert_array_equal(upscaler.upscale(np.asfortranarray(frame)), first)


def test_flat_colour_stays_exactly_as_it_is():
    upscaler = load_upscaler("compact", 2)
    for value in range(0, 256, 15):
        flat = np.full((20, 20, 3), value, np.uint8)
        assert set(np.unique(upscaler.upscale(flat))) == {value}


def test_weights_are_the_declared_file_and_small():
    path = Path(weights.__file__).with_name("compact_x2.npz")
    digest = BACKENDS["compact"].weights_sha256
    assert digest is not None
    kernels = weights.load(path, digest)
    assert path.stat().st_size < 4 << 20
    assert sum(w.numel() + b.numel() for w, b in kernels) < 250_000


def test_changed_or_missing_weights_are_refused(tmp_path):
    path = tmp_path / "other.npz"
    with pytest.raises(ValueError, match="are missing"):
        weights.load(path, "0" * 64)
    path.write_bytes(b"not weights")
    with pytest.raises(ValueError, match="not the declared"):
        weights.load(path, "0" * 64)


def test_saved_weights_read_back_the_same(tmp_path):
    kernels = [(torch.randn(4, 1, 3, 3), torch.randn(4))]
    digest = weights.save(tmp_path / "w.npz", kernels)
    ((weight, bias),) = weights.load(tmp_path / "w.npz", digest)
    assert torch.equal(weight, kernels[0][0])
    assert torch.equal(bias, kernels[0][1])


@pytest.mark.parametrize(
    ("name", "scale", "options", "message"),
    [
        ("sharp", 2, {}, "no upscale backend 'sharp'"),
        ("compact", 3, {}, "cannot upscale by 3"),
        ("compact", 2, {"threads": 0}, "must be at least 1"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_the_reason(name, scale, options, message):
    with pytest.raises(ValueError, match=message):
        load_upscaler(name, scale, **options)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
    ],
)
@pytest.mark.parametrize("name", BACKENDS)
def test_what_is_not_a_picture_is_refused(name, bad):
    with pytest.raises(ValueError, match="an upscaler takes uint8"):
        load_upscaler(name, 2).upscale(bad)


def test_backends_can_be_listed_without_heavy_imports():
    code = (
        "import sys, models.upscale; sys.exit(bool({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_small_windows_stay_on_the_algorithm_of_large_ones():
    """The guard's constant is PyTorch's own threshold; 8 bits hide a difference, floats do not."""
    upscaler = load_upscaler("compact", 2)
    torch.manual_seed(0)
    big = torch.rand(1, 1, 400, 400)
    with torch.inference_mode():
        whole = correct(big, upscaler._kernels)
        side = 2 * (int(LEAST_PIXELS**0.5) // 2 + 1)
        part = correct(big[..., 30 : 30 + side, 50 : 50 + side].contiguous(), upscaler._kernels)
    inner = 2 * (side - 2 * upscaler.receptive_field)
    assert torch.equal(part, whole[..., 60 : 60 + inner, 100 : 100 + inner])


GROWTH = """
import numpy as np
from pathlib import Path
from include.stages.__main__ import limit_libraries

limit_libraries(1)
from models.upscale import load_upscaler

upscaler = load_upscaler("compact", 2)

def resident_mib(shapes):
    for height, width in shapes:
        upscaler.upscale(np.zeros((height, width, 3), np.uint8))
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024

first = resident_mib([(230 + 2 * i, 270 - 2 * i) for i in range(12)])
print(resident_mib([(240 + 2 * i, 290 - 2 * i) for i in range(60)]) - first)
"""


def test_memory_does_not_grow_with_the_number_of_window_shapes():
    """Sixty GOPs with windows of their own took 40 MiB more before the library was bounded."""
    command = [sys.executable, "-c", GROWTH]
    done = subprocess.run(command, cwd=Path.cwd(), capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20
