"""Batches, and the path that a GPU takes, run on the CPU."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
import torch

from benchmarks.rrdb_weights import make_weights
from models.upscale import BACKENDS, load_upscaler
from models.upscale.batches import frames_that_fit, in_halves
from models.upscale.compact import Compact
from models.upscale.compact_batch import enlarge
from models.upscale.images import HELD_OUT, read
from models.upscale.rrdb import Rrdb, half_holds
from models.upscale.rrdb_file import Parameters, read_parameters
from tests.models.upscale.rrdb_states import REAL_ESRGAN, state

PARTS = {"whole": (0, 0, 71, 93), "inner": (12, 20, 40, 66), "corner": (40, 50, 71, 93)}
CPU = torch.device("cpu")


@cache
def photographs(height: int = 71, width: int = 93) -> list[np.ndarray]:
    """The middles of real pictures at half their size, odd sides on purpose."""
    made = []
    for image in HELD_OUT:
        small = cv2.resize(read(image), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        if small.shape[0] >= height and small.shape[1] >= width:
            top, left = (small.shape[0] - height) // 2, (small.shape[1] - width) // 2
            made.append(np.ascontiguousarray(small[top : top + height, left : left + width]))
    assert len(made) >= 6
    return made


@cache
def compact(scale: int) -> Compact:
    """On the CPU in full precision, one picture at a time."""
    upscaler = Compact(scale)
    upscaler._inner = torch.float32
    return upscaler


def enlarged(
    part: tuple[int, int, int, int], scale: int, kind: torch.dtype, count: int = 7
) -> np.ndarray:
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(photographs()[:count]))
        one = compact(scale)
        return enlarge(pixels, part, scale, one._kernels, one._margin, kind).numpy()


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", BACKENDS)
def test_on_the_cpu_the_size_of_a_batch_changes_no_byte(name, scale):
    upscaler, frames = load_upscaler(name, scale), photographs()[:3]
    assert upscaler.batch(540, 960) == 1
    for made, frame in zip(upscaler.upscale_many(frames), frames, strict=True):
        np.testing.assert_array_equal(made, upscaler.upscale(frame))
    part = PARTS["inner"]
    for made, frame in zip(upscaler.upscale_parts(frames, part), frames, strict=True):
        np.testing.assert_array_equal(made, upscaler.upscale_part(frame, part))


@pytest.mark.parametrize("part", PARTS.values(), ids=list(PARTS))
@pytest.mark.parametrize("scale", [2, 4])
def test_in_full_precision_the_path_of_a_gpu_gives_the_bytes_of_the_cpus(scale, part):
    made = enlarged(part, scale, torch.float32, 3)
    for one, frame in zip(made, photographs()[:3], strict=True):
        np.testing.assert_array_equal(one, compact(scale).upscale_part(frame, part))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_in_half_precision_no_pixel_is_more_than_one_code_value_off(kind):
    made = enlarged(PARTS["whole"], 2, kind)
    wanted = np.stack([compact(2).upscale(frame) for frame in photographs()])
    apart = np.abs(made.astype(int) - wanted)
    assert apart.max() == 1  # and it is another arithmetic
    assert (apart > 0).mean() < (0.01 if kind == torch.float16 else 0.08)


def test_at_scale_4_half_precision_is_off_by_more_than_one_code_value_in_few_pixels():
    """Pixels on edges: what the first pass rounds differently, the second one sharpens."""
    made = enlarged(PARTS["whole"], 4, torch.float16, 3)
    wanted = np.stack([compact(4).upscale(frame) for frame in photographs()[:3]])
    apart = np.abs(made.astype(int) - wanted)
    assert apart.max() <= 6
    assert (apart > 1).mean() < 0.001


@pytest.mark.parametrize("scale", [2, 4])
def test_compact_in_batches_is_compact(scale):
    """From arrays to arrays, with the arithmetic of this processor in both."""
    frames = photographs()[:3]
    batched = Compact(scale, batched=True, memory_mib=12 if scale == 2 else 60)
    assert batched.batch(71, 93) == 2  # so there is a full batch and one that is not
    for made, frame in zip(batched.upscale_many(frames), frames, strict=True):
        apart = np.abs(made.astype(int) - load_upscaler("compact", scale).upscale(frame))
        assert (apart > 1).mean() < (0.002 if scale == 4 else 1e-12)
        assert made.flags.c_contiguous
        assert made.flags.writeable


def test_pictures_of_different_sizes_are_no_batch():
    frames = [photographs()[0], photographs()[1][:-2]]
    with pytest.raises(ValueError, match="one size"):
        Compact(2, batched=True).upscale_many(frames)
    assert Compact(2, batched=True).upscale_many([]) == []


def test_a_batch_is_as_large_as_its_memory_allows():
    small, large = (Compact(2, batched=True, memory_mib=mib) for mib in (1024, 4096))
    assert small.batch(540, 960) < large.batch(540, 960) <= 16
    assert frames_that_fit(1, 1 << 30) == 1


@pytest.mark.parametrize("room", [1, 2, 3, 8])
def test_without_room_for_all_fewer_are_worked_on_at_a_time(room):
    sizes: list[int] = []

    def work(frames):
        if len(frames) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(len(frames))
        return [frame + 1 for frame in frames]

    frames = [np.full((1, 1, 3), value, np.uint8) for value in range(8)]
    assert [int(made[0, 0, 0]) for made in in_halves(work, frames)] == list(range(1, 9))
    assert max(sizes) <= room


def test_without_room_for_one_it_is_out_of_memory():
    def work(frames):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError, match="room for a picture of 5x4"):
        in_halves(work, [np.zeros((4, 5, 3), np.uint8)] * 3)


def parameters(tmp_path, blocks: int = 1) -> Parameters:
    make_weights(tmp_path / "w.safetensors", features=16, blocks=blocks)
    return read_parameters(tmp_path / "w.safetensors")


def test_an_rrdb_network_takes_several_pictures_at_once(tmp_path):
    upscaler = Rrdb("own", parameters(tmp_path))
    frames = photographs()[:3]
    for made, frame in zip(upscaler._enlarge(frames), frames, strict=True):
        assert np.abs(made.astype(int) - upscaler.upscale(frame)).max() <= 1


def test_an_rrdb_network_in_half_precision_is_at_most_one_code_value_off(tmp_path):
    weights = parameters(tmp_path)
    assert half_holds(weights, CPU)
    exact, half = Rrdb("own", weights), Rrdb("own", weights, kind=torch.float16)
    for frame in photographs(40, 52)[:2]:
        assert np.abs(half.upscale(frame).astype(int) - exact.upscale(frame)).max() <= 1


def test_weights_that_leave_the_range_of_half_precision_are_found_out(tmp_path):
    tensors = {name: 30 * tensor for name, tensor in state(REAL_ESRGAN).items()}
    torch.save(tensors, tmp_path / "w.pth")
    assert not half_holds(read_parameters(tmp_path / "w.pth"), CPU)
