from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks.rrdb_weights import make_weights
from include.backends import declare, weights_file
from include.backends.__main__ import main
from include.contracts.manifest import BackendRef, KeyMaterial
from include.errors import BadInput, Usage
from include.stages.upscaling import upscaler_for
from models.registry import DECLARED_ENV, backend

WORDS = {"licence": "CC0-1.0", "origin": "a test"}


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "in" / "studio.safetensors"
    path.parent.mkdir()
    make_weights(path, features=8, blocks=1, scale=2)
    return path


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "conf" / "backends.yaml"
    monkeypatch.setenv(DECLARED_ENV, str(path))
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    return path


def material(name: str, scale: int = 2) -> KeyMaterial:
    found = backend("upscale", name)
    ref = BackendRef(name=name, version=found.version, weights_sha256=found.weights_sha256)
    return KeyMaterial(stage="upscale_plate", stage_version=1, backend=ref, params={"scale": scale})


def test_declared_weights_enlarge_in_a_stage(weights, file):
    made = declare(file, name="studio", weights=str(weights), **WORDS)
    assert made.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert made.margin is not None
    assert 1 < made.margin < 19
    upscaler = upscaler_for(material("studio"), threads=1)
    assert upscaler is not None
    assert upscaler.receptive_field == made.margin
    assert upscaler.upscale(np.zeros((6, 8, 3), np.uint8)).shape == (12, 16, 3)


def test_declaring_again_replaces_the_entry_and_keeps_the_others(weights, file):
    declare(file, name="a", weights=str(weights), margin=4, **WORDS)
    declare(file, name="b", weights=str(weights), margin=4, **WORDS)
    declare(file, name="a", weights=str(weights), margin=6, **WORDS)
    listed = yaml.safe_load(file.read_text())["backends"]
    assert [(item["name"], item["margin"]) for item in listed] == [("b", 4), ("a", 6)]


def test_what_cannot_be_declared_leaves_the_file_alone(weights, file, tmp_path):
    declare(file, name="a", weights=str(weights), margin=4, **WORDS)
    before = file.read_bytes()
    with pytest.raises(Usage, match="name: compact is taken"):
        declare(file, name="compact", weights=str(weights), margin=4, **WORDS)
    with pytest.raises(Usage, match="margin: 99 is more"):
        declare(file, name="b", weights=str(weights), margin=99, **WORDS)
    (tmp_path / "bad.pth").write_bytes(b"no weights")
    with pytest.raises(Usage, match="plain tensors"):
        declare(file, name="b", weights=str(tmp_path / "bad.pth"), **WORDS)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_weights_in_a_store_are_fetched_once_and_checked(weights, file, tmp_path):
    uri = f"file://{weights}"
    made = declare(file, name="far", weights=uri, opened=weights, margin=4, **WORDS)
    here = weights_file("far")
    assert here is not None
    assert here.is_relative_to(tmp_path / "state")
    assert here.read_bytes() == weights.read_bytes()
    kept = weights.read_bytes()
    weights.unlink()
    assert weights_file("far") == here
    here.write_bytes(b"damaged")
    with pytest.raises(BadInput, match="are missing"):
        weights_file("far")
    weights.write_bytes(b"another")
    with pytest.raises(BadInput, match=f"not the declared {made.sha256}") as caught:
        weights_file("far")
    assert caught.value.code == "upscaler.weights"
    weights.write_bytes(kept)
    assert weights_file("far") == here
    assert here.read_bytes() == kept


def test_a_stage_says_which_weights_are_missing(weights, file):
    declare(file, name="gone", weights=str(weights), margin=4, **WORDS)
    weights.unlink()
    with pytest.raises(BadInput, match=r"upscaler gone: .*No such file") as caught:
        upscaler_for(material("gone"), threads=1)
    assert caught.value.code == "upscaler.weights"


def test_built_in_backends_have_no_file_of_their_own(file):
    assert weights_file("compact") is None


def test_the_command_declares_and_lists_with_licence_and_origin(weights, file, capsys):
    options = ["--name", "studio", "--licence", "CC0-1.0", "--origin", "made here"]
    assert main(["declare", str(weights), *options, "--as", "s3://bucket/w.safetensors"]) == 0
    assert "studio enlarges by 2, margin" in capsys.readouterr().out
    made = backend("upscale", "studio").declared
    assert made is not None
    assert made.weights == "s3://bucket/w.safetensors"
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    for part in (
        "upscale: studio (declared)",
        "CC0-1.0",
        "made here",
        made.sha256,
        "face_swap: mesh",
    ):
        assert part in said


def test_the_command_says_what_is_wrong(weights, file, capsys, monkeypatch):
    options = ["--name", "s", "--licence", "x", "--origin", "y"]
    assert main(["declare", str(weights.with_name("none.pth")), *options]) == 2
    assert main(["declare", str(weights), *options, "--margin", "0"]) == 2
    monkeypatch.delenv(DECLARED_ENV)
    assert main(["declare", str(weights), *options]) == 2
    said = capsys.readouterr().err
    for part in ("No such file", "--margin is 0", f"set {DECLARED_ENV}"):
        assert part in said
