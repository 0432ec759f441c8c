from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from models.upscale import degrade, patches, synthetic, train
from models.upscale.network import correct, fresh, grow


def test_resumed_training_starts_from_the_kernels_it_was_given():
    torch.manual_seed(0)
    kernels = fresh(8, 3)
    for (weight, bias), (same_weight, same_bias) in zip(
        kernels, train.Learner(kernels).kernels(), strict=True
    ):
        assert torch.equal(weight, same_weight)
        assert torch.equal(bias, same_bias)


def test_a_wider_network_predicts_what_the_learnt_one_does():
    torch.manual_seed(0)
    learnt = fresh(8, 3)
    picture = torch.rand(1, 1, 32, 32)
    wider = grow(learnt, 12, 3)
    assert [tuple(weight.shape[:2]) for weight, _ in wider] == [(12, 4), (12, 12), (16, 12)]
    torch.testing.assert_close(correct(picture, wider), correct(picture, learnt))


def test_a_deeper_network_predicts_nearly_what_the_learnt_one_does():
    torch.manual_seed(0)
    learnt = fresh(8, 3)
    picture = torch.rand(1, 1, 32, 32)
    before, after = correct(picture, learnt)[..., 4:-4, 4:-4], correct(picture, grow(learnt, 8, 4))
    assert (after - before).square().mean() < 0.5 * before.square().mean()


def test_a_network_does_not_shrink():
    with pytest.raises(ValueError, match="do not fit"):
        grow(fresh(8, 3), 6, 3)


@pytest.mark.parametrize("name", degrade.NAMES)
def test_a_degradation_halves_a_picture_and_keeps_its_mean(name):
    rgb = np.random.default_rng(0).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    small = degrade.halve(rgb, name)
    assert small.dtype == np.uint8
    assert small.shape == (32, 24, 3)
    assert abs(small.mean() - rgb.mean()) < 2


def test_an_unknown_degradation_or_odd_side_is_refused():
    with pytest.raises(ValueError, match="is unknown"):
        degrade.halve(np.zeros((4, 4, 3), np.uint8), "mystery")
    with pytest.raises(ValueError, match="odd side"):
        degrade.halve(np.zeros((5, 4, 3), np.uint8), "bicubic")


@pytest.mark.parametrize(
    "draw", [synthetic.dead_leaves, synthetic.lettering, synthetic.strokes, synthetic.fibres]
)
def test_drawn_pictures_depend_on_the_seed_only(draw):
    first, again, other = (draw(np.random.default_rng(seed), 64) for seed in (3, 3, 4))
    assert first.shape == (64, 64)
    assert first.dtype == np.float32
    assert -0.01 <= first.min() < first.max() <= 1.01
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_hundred_steps_of_training_beat_cubic_interpolation():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    drawn = [synthetic.dead_leaves(rng, 256) for _ in range(3)]
    learner = train.Learner(fresh(8, 3), rate=2.0)
    kernels = learner.fit([patches.Source(1.0, drawn[:2])], rng, 100)
    sharp = torch.from_numpy(drawn[2])[None, None]
    small = degrade.halve_bicubic(sharp)
    cubic = F.interpolate(small, scale_factor=2, mode="bicubic", align_corners=False)
    inner = slice(12, -12)  # three convolutions consume six small pixels on each side
    before = (cubic - sharp)[..., inner, inner].square().mean()
    with torch.no_grad():
        after = (train.enlarge(small, kernels) - sharp[..., inner, inner]).square().mean()
    assert after < before
