"""``./understudy devices``: the table of GPUs, and draining by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.cli import devices
from include.devices.drains import drained
from include.devices.shares import SPARE_MIB, held_shares, take
from include.devices.table import devices_here

ONE, TWO = "GPU-11aa", "GPU-22bb"
USAGE = 2


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a good GPU and one whose memory had errors."""
    table = [
        {"uuid": ONE, "name": "good", "total_mib": 8192, "free_mib": 8192, "temperature": 40},
        {"uuid": TWO, "name": "worn", "total_mib": 4096, "free_mib": 4096, "ecc_aggregate": 2},
    ]
    (tmp_path / "gpus.json").write_text(json.dumps(table))
    monkeypatch.setenv("UNDERSTUDY_DEVICE_TABLE", str(tmp_path / "gpus.json"))
    monkeypatch.setenv("UNDERSTUDY_DEVICE_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "run"


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    assert devices.main(list(arguments)) == code
    return capsys.readouterr().out


def test_the_table_says_how_they_are_and_who_uses_them(folder, capsys):
    folder.mkdir()
    share = take(folder, devices_here(folder.parent / "gpus.json"), 2048, "upscale")
    assert share is not None
    shown = said(capsys)
    share.release()
    lines = shown.splitlines()
    left = str(8192 - SPARE_MIB - 2048)
    assert lines[1].split() == ["0", "good", "healthy", "8192", "8192", "2048", left, "40", "-"]
    assert lines[2].split()[1:3] == ["worn", "degraded"]
    assert "2 uncorrected memory errors in its life" in shown
    assert f"upscale, 2048 MiB of {ONE}" in shown
    assert held_shares(folder) == []


def test_a_gpu_is_drained_by_hand_and_used_again(folder, capsys):
    shown = said(capsys, "--drain", "0", "--reason", "fan is loud", "--for", "12h", code=1)
    assert "fan is loud (by hand," in shown
    (drain,) = drained(folder).values()
    assert (drain.uuid, drain.by) == (ONE, "hand")
    assert drain.until == pytest.approx(drain.since + 12 * 3600)
    assert "may be used again" in said(capsys, "--undrain", ONE)
    assert "was not drained" in said(capsys, "--undrain", "0")
    assert drained(folder) == {}


def test_what_looks_bad_is_drained_by_looking(folder, capsys):
    table = folder.parent / "gpus.json"
    table.write_text(json.dumps([{"uuid": ONE, "name": "bad", "ecc_volatile": 1}]))
    entries = json.loads(said(capsys, "--json", code=1))
    assert entries[0]["verdict"] == "drain"
    assert entries[0]["drained"]["by"] == "health"
    assert "but will be drained at once" in said(capsys, "--undrain", ONE, code=1)


def test_what_names_no_gpu_or_two_is_refused(folder, capsys):
    for name in ("7", "GPU-"):
        assert devices.main(["--drain", name]) == USAGE
    assert "0 (GPU-11aa), 1 (GPU-22bb)" in capsys.readouterr().err


def test_without_a_driver_it_says_so(folder, capsys, monkeypatch):
    monkeypatch.delenv("UNDERSTUDY_DEVICE_TABLE")
    monkeypatch.setattr("include.devices.nvml.LIBRARY", "libno-such-driver.so.1")
    monkeypatch.setattr("include.devices.nvml.opened.__wrapped__.__defaults__", ("libno.so",))
    assert devices.main([]) == 78
    assert "no NVIDIA driver here" in capsys.readouterr().err
