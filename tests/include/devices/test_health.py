"""Verdicts from readings, and readings from a library that is really loaded."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from include.devices import nvml
from include.devices.health import Readings, judge
from include.devices.table import devices_here
from include.errors import DeviceUnavailable, Misconfigured

FINE = {
    "index": 0,
    "uuid": "GPU-1",
    "name": "made up",
    "total_mib": 143_000,
    "free_mib": 143_000,
    "ecc_volatile": 0,
    "ecc_aggregate": 0,
    "remap_pending": False,
    "remap_failed": False,
    "temperature": 62,
    "slowdown_at": 87,
    "shutdown_at": 92,
    "throttle": 0,
}
VERDICTS = [
    ({}, "healthy", ""),
    ({"throttle": 0x4}, "healthy", ""),  # a power cap: busy
    ({"throttle": 0x1 | 0x2 | 0x100}, "healthy", ""),  # idle, clocks set by a person
    ({"temperature": 83}, "healthy", ""),
    ({"temperature": 84}, "degraded", "84 °C; it slows down at 87"),
    ({"temperature": 87}, "drain", "87 °C; it slows down at 87"),
    ({"temperature": 91, "slowdown_at": None}, "degraded", "slows down at 92"),
    ({"temperature": 99, "slowdown_at": None, "shutdown_at": None}, "healthy", ""),
    ({"throttle": 0x40}, "drain", "for heat"),
    ({"throttle": 0x20}, "degraded", "for heat"),
    ({"throttle": 0x80}, "degraded", "power supply"),
    ({"ecc_volatile": 1, "ecc_aggregate": 1}, "drain", "since its last reset"),
    ({"ecc_aggregate": 5}, "degraded", "5 uncorrected memory errors in its life"),
    ({"remap_pending": True}, "drain", "reset it"),
    ({"remap_failed": True}, "drain", "replace it"),
    ({"pages_pending": True}, "drain", "reset it"),
    ({"lost": "GPU is lost"}, "drain", r"cannot be queried \(GPU is lost\)"),
]


@pytest.mark.parametrize(("readings", "verdict", "reason"), VERDICTS)
def test_a_device_is_judged_by_what_it_says(readings, verdict, reason):
    health = judge(Readings(**{**FINE, **readings}))
    assert health.verdict == verdict
    assert (health.reasons == "") == (verdict == "healthy")
    assert re.search(reason, health.reasons)


def test_the_worst_comes_first_and_nothing_is_left_out():
    health = judge(Readings(**{**FINE, "throttle": 0x80, "temperature": 90, "ecc_volatile": 2}))
    assert health.verdict == "drain"
    assert [found.verdict for found in health.findings] == ["drain", "drain", "degraded"]


def test_heat_passes_and_broken_memory_does_not():
    assert not judge(Readings(**{**FINE, "temperature": 99})).lasting
    assert judge(Readings(**{**FINE, "temperature": 99, "remap_failed": True})).lasting
    assert not judge(Readings(**{**FINE, "ecc_aggregate": 1, "throttle": 0x40})).lasting


def test_a_device_that_knows_nothing_of_itself_is_healthy():
    assert judge(Readings(index=0, uuid="GPU-1", name="old")).verdict == "healthy"


H200 = """count 2
0 uuid GPU-aaaa
0 name NVIDIA H200
0 total 150754820096
0 free 149000000000
0 volatile 0
0 aggregate 4294967297
0 pending 1
0 failed 0
0 temperature 41
0 slowdown 87
0 shutdown 92
0 clock 1980
0 most 1985
0 throttle 0x4000000000000004
1 uuid GPU-bbbb
1 name Tesla P4
1 total 8000000000
1 free 1000000000
1 pages 1
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> Path:
    """The made-up library, as drivers of different age have it."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    folder = tmp_path_factory.mktemp("nvml")
    source = str(Path(__file__).with_name("nvml_library.c"))
    flags_of = {"new": ["-DNEW_NAME"], "usual": [], "bare": ["-DWITHOUT_THROTTLE"]}
    for name, flags in flags_of.items():
        command = ["gcc", "-shared", "-fPIC", "-Wall", "-Werror", *flags, source]
        subprocess.run([*command, "-o", str(folder / f"{name}.so")], check=True)
    return folder


@pytest.fixture
def describe(tmp_path, monkeypatch):
    def write(text: str) -> None:
        (tmp_path / "machine").write_text(text)

    monkeypatch.setenv("MADE_UP_NVML", str(tmp_path / "machine"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return write


@pytest.mark.parametrize("driver", ["new", "usual"])
def test_every_reading_reaches_its_field(driver, libraries, describe):
    describe(H200)
    with nvml.opened(str(libraries / f"{driver}.so")) as library:
        new, old = library.readings()
    assert new == Readings(
        index=0,
        uuid="GPU-aaaa",
        name="NVIDIA H200",
        total_mib=143_771,
        free_mib=142_097,
        ecc_volatile=0,
        ecc_aggregate=(1 << 32) + 1,
        remap_pending=True,
        remap_failed=False,
        temperature=41,
        slowdown_at=87,
        shutdown_at=92,
        clock_mhz=1980,
        clock_most_mhz=1985,
        throttle=0x4000000000000004,
    )
    assert old == Readings(
        index=1, uuid="GPU-bbbb", name="Tesla P4", total_mib=7629, free_mib=953, pages_pending=True
    )


def test_a_device_that_fell_off_the_bus_is_named_and_the_others_are_read(libraries, describe):
    describe(H200 + "1 lost yes\n")
    with nvml.opened(str(libraries / "new.so")) as library:
        well, lost = library.readings()
    assert well.lost is None
    assert (lost.uuid, lost.lost) == ("GPU-bbbb", "nvmlDeviceGetName: GPU is lost")
    assert judge(lost).verdict == "drain"


def test_a_driver_without_a_function_does_not_know(libraries, describe):
    describe(H200)
    with nvml.opened(str(libraries / "bare.so")) as library:
        assert library.readings()[0].throttle is None


def test_a_driver_that_does_not_start_is_tried_again_later(libraries, describe, monkeypatch):
    describe("init 9\n")
    opened = nvml.opened
    monkeypatch.setattr(nvml, "opened", lambda: opened(str(libraries / "new.so")))
    with pytest.raises(DeviceUnavailable, match="nvmlInit_v2: Driver Not Loaded"):
        devices_here()


def test_the_drivers_devices_are_those_that_cuda_would_show(libraries, describe, monkeypatch):
    describe(H200)
    opened = nvml.opened
    monkeypatch.setattr(nvml, "opened", lambda: opened(str(libraries / "new.so")))
    assert [device.uuid for device in devices_here()] == ["GPU-aaaa", "GPU-bbbb"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert [device.uuid for device in devices_here()] == ["GPU-bbbb"]


def test_without_a_driver_the_installation_has_to_change(monkeypatch):
    opened = nvml.opened
    monkeypatch.setattr(nvml, "opened", lambda: opened("libno-such-driver.so.1"))
    with pytest.raises(Misconfigured, match="no NVIDIA driver here"):
        devices_here()
