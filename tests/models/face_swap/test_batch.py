"""The swap of many frames at once beside that of one: the same picture, wherever it is made."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from models.face.roi import face_window
from models.face_swap import batch_ops as ops
from models.face_swap import load_swapper, warp
from models.face_swap.batch import BatchedMeshSwapper
from models.face_swap.batch_map import mesh_maps
from models.face_swap.reference import ColourReference
from tests.models.portraits import astronaut, hopper, landmarks

CPU = torch.device("cpu")


def noise(height, width, channels=1, seed=0):
    made = np.random.default_rng(seed).normal(100, 40, (height, width, channels))
    return np.squeeze(made.astype(np.float32))


def planes(picture):
    shaped = picture[..., None] if picture.ndim == 2 else picture
    return torch.from_numpy(np.ascontiguousarray(shaped)).permute(2, 0, 1)[None]


def picture(found):
    return np.squeeze(found[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("size", [(31, 46), (5, 7), (4, 4)])
@pytest.mark.parametrize("sigma", [0.8, 1.5])
def test_a_blur_is_opencvs(size, sigma):
    source = noise(*size)
    wanted = cv2.GaussianBlur(source, (0, 0), sigma)
    assert picture(ops.gaussian(planes(source), sigma)) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(
    ("ours", "opencvs"),
    [
        (ops.median5, lambda p: cv2.medianBlur(p, 5)),
        (ops.pyr_down, cv2.pyrDown),
        (lambda p: ops.resize(p, 62, 92), lambda p: cv2.resize(p, (92, 62))),
        (lambda p: ops.resize(p, 13, 20), lambda p: cv2.resize(p, (20, 13))),
        (
            lambda p: ops.area(p, 13, 20),
            lambda p: cv2.resize(p, (20, 13), interpolation=cv2.INTER_AREA),
        ),
        (
            lambda p: ops.nearest(p, 13, 20),
            lambda p: cv2.resize(p, (20, 13), interpolation=cv2.INTER_NEAREST),
        ),
    ],
)
def test_an_operation_is_its_namesake(ours, opencvs):
    source = noise(31, 46)
    assert picture(ours(planes(source))) == pytest.approx(opencvs(source), abs=1e-3)


def test_sampling_is_opencvs_and_nothing_lies_beyond_the_border():
    source = noise(40, 50, 4)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-20, 70, (30, 30)), rng.uniform(-20, 60, (30, 30))
    x, y = (np.round(each * 32).astype(np.float32) / 32 for each in (x, y))  # as cv2 rounds them
    x[0, 0] = y[0, 0] = -1e4
    found = ops.remap(planes(source), *(torch.from_numpy(each)[None] for each in (x, y)))
    wanted = cv2.remap(source, x, y, cv2.INTER_LINEAR)
    assert np.moveaxis(found[0].numpy(), 0, 2) == pytest.approx(wanted, abs=1e-2)


@pytest.fixture(scope="module")
def shot():
    """A face that moves by fractions of a pixel: frames, landmarks, and the shot's reference."""
    whole, points = hopper(), landmarks("hopper")
    window = face_window([points], (whole.shape[1], whole.shape[0]))
    part, local = whole[window.slice()].copy(), window.to_local(points)
    frames, marks = [], []
    for number in range(3):
        shift = np.float32((1.3 * number, -0.7 * number))
        move = np.float32([[1, 0, shift[0]], [0, 1, shift[1]]])
        size = (part.shape[1], part.shape[0])
        frames.append(cv2.warpAffine(part, move, size, borderMode=cv2.BORDER_REPLICATE))
        moved = local.copy()
        moved[:, :2] += shift
        marks.append(moved)
    return frames, marks, ColourReference.measure([(part, local)])


@pytest.fixture(scope="module")
def single():
    return load_swapper("mesh", astronaut(), landmarks("astronaut"))


@pytest.fixture(scope="module")
def batched():
    return load_swapper("mesh-batched", astronaut(), landmarks("astronaut"))


@pytest.mark.parametrize("step", [1, 2])
def test_a_map_is_the_one_that_is_made_alone(shot, step):
    frames, marks, reference = shot
    height, width = frames[0].shape[:2]
    found = mesh_maps(marks[:2], reference.points, width, height, step, CPU)
    for k in range(2):
        wanted = warp.mesh_map(marks[k], reference.points, width, height, step)
        sure = cv2.erode(wanted.cover, np.ones((9, 9))) == 255
        apart = np.hypot(found.x[k] - wanted.x, found.y[k] - wanted.y)[sure]
        assert np.percentile(apart, 99) < 0.25, "pixels of the layout"
        assert (np.abs(found.cover[k].numpy() - wanted.cover) > 128).mean() < 0.01


def test_the_picture_is_that_of_single_frames_but_for_little(shot, single, batched):
    frames, marks, reference = shot
    found = batched.swap_many(frames, marks, reference)
    for (ours, opacity), frame, points in zip(found, frames, marks, strict=True):
        wanted, wanted_opacity = single.swap(frame, points, reference)
        apart = np.abs(ours.astype(int) - wanted).max(2)
        inside = wanted_opacity > 0
        assert apart[inside].mean() < 2.5
        assert (apart[inside] > 8).mean() < 0.06
        assert apart.max() < 48
        assert np.abs(opacity.astype(int) - wanted_opacity).mean() < 1


def test_where_the_opacity_is_zero_the_pixel_is_the_inputs(shot, batched):
    frames, marks, reference = shot
    before = [frame.copy() for frame in frames]
    for (new, opacity), frame in zip(
        batched.swap_many(frames, marks, reference), frames, strict=True
    ):
        assert np.array_equal(new[opacity == 0], frame[opacity == 0])
        assert 0.2 < (opacity > 0).mean() < 0.6
    assert all(np.array_equal(a, b) for a, b in zip(before, frames, strict=True))


def test_frames_that_nobody_is_swapped_in_come_back_as_they_were(shot, batched):
    frames, marks, reference = shot
    away = marks[1] + np.float32([5000, 0, 0])
    new = batched.swap_many(frames[:2], [marks[0], away], reference)
    assert np.array_equal(new[1][0], frames[1])
    assert not new[1][1].any()
    assert new[0][1].any()


def test_half_precision_changes_at_most_one_code_value(shot, batched):
    frames, marks, reference = shot
    half = BatchedMeshSwapper(astronaut(), landmarks("astronaut"), device="cpu")
    half._kind = torch.float16
    pairs = zip(
        half.swap_many(frames, marks, reference),
        batched.swap_many(frames, marks, reference),
        strict=True,
    )
    for (ours, _), (wanted, _) in pairs:
        assert np.abs(ours.astype(int) - wanted).max() <= 1


def test_a_batch_is_cut_to_the_memory_that_it_may_take():
    small = BatchedMeshSwapper(astronaut(), landmarks("astronaut"), device="cpu", memory_mib=100)
    assert small.batch(270, 270) == 2
    assert small.batch(2000, 2000) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(shot, batched):
    frames, marks, reference = shot
    there = load_swapper("mesh-batched", astronaut(), landmarks("astronaut"), device="cuda")
    found = there.swap_many(frames, marks, reference)
    for (ours, _), (wanted, _) in zip(
        found, batched.swap_many(frames, marks, reference), strict=True
    ):
        apart = np.abs(ours.astype(int) - wanted)
        assert (apart > 2).mean() < 0.002
