from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from include.errors import Usage
from models.registry import DECLARED_ENV, backend, backends

ENTRY = {
    "name": "studio-x2",
    "stage": "upscale",
    "kind": "rrdb",
    "weights": "/models/studio.pth",
    "sha256": "5" * 64,
    "scale": 2,
    "margin": 24,
    "licence": "BSD-3-Clause",
    "origin": "trained by the studio",
}


@pytest.fixture
def declare(tmp_path, monkeypatch):
    def write(*entries: object, text: str | None = None) -> Path:
        path = tmp_path / "backends.yaml"
        path.write_text(text or yaml.safe_dump({"backends": list(entries)}))
        monkeypatch.setenv(DECLARED_ENV, str(path))
        return path

    return write


def test_without_a_file_there_are_the_built_in_backends(monkeypatch):
    monkeypatch.delenv(DECLARED_ENV, raising=False)
    assert set(backends("upscale")) == {"compact", "lanczos"}
    with pytest.raises(
        KeyError, match="no upscale backend 'studio-x2'; there are compact, lanczos"
    ):
        backend("upscale", "studio-x2")


def test_a_declared_backend_stands_beside_the_built_in_ones(declare):
    declare(ENTRY)
    assert set(backends("upscale")) == {"compact", "lanczos", "studio-x2"}
    assert "studio-x2" not in backends("face_swap")
    own = backend("upscale", "studio-x2")
    assert own.weights_sha256 == "5" * 64
    assert (own.licence, own.origin) == ("BSD-3-Clause", "trained by the studio")
    assert own.declared is not None
    assert own.declared.weights == "/models/studio.pth"


def test_what_changes_the_pixels_changes_version_or_digest(declare):
    declare(ENTRY)
    first = backend("upscale", "studio-x2")
    seen = {(first.version, first.weights_sha256)}
    for change in ({"margin": 26}, {"margin": None}, {"sha256": "6" * 64}):
        declare({**ENTRY, **change})
        own = backend("upscale", "studio-x2")
        seen.add((own.version, own.weights_sha256))
    assert len(seen) == 4
    declare({**ENTRY, "weights": "/elsewhere/studio.pth", "origin": "the same file"})
    own = backend("upscale", "studio-x2")
    assert (own.version, own.weights_sha256) == (first.version, first.weights_sha256)


def test_a_relative_path_starts_beside_the_file_and_a_uri_is_kept(declare, tmp_path):
    declare({**ENTRY, "weights": "w/a.pth"}, {**ENTRY, "name": "b", "weights": "s3://bucket/a.pth"})
    first, second = (backend("upscale", name).declared for name in ("studio-x2", "b"))
    assert first.weights == str(tmp_path / "w/a.pth")
    assert second.weights == "s3://bucket/a.pth"


def test_a_changed_file_is_read_again(declare):
    path = declare(ENTRY)
    assert "studio-x2" in backends("upscale")
    path.write_text(path.read_text().replace("studio-x2", "other-x2"))
    os.utime(path, ns=(1, 1))
    assert set(backends("upscale")) == {"compact", "lanczos", "other-x2"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha256": "abc"}, "sha256: String should match"),
        ({"scale": 3}, "scale: Input should be 2 or 4"),
        ({"scale": None}, "scale: Field required"),
        ({"margin": 0}, "margin: Input should be greater"),
        ({"licence": " "}, "licence: String should have at least 1"),
        ({"name": "a/b"}, "name: String should match"),
        ({"name": "compact"}, "name: compact is taken"),
        ({"name": "auto"}, "name: auto is taken"),
        ({"kind": "swinir"}, "no upscale kind 'swinir'; there are rrdb"),
        ({"stage": "face_swap"}, "cannot be declared for 'face_swap'"),
        ({"stage": "dance"}, "no stage 'dance'"),
        ({"colour": "red"}, "colour: Extra inputs"),
    ],
)
def test_a_wrong_entry_is_refused_with_its_number_and_field(declare, change, message):
    path = declare({**ENTRY, "name": "good"}, {**ENTRY, **change})
    with pytest.raises(Usage, match=message) as caught:
        backends("upscale")
    assert caught.value.code == "backends.malformed"
    assert f"{path}: backends[2]" in caught.value.message


@pytest.mark.parametrize("missing", ["name", "weights", "sha256", "licence", "origin"])
def test_an_incomplete_entry_is_refused_with_what_is_missing(declare, missing):
    declare({name: value for name, value in ENTRY.items() if name != missing})
    with pytest.raises(Usage, match=f"{missing}: Field required"):
        backends("upscale")


def test_a_name_is_declared_once(declare):
    declare(ENTRY, ENTRY)
    with pytest.raises(Usage, match="studio-x2 is declared twice"):
        backends("upscale")


@pytest.mark.parametrize("text", ["backends: [", "- a", "other: []", "backends: 3", "a\0b"])
def test_what_is_no_list_of_backends_is_refused(declare, text):
    declare(text=text)
    with pytest.raises(Usage, match=r"not YAML|write one list") as caught:
        backends("upscale")
    assert caught.value.code == "backends.malformed"


def test_a_missing_file_is_named_with_its_variable(monkeypatch, tmp_path):
    monkeypatch.setenv(DECLARED_ENV, str(tmp_path / "none.yaml"))
    with pytest.raises(Usage, match=r"UNDERSTUDY_BACKENDS names .*none\.yaml") as caught:
        backends("upscale")
    assert caught.value.code == "backends.missing"
    assert backend("upscale", "compact").declared is None


def test_declarations_are_read_without_heavy_imports(declare):
    declare(ENTRY)
    code = (
        "import sys; from models.registry import backend; backend('upscale', 'studio-x2');"
        "sys.exit(bool({'torch', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
