from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.rrdb_weights import make_weights
from models.upscale import load_upscaler, rrdb_network
from models.upscale.margin import TOLERANCE, default_pictures, measure_margin, spread_by_distance
from models.upscale.rrdb import Rrdb
from models.upscale.rrdb_file import read_parameters
from tests.models.upscale import rrdb_states
from tests.models.upscale.rrdb_states import CASES, ESRGAN, REAL_ESRGAN, picture, state


def saved(path: Path, tensors: object) -> Path:
    torch.save(tensors, path)
    return path


def safetensors(path: Path, header: dict, body: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
    return path


def network(tmp_path: Path, layout=REAL_ESRGAN, **shape: int) -> Rrdb:
    return Rrdb("own", read_parameters(saved(tmp_path / "w.pth", state(layout, **shape))))


def floats(upscaler: Rrdb, rgb: np.ndarray) -> torch.Tensor:
    return torch.cat(list(upscaler.codes(rgb)))


@pytest.mark.parametrize("name", CASES)
def test_every_layout_gives_what_spandrel_gives(name, tmp_path):
    layout, shape, size = CASES[name]
    upscaler = network(tmp_path, layout, **shape)
    with np.load(rrdb_states.REFERENCE) as references:
        wanted = references[name]
    assert (size[0] * upscaler.scale, size[1] * upscaler.scale, 3) == wanted.shape
    got = floats(upscaler, picture(*size)).numpy()[: wanted.shape[0], : wanted.shape[1]]
    np.testing.assert_allclose(got, wanted, atol=1e-5 * float(np.abs(wanted).max()))
    rounded = upscaler.upscale(picture(*size))
    assert np.abs(rounded - wanted.clip(0, 255)).max() <= 0.51


def test_a_file_of_the_safetensors_package_is_read_exactly():
    made = read_parameters(rrdb_states.HALVES)
    wanted = rrdb_states.halves()
    first, last = made.blocks[0][0][0][0], made.last[1]
    assert torch.equal(first, wanted["body.0.rdb1.conv1.weight"].float())
    assert torch.equal(last, wanted["conv_last.bias"].float())


@pytest.mark.parametrize("wrap", ["params_ema", "params", None])
def test_a_pth_file_may_wrap_its_tensors(wrap, tmp_path):
    tensors = state(ESRGAN)
    decoy = {"params": {"decoy": torch.zeros(1)}} if wrap == "params_ema" else {}
    path = saved(tmp_path / "w.pth", {**decoy, wrap: tensors} if wrap else tensors)
    assert torch.equal(read_parameters(path).first[0], tensors["model.0.weight"])


def without(name: str) -> dict:
    tensors = state(REAL_ESRGAN)
    del tensors[name]
    return tensors


BAD = {
    "plus": ({**state(ESRGAN), "model.1.sub.0.RDB1.conv1x1.weight": torch.zeros(1)}, "conv1x1"),
    "other": ({"layers.0.weight": torch.zeros(3, 3)}, "not an RRDBNet.*layers"),
    "empty": ({}, "not an RRDBNet"),
    "missing": (without("conv_hr.bias"), "needs hr.bias"),
    "hole": (without("body.0.rdb2.conv3.weight"), "needs dense.0.2.3.weight"),
    "shape": ({**state(REAL_ESRGAN), "conv_hr.weight": torch.zeros(8, 9, 3, 3)}, "hr is"),
    "scale 1": (state(REAL_ESRGAN, inputs=12), "enlarge by 2 or 4"),
    "grey": (state(REAL_ESRGAN, inputs=1), "takes 1 channels"),
    "nan": ({**state(REAL_ESRGAN), "conv_hr.bias": torch.full((8,), torch.nan)}, "not finite"),
    "list": ([torch.zeros(1)], "no state dict"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_another_network_is_refused_and_named(case, tmp_path):
    tensors, message = BAD[case]
    with pytest.raises(ValueError, match=message) as caught:
        read_parameters(saved(tmp_path / "w.pth", tensors))
    assert str(tmp_path / "w.pth") in str(caught.value)


class Runs:
    """What a hostile file does when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_code_in_a_pth_file_does_not_run(tmp_path):
    path, mark = tmp_path / "w.pth", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"params": Runs(mark)}, protocol=2))
    with pytest.raises(ValueError, match="plain tensors"):
        read_parameters(path)
    saved(path, {"params": Runs(mark)})
    with pytest.raises(ValueError, match="plain tensors"):
        read_parameters(path)
    assert not mark.exists()


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "body", "message"),
    [
        ({"a": TENSOR}, b"1234567", "cut short"),
        ({"a": {**TENSOR, "data_offsets": [4, 12]}}, bytes(8), "cut short"),
        ({"a": {**TENSOR, "data_offsets": [-8, 0]}}, bytes(8), "cut short"),
        ({"a": {**TENSOR, "shape": [-2]}}, bytes(8), "cut short|cannot have"),
        ({"a": {**TENSOR, "shape": [1 << 62]}}, bytes(8), "cut short"),
        ({"a": {**TENSOR, "dtype": "I64"}}, bytes(8), "cannot have"),
        ({"a": 7}, bytes(8), "cannot have"),
        ({"a": TENSOR}, bytes(8), "not an RRDBNet"),
        ([1], b"", "not an RRDBNet"),
    ],
)
def test_a_damaged_safetensors_file_is_refused(header, body, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        read_parameters(safetensors(tmp_path / "w.safetensors", header, body))


@pytest.mark.parametrize(
    "data", [b"", b"1234567", b"\xff" * 16, (4).to_bytes(8, "little") + b"{{{{"]
)
def test_what_is_no_safetensors_file_is_refused(data, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_parameters(tmp_path / "w.safetensors")


def test_a_missing_or_changed_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"w\.pth: No such file"):
        read_parameters(tmp_path / "w.pth")
    path = saved(tmp_path / "w.pth", state(ESRGAN))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    read_parameters(path, digest)
    saved(path, {**state(ESRGAN), "model.0.bias": torch.zeros(8)})
    with pytest.raises(ValueError, match=f"not the declared {digest}"):
        read_parameters(path, digest)


SHAPES = {
    "x2": {"features": 8},
    "x4": {"features": 16, "ups": 2},
    "blocks of 2x2": {"ups": 2, "inputs": 12},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_neither_strips_nor_threads_change_a_single_bit(shape, tmp_path, monkeypatch):
    upscaler = network(tmp_path, **shape)
    rgb = picture(110, 60)
    whole = floats(upscaler, rgb)
    for strip, fine in ((900, 7000), (240, 240)):
        monkeypatch.setattr(rrdb_network, "STRIP", strip)
        monkeypatch.setattr(rrdb_network, "FINE", fine)
        assert torch.equal(floats(upscaler, rgb), whole)
    monkeypatch.undo()
    parameters = read_parameters(tmp_path / "w.pth")
    for threads in (2, 3):
        assert torch.equal(floats(Rrdb("own", parameters, threads=threads), rgb), whole)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_beyond_the_theoretical_radius_a_window_is_the_frame_bit_for_bit(shape, tmp_path):
    upscaler = network(tmp_path, **shape)
    radius, scale = upscaler.receptive_field, upscaler.scale
    assert radius == upscaler.radius
    rgb = picture(2 * radius + 40, 2 * radius + 60)
    whole = floats(upscaler, rgb)
    for top, left in ((2, 4), (6, 0), (0, 10)):
        cut = floats(upscaler, rgb[top:, left:])
        y, x = (radius * scale if start else 0 for start in (top, left))
        assert torch.equal(cut[y:, x:], whole[top * scale + y :, left * scale + x :])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 3), (40, 33)])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_any_size_is_enlarged_exactly_by_the_scale(shape, size, tmp_path):
    upscaler = network(tmp_path, **shape)
    out = upscaler.upscale(picture(*size))
    assert out.dtype == np.uint8
    assert out.shape == (size[0] * upscaler.scale, size[1] * upscaler.scale, 3)
    with pytest.raises(ValueError, match="an upscaler takes uint8"):
        upscaler.upscale(picture(*size)[..., :2])


@pytest.fixture(scope="module")
def textured(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    make_weights(path, features=16, blocks=2, scale=2)
    return path


@pytest.mark.slow
def test_the_measured_margin_is_enough_on_a_picture_that_was_not_measured(textured):
    upscaler = Rrdb("own", read_parameters(textured))
    pictures = default_pictures()
    margin = measure_margin(upscaler, pictures[:2])
    assert 2 <= margin < upscaler.radius
    other = np.ascontiguousarray(pictures[2][40:170, 30:180])
    whole = upscaler.upscale(other).astype(int)
    for top, left, height, width in ((30, 40, 60, 70), (2, 60, 90, 44), (50, 10, 48, 100)):
        cut = np.ascontiguousarray(other[top : top + height, left : left + width])
        inner = slice(2 * margin, 2 * (height - margin)), slice(2 * margin, 2 * (width - margin))
        got = upscaler.upscale(cut)[inner].astype(int)
        frame = whole[2 * top : 2 * (top + height), 2 * left : 2 * (left + width)][inner]
        assert np.abs(got - frame).max() <= 1


def test_the_margin_is_where_the_spread_falls_below_the_tolerance(textured):
    upscaler = Rrdb("own", read_parameters(textured))
    chosen = default_pictures()[:1]
    margin = measure_margin(upscaler, chosen)
    profile = spread_by_distance(upscaler, chosen[0], 32)
    assert profile[margin:].max() <= TOLERANCE
    assert profile[margin - 2 : margin].max() > TOLERANCE
    assert profile[0] > 10 * TOLERANCE


def test_a_network_that_looks_far_gets_a_margin_near_its_theoretical_radius(tmp_path):
    loud = {name: value * 3 for name, value in state(REAL_ESRGAN).items()}
    upscaler = Rrdb("own", read_parameters(saved(tmp_path / "w.pth", loud)))
    assert upscaler.radius - 2 <= measure_margin(upscaler, default_pictures()[:1])


def test_a_margin_larger_than_the_network_can_look_is_refused(textured):
    with pytest.raises(ValueError, match="margin: 500 is more than the network can look"):
        Rrdb("own", read_parameters(textured), margin=500)
    assert Rrdb("own", read_parameters(textured), margin=6).receptive_field == 6


MEMORY = """
import sys, numpy as np
from pathlib import Path
from models.upscale import rrdb_network
from models.upscale.rrdb import Rrdb
from models.upscale.rrdb_file import read_parameters
rrdb_network.STRIP = 2048
upscaler = Rrdb("own", read_parameters(Path(sys.argv[1])))
rgb = np.zeros((int(sys.argv[2]), 32, 3), np.uint8)
total = sum(strip.shape[0] for strip in upscaler.codes(rgb))
assert total == 2 * rgb.shape[0]
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures_height(tmp_path):
    path = saved(tmp_path / "w.pth", state(REAL_ESRGAN, features=64, growth=4))
    peaks = []
    for height in (1024, 8192):
        command = [sys.executable, "-c", MEMORY, str(path), str(height)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(int(done.stdout) / 1024)
    one_map = 8192 * 32 * 64 * 4 / 2**20  # MiB that a feature map of the whole picture would take
    assert peaks[1] - peaks[0] < one_map / 2, peaks


@pytest.mark.parametrize(("scale", "suffix"), [(2, "safetensors"), (4, "pth")])
def test_made_weights_give_the_picture_with_a_little_texture(scale, suffix, tmp_path):
    path = tmp_path / f"w.{suffix}"
    digest = make_weights(path, features=12, blocks=1, scale=scale, seed=3)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    upscaler = Rrdb("own", read_parameters(path, digest))
    assert upscaler.scale == scale
    rgb = default_pictures()[1][:48, :64]
    added = upscaler.upscale(rgb).astype(int) - rgb.repeat(scale, 0).repeat(scale, 1)
    assert 0.3 < added.std() < 6
    assert np.abs(added).max() < 40


def test_made_weights_are_the_same_for_a_seed_and_named_as_real_esrgan_names_them(tmp_path):
    first = make_weights(tmp_path / "a.safetensors", features=8, blocks=1, seed=1)
    assert make_weights(tmp_path / "b.safetensors", features=8, blocks=1, seed=1) == first
    assert make_weights(tmp_path / "b.safetensors", features=8, blocks=1, seed=2) != first
    make_weights(tmp_path / "c.pth", features=8, blocks=1)
    names = torch.load(tmp_path / "c.pth", weights_only=True)["params_ema"]
    assert set(names) == set(state(REAL_ESRGAN))
    for wrong in ({"features": 4}, {"blocks": 0}, {"scale": 3}):
        with pytest.raises(ValueError, match="make_weights takes"):
            make_weights(tmp_path / "d.pth", **wrong)


@pytest.fixture
def declared(textured, tmp_path, monkeypatch):
    def write(**changes: object) -> None:
        entry = {
            "name": "studio",
            "stage": "upscale",
            "kind": "rrdb",
            "weights": str(textured),
            "sha256": hashlib.sha256(textured.read_bytes()).hexdigest(),
            "scale": 2,
            "margin": 12,
            "licence": "CC0-1.0",
            "origin": "a test",
        }
        file = tmp_path / "backends.yaml"
        file.write_text(json.dumps({"backends": [{**entry, **changes}]}))  # JSON is YAML
        monkeypatch.setenv("UNDERSTUDY_BACKENDS", str(file))

    return write


def test_a_declared_network_is_loaded_by_its_name(declared, textured):
    declared()
    upscaler = load_upscaler("studio", 2, threads=2)
    assert (upscaler.name, upscaler.scale, upscaler.receptive_field) == ("studio", 2, 12)
    declared(margin=None, weights="gone.pth")
    assert load_upscaler("studio", 2, weights=textured).receptive_field == 34


@pytest.mark.parametrize(
    ("changes", "scale", "message"),
    [
        ({}, 4, "studio cannot upscale by 4; take 2"),
        ({"scale": 4}, 4, "enlarge by 2, but studio is declared with scale 4"),
        ({"sha256": "0" * 64}, 2, "not the declared 000"),
        ({"weights": "gone.pth"}, 2, r"gone\.pth: No such file"),
        ({"margin": 35}, 2, "margin: 35 is more"),
    ],
)
def test_a_wrong_declaration_is_refused_when_it_is_loaded(declared, changes, scale, message):
    declared(**changes)
    with pytest.raises(ValueError, match=message):
        load_upscaler("studio", scale)
