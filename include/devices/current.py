"""The device that this process computes on: taken when first needed, kept until it ends."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from include.devices.choice import DeviceChoice
from include.devices.drains import Drain, drained, remember
from include.devices.health import Health, Readings, judge
from include.devices.shares import SPARE_MIB, Share, runtime_folder, take
from include.devices.table import VISIBLE_ENV, devices_here
from include.errors import DeviceUnavailable, Misconfigured
from include.settings import Settings

CONTEXT_MIB: Final = 800
"""Of a share, what CUDA and its libraries take for themselves in a process. An estimate."""
PASSING_S: Final = 600.0
"""How long a device is left alone for what passes by itself: heat, one failed process."""
_POLL_S: Final = (0.2, 0.6)
_LIBRARIES_SAY: Final = ("CUDA error", "cuDNN error", "CUBLAS error")


@dataclass(frozen=True)
class Device:
    """What to compute on."""

    name: str = "cpu"
    """As PyTorch calls it: ``cpu`` or ``cuda``, the only GPU that this process sees."""
    memory_mib: int = 0
    """Of a GPU, what batches may take."""


CPU = Device()
_lock = threading.Lock()
_chosen: Device | None = None
_share: Share | None = None


def device_for(stage: str, need_mib: int) -> Device:
    """The device of this process; at the first call for a GPU, a share of one is taken.

    Must come before anything else asks PyTorch for CUDA: the process is shown its one GPU only.

    Args:
        stage: for whom; shown to people.
        need_mib: the share; 0 for the CPU.

    Raises:
        DeviceUnavailable: no usable GPU had room within ``UNDERSTUDY_DEVICE_WAIT_S``.
        Misconfigured: no driver, no GPU of that number or size, or PyTorch is without CUDA.
    """
    global _chosen, _share
    settings = Settings.from_env()
    if need_mib == 0 or settings.device.kind == "cpu":
        return CPU
    with _lock:
        if _chosen is None:
            try:
                _share = acquire(settings, stage, need_mib)
                _chosen = _start(settings, _share)
            except (DeviceUnavailable, Misconfigured):
                if settings.device.kind != "auto":
                    raise
                _chosen = CPU
        return _chosen


def acquire(settings: Settings, stage: str, need_mib: int) -> Share:
    """Wait for a share of the device that has most room, and show this process that device only.

    Healthy devices come first, then degraded ones; drained ones are not used.

    Raises:
        DeviceUnavailable: as `device_for`.
        Misconfigured: as `device_for`.
    """
    folder = runtime_folder(settings.device_dir)
    end = time.monotonic() + settings.device_wait_s
    while True:
        known = wanted(devices_here(settings.device_table), settings.device, need_mib)
        usable = [(device, health) for device, health in check(folder, known) if health]
        for grade in ("healthy", "degraded"):
            these = [device for device, health in usable if health.verdict == grade]
            share = take(folder, these, need_mib, stage)
            if share is not None:
                os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
                os.environ[VISIBLE_ENV] = share.uuid
                return share
        if time.monotonic() >= end:
            raise DeviceUnavailable(_why(folder, known, len(usable), settings, need_mib))
        time.sleep(min(random.uniform(*_POLL_S), max(0.0, end - time.monotonic())))


def wanted(devices: list[Readings], choice: DeviceChoice, need_mib: int) -> list[Readings]:
    """Those of the devices that the setting means and that are large enough.

    Raises:
        Misconfigured: ``device.none``, ``device.small``: there are none.
    """
    if choice.index is not None:
        devices = devices[choice.index : choice.index + 1]
    if not devices:
        which = "no GPU" if choice.index is None else f"no GPU {choice.index}"
        raise Misconfigured(
            f"there is {which} here; correct UNDERSTUDY_DEVICE, or set it to cpu",
            code="device.none",
        )
    # One that cannot be queried may be large enough.
    large = [d for d in devices if d.lost is not None or d.total_mib - SPARE_MIB >= need_mib]
    if not large:
        most = max(device.total_mib for device in devices)
        raise Misconfigured(
            f"the stage takes {need_mib} MiB of a GPU and the largest has {most}; use the CPU",
            code="device.small",
        )
    return large


def check(folder: Path, devices: list[Readings]) -> list[tuple[Readings, Health | None]]:
    """Judge devices; what has to be drained is, and None stands for what is drained."""
    now = time.time()
    found: list[tuple[Readings, Health | None]] = []
    for device in devices:
        health = judge(device)
        if health.verdict == "drain":
            until = None if health.lasting else now + PASSING_S
            remember(folder, Drain(device.uuid, health.reasons, now, until))
        found.append((device, health))
    gone = drained(folder, now)
    return [(device, None if device.uuid in gone else health) for device, health in found]


def _why(
    folder: Path, known: list[Readings], usable: int, settings: Settings, need_mib: int
) -> str:
    if usable:
        return (
            f"{need_mib} MiB are free on none of {usable} GPUs after {settings.device_wait_s:g} s; "
            "run fewer stage processes at a time, or wait longer (UNDERSTUDY_DEVICE_WAIT_S)"
        )
    gone = drained(folder)
    reasons = sorted({gone[device.uuid].reason for device in known if device.uuid in gone})
    count = len(known)
    return f"all GPUs ({count}) are drained: {'; '.join(reasons)}; see ./understudy devices"


def _start(settings: Settings, share: Share) -> Device:
    """Begin with CUDA on the device that was taken, and hold PyTorch to the share."""
    import torch

    if not torch.cuda.is_available():
        share.release()
        if torch.version.cuda is None:
            raise Misconfigured(
                "this PyTorch is built without CUDA; install one with it, or set "
                "UNDERSTUDY_DEVICE=cpu",
                code="device.torch",
            )
        _leave(settings, share.uuid, "CUDA does not start on it")
        raise DeviceUnavailable(
            f"CUDA does not start on GPU {share.uuid}; it is drained for a time"
        )
    memory = max(share.mib - CONTEXT_MIB, 1)
    total = torch.cuda.get_device_properties(0).total_memory >> 20
    torch.cuda.set_per_process_memory_fraction(min(1.0, memory / total))
    return Device("cuda", memory)


@contextmanager
def failures_of_the_device() -> Iterator[None]:
    """A device that fails at work is left alone for a time, and the stage is tried again.

    Raises:
        DeviceUnavailable: CUDA failed: bad memory, an XID error, fallen off the bus.
    """
    try:
        yield
    except RuntimeError as error:
        # By name: what computes on the CPU without PyTorch is not to import it for this.
        said = (str(error).strip() or "CUDA failed").splitlines()[0]
        of_device = type(error).__name__ == "AcceleratorError" or said.startswith(_LIBRARIES_SAY)
        if _share is None or not of_device:
            raise
        uuid = _share.uuid
        _leave(Settings.from_env(), uuid, f"failed at work ({said})")
        raise DeviceUnavailable(f"GPU {uuid} failed: {said}; it is drained for a time") from error


def _leave(settings: Settings, uuid: str, reason: str) -> None:
    now = time.time()
    drain = Drain(uuid, reason, now, now + PASSING_S, by="failure")
    remember(runtime_folder(settings.device_dir), drain)
