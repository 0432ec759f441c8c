"""How stages feed an upscaler: the same bytes whatever a batch's size, and no reading ahead."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from include.devices import current
from include.devices.drains import drained
from include.devices.shares import Held, Share
from include.errors import DeviceUnavailable
from include.stages.upscaling import Reach, reach_of, upscale_crop, upscale_crops, upscale_frames
from models.face.roi import Window
from models.upscale import load_upscaler
from models.upscale.compact import Compact
from models.upscale.lanczos import Lanczos
from tests.models.portraits import astronaut

SIZE = (96, 80)


class InBatches(Lanczos):
    """Takes several at once, and notes how many."""

    def __init__(self, most: int) -> None:
        super().__init__(2)
        self.most = most
        self.seen: list[int] = []

    def batch(self, height, width):
        return self.most

    def upscale_many(self, frames):
        self.seen.append(len(frames))
        return super().upscale_many(frames)

    def upscale_parts(self, frames, part):
        self.seen.append(len(frames))
        return super().upscale_parts(frames, part)


def frames(count: int) -> list[np.ndarray]:
    """A real picture, moving."""
    width, height = SIZE
    return [astronaut()[60 + n : 60 + n + height, 150 : 150 + width].copy() for n in range(count)]


def reach(upscaler) -> Reach:
    return reach_of(upscaler, Window(30, 24, 20, 16), SIZE)


@pytest.mark.parametrize("most", [1, 2, 5, 16])
def test_the_size_of_a_batch_changes_no_byte_of_a_stages_pictures(most):
    upscaler, where = InBatches(most), reach(Lanczos(2))
    crops = [np.ascontiguousarray(frame[where.input.slice()]) for frame in frames(7)]
    wanted = [upscale_crop(Lanczos(2), crop, where) for crop in crops]
    got = list(upscale_crops(upscaler, iter(crops), where))
    np.testing.assert_array_equal(got, wanted)
    assert upscaler.seen == [min(most, 7 - done) for done in range(0, 7, most)]


@pytest.mark.parametrize("scale", [2, 4])
def test_the_path_of_a_gpu_upscales_a_window_as_the_whole_frame(scale):
    """In batches of two on the CPU, with the arithmetic that this processor has."""
    upscaler = Compact(scale, batched=True)
    upscaler._inner = torch.float32
    where = reach(upscaler)
    pictures = frames(3)
    whole = upscaler.upscale_many(pictures)
    crops = [np.ascontiguousarray(frame[where.input.slice()]) for frame in pictures]
    for made, frame in zip(upscale_crops(upscaler, crops, where), whole, strict=True):
        np.testing.assert_array_equal(made, frame[where.output.scaled(scale).slice()])


def test_on_the_cpu_nothing_is_read_ahead():
    read = 0

    def source():
        nonlocal read
        for frame in frames(4):
            read += 1
            yield frame

    where = Reach(Window(0, 0, *SIZE), Window(0, 0, *SIZE), Window(0, 0, *SIZE))
    made = upscale_crops(load_upscaler("lanczos", 2), source(), where)
    for count in range(1, 5):
        next(made)
        assert read == count


@pytest.mark.parametrize("most", [1, 3])
def test_frames_that_repeat_are_upscaled_once(most):
    first, second, third = frames(3)
    shown = [first, first, first, second, third, third, first]
    upscaler = InBatches(most)
    made = list(upscale_frames(upscaler, iter(shown)))
    assert [count for _, count in made] == [3, 1, 2, 1]
    assert sum(upscaler.seen) == 4
    assert max(upscaler.seen) == most
    for (picture, _), frame in zip(made, (first, second, third, first), strict=True):
        np.testing.assert_array_equal(picture, Lanczos(2).upscale(frame))
    assert list(upscale_frames(upscaler, [])) == []


class Failing(InBatches):
    def upscale_parts(self, frames, part):
        raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nmore")


def test_a_gpu_that_fails_at_work_is_drained_and_the_stage_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_DEVICE_DIR", str(tmp_path))
    where, crops = reach(Lanczos(2)), frames(1)
    with pytest.raises(torch.AcceleratorError):  # no device was taken: not ours to judge
        list(upscale_crops(Failing(1), crops, where))
    share = Share(Held("GPU-7", 1024, 1, "upscale"), -1, tmp_path / "x.share")
    monkeypatch.setattr(current, "_share", share)
    with pytest.raises(DeviceUnavailable, match="GPU-7 failed: CUDA error: uncorrectable ECC"):
        list(upscale_crops(Failing(1), crops, where))
    (drain,) = drained(tmp_path).values()
    assert drain.by == "failure"
    assert drain.until is not None
