from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from include.cli.consent import main
from include.errors import Usage


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("UNDERSTUDY_STATE", str(tmp_path / "state"))
    (tmp_path / "anna.jpg").write_bytes(b"photo")
    (tmp_path / "anna.wav").write_bytes(b"voice")
    face, audio, out = (str(tmp_path / name) for name in ("anna.jpg", "anna.wav", "anna.json"))
    return [face, "--audio", audio, "--subject", "Anna", "--tenant", "acme", "--out", out]


def test_a_record_names_the_photo_the_recording_and_what_is_allowed(words, tmp_path) -> None:
    assert main([*words, "--scope", "face_swap,lip_sync,voice"]) == 0
    record = json.loads((tmp_path / "anna.json").read_bytes())["record"]
    assert record["face_sha256"] == hashlib.sha256(b"photo").hexdigest()
    assert record["audio_sha256"] == hashlib.sha256(b"voice").hexdigest()
    assert set(record["scope"]) == {"face_swap", "lip_sync", "voice"}


def test_a_recording_without_the_voice_in_scope_is_refused_when_it_is_written(
    words, tmp_path, capsys
) -> None:
    assert main([*words, "--scope", "face_swap,lip_sync"]) == Usage.exit_code
    assert "add voice to --scope" in capsys.readouterr().err
    assert not (tmp_path / "anna.json").exists()
