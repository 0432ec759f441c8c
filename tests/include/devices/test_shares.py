"""Several processes on made-up GPUs: real processes, real locks, real kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.devices.choice import DeviceChoice, parse_device
from include.devices.current import acquire, check, wanted
from include.devices.drains import Drain, drained, forget, remember
from include.devices.health import Readings
from include.devices.shares import SPARE_MIB, held_shares, runtime_folder, take
from include.devices.table import devices_here, visible
from include.errors import DeviceUnavailable, Misconfigured, Usage
from include.settings import PROJECT, Settings

TAKER = """
import os, sys
from include.devices.current import acquire
from include.errors import UnderstudyError
from include.settings import Settings

try:
    share = acquire(Settings.from_env(), "upscale", int(sys.argv[1]))
except UnderstudyError as error:
    print("no", error.code, error.message, flush=True)
    sys.exit(error.exit_code)
print("has", share.uuid, os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
sys.stdin.read()
"""
BIG, SMALL = "GPU-big", "GPU-small"


def gpu(uuid: str, mib: int, **readings: object) -> dict[str, object]:
    return {"uuid": uuid, "name": "made up", "total_mib": mib, "free_mib": mib, **readings}


class Machine:
    """A folder, a table of GPUs, and processes that want shares."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.table = folder / "run", folder / "gpus.json"
        self.folder.mkdir()
        self.started: list[subprocess.Popen[str]] = []
        self.has(gpu(BIG, 8192 + SPARE_MIB), gpu(SMALL, 4096 + SPARE_MIB))

    def has(self, *devices: dict[str, object]) -> None:
        self.table.write_text(json.dumps(devices))

    def env(self, device: str = "cuda", wait_s: float = 0.0) -> dict[str, str]:
        own = {
            "UNDERSTUDY_DEVICE": device,
            "UNDERSTUDY_DEVICE_TABLE": str(self.table),
            "UNDERSTUDY_DEVICE_DIR": str(self.folder),
            "UNDERSTUDY_DEVICE_WAIT_S": str(wait_s),
            "PYTHONPATH": str(PROJECT),
        }
        return {**{k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}, **own}

    def start(
        self, mib: int, device: str = "cuda", wait_s: float = 0.0, code: str = TAKER
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(mib)],
            env=self.env(device, wait_s),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def says(self, mib: int, device: str = "cuda") -> str:
        """A process that wants a share and keeps it; what it got."""
        return said(self.start(mib, device))


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def machine(tmp_path) -> Iterator[Machine]:
    made = Machine(tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


def test_processes_share_gpus_until_their_memory_is_spoken_for(machine):
    got = [machine.says(4096) for _ in range(4)]
    assert got[:3].count(f"has {BIG} {BIG}") == 2
    assert got[:3].count(f"has {SMALL} {SMALL}") == 1
    assert got[3].startswith("no device.unavailable 4096 MiB are free on none of 2 GPUs")
    assert machine.started[3].wait() == 75
    held = held_shares(machine.folder)
    assert sorted(share.mib for share in held) == [4096] * 3
    assert {share.pid for share in held} == {each.pid for each in machine.started[:3]}


def test_the_gpu_with_most_memory_left_is_taken(machine):
    assert machine.says(1024).split()[1] == BIG  # 8192 against 4096
    assert machine.says(5000).split()[1] == BIG  # 7168
    assert machine.says(1024).split()[1] == SMALL  # 2168 against 4096


def test_a_killed_process_gives_its_share_back(machine):
    first = machine.start(8192)
    assert said(first) == f"has {BIG} {BIG}"
    assert machine.says(8192).startswith("no device.unavailable")
    waiting = machine.start(8192, wait_s=60)
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert said(waiting) == f"has {BIG} {BIG}"
    assert [share.pid for share in held_shares(machine.folder)] == [waiting.pid]


def test_what_a_stage_process_starts_does_not_keep_its_share(machine):
    """The child, ended by the end of its input, lives on when its parent was killed."""
    child = "import subprocess; subprocess.Popen(['cat'], stdout=2); os.kill(os.getpid(), 9)"
    process = machine.start(8192, code=TAKER.replace("sys.stdin.read()", child))
    assert said(process) == f"has {BIG} {BIG}"
    assert process.wait() == -signal.SIGKILL
    assert held_shares(machine.folder) == []


def test_many_at_once_never_take_more_than_there_is(machine):
    machine.has(gpu(BIG, 5 * 1000 + SPARE_MIB))
    crowd = [machine.start(1000, wait_s=3.0) for _ in range(8)]
    got = [said(process).split()[0] for process in crowd]
    assert got.count("has") == 5
    assert sum(share.mib for share in held_shares(machine.folder)) == 5000


def test_one_gpu_can_be_named_and_others_hidden(machine, monkeypatch):
    assert machine.says(1024, "cuda:1").split()[1] == SMALL
    devices = devices_here(machine.table)
    assert [d.uuid for d in visible(devices, "1,0")] == [SMALL, BIG]
    assert [d.uuid for d in visible(devices, "GPU-s")] == [SMALL]
    assert visible(devices, "7,0") == visible(devices, "") == visible(devices, "-1") == []
    assert visible(devices, "GPU-") == []  # means two
    with pytest.raises(Misconfigured, match="parts of a GPU"):
        visible(devices, "MIG-1234")


def test_memory_that_others_use_is_not_given_away(machine):
    machine.has({**gpu(BIG, 8192), "free_mib": 1000})
    assert machine.says(1024).startswith("no device.unavailable")
    assert machine.says(900).startswith("has")


def test_degraded_gpus_are_used_last_and_drained_ones_not_at_all(machine):
    worn, sick = {"ecc_aggregate": 3}, {"remap_pending": True}
    machine.has(gpu("A", 90_000, **worn), gpu("B", 2600), gpu("C", 90_000, **sick))
    assert [machine.says(2000).split()[1] for _ in range(2)] == ["B", "A"]
    (drain,) = drained(machine.folder).values()
    assert (drain.uuid, drain.until, drain.by) == ("C", None, "health")
    machine.has(gpu("C", 90_000))  # looks well again; who drained it for good is a person's to say
    assert "waits to be remapped" in machine.says(2000)
    assert forget(machine.folder, "C")
    assert machine.says(2000).startswith("has C")


def test_what_passes_by_itself_drains_for_a_time(tmp_path):
    hot = Readings(index=0, uuid="H", name="x", total_mib=1, temperature=95, slowdown_at=90)
    assert check(tmp_path, [hot]) == [(hot, None)]
    (drain,) = drained(tmp_path).values()
    assert drain.until is not None
    assert drained(tmp_path, drain.until - 1)
    assert not drained(tmp_path, drain.until + 1)


def test_a_shorter_drain_does_not_end_a_longer_one(tmp_path):
    remember(tmp_path, Drain("G", "by hand", 100.0, None, "hand"))
    remember(tmp_path, Drain("G", "hot", 100.0, 200.0))
    assert drained(tmp_path, 150.0)["G"].by == "hand"
    assert forget(tmp_path, "G")
    assert not forget(tmp_path, "G")


def test_what_can_never_fit_is_not_waited_for():
    small = Readings(index=0, uuid="S", name="x", total_mib=4096)
    with pytest.raises(Misconfigured, match="takes 8000 MiB"):
        wanted([small], DeviceChoice("cuda"), 8000)
    with pytest.raises(Misconfigured, match="no GPU 3 here"):
        wanted([small], DeviceChoice("cuda", 3), 100)
    with pytest.raises(Misconfigured, match="no GPU here"):
        wanted([], DeviceChoice("auto"), 100)


def test_a_table_that_is_none_is_named(tmp_path):
    (tmp_path / "t.json").write_text('[{"uuid": 1, "colour": "red"}]')
    with pytest.raises(Misconfigured, match=r"t\.json is no table"):
        devices_here(tmp_path / "t.json")


def test_a_share_can_be_given_back(tmp_path):
    device = Readings(index=0, uuid="S", name="x", total_mib=1512, free_mib=1512)
    share = take(tmp_path, [device], 1000, "upscale")
    assert share is not None
    assert take(tmp_path, [device], 1000, "upscale") is None
    share.release()
    again = take(tmp_path, [device], 1000, "upscale")
    assert again is not None
    again.release()
    assert list(tmp_path.glob("*.share")) == []


def test_somebody_elses_folder_is_not_trusted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "own").mkdir()
    (tmp_path / f"understudy-devices-{os.geteuid()}").symlink_to(tmp_path / "own")
    with pytest.raises(Misconfigured, match="belongs to somebody else"):
        runtime_folder()
    assert runtime_folder(tmp_path / "named").is_dir()


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("", DeviceChoice()),
        ("cpu", DeviceChoice("cpu")),
        ("cuda", DeviceChoice("cuda")),
        ("cuda:12", DeviceChoice("cuda", 12)),
        ("auto", DeviceChoice("auto")),
    ],
)
def test_the_setting_is_read(text, choice, monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_DEVICE", text)
    assert Settings.from_env().device == choice


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:-1", "cpu:0", "CUDA"])
def test_another_setting_is_refused(text):
    with pytest.raises(Usage, match="cpu, cuda, cuda:N or auto"):
        parse_device(text)


def test_waiting_ends(machine, monkeypatch):
    for name, value in machine.env(wait_s=0.3).items():
        monkeypatch.setenv(name, value)
    assert machine.says(8192).startswith("has")
    with pytest.raises(DeviceUnavailable, match=r"after 0\.3 s"):
        acquire(Settings.from_env(), "upscale", 8192)
