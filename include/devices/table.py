"""The GPUs that this process may see: from the driver, or from a file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from include.devices import nvml
from include.devices.health import Readings
from include.errors import DeviceUnavailable, Misconfigured

VISIBLE_ENV = "CUDA_VISIBLE_DEVICES"


def devices_here(table: Path | None = None) -> list[Readings]:
    """All GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, in its order.

    Args:
        table: JSON list of objects with the fields of `Readings`, instead of asking the driver.

    Raises:
        Misconfigured: ``device.none``: no driver is installed, or the table cannot be read.
            ``device.mig``: parts of GPUs are named.
        DeviceUnavailable: the driver is there and does not answer.
    """
    return visible(_from_file(table) if table else _from_driver(), os.environ.get(VISIBLE_ENV))


def visible(devices: Sequence[Readings], chosen: str | None) -> list[Readings]:
    """What CUDA would show: indices or UUIDs (their beginnings) up to the first that is none."""
    if chosen is None:
        return list(devices)
    found: list[Readings] = []
    for word in (part.strip() for part in chosen.split(",")):
        if word.startswith("MIG"):
            raise Misconfigured(
                f"{VISIBLE_ENV} names {word}: parts of a GPU have no shares here; name whole GPUs",
                code="device.mig",
            )
        match = [d for d in devices if (d.index == int(word) if word.isdigit() else False)]
        match += [d for d in devices if word and not word.isdigit() and d.uuid.startswith(word)]
        if len(match) != 1:
            break
        found += match
    return found


def _from_driver() -> list[Readings]:
    try:
        with nvml.opened() as library:
            return library.readings()
    except nvml.NvmlError as error:
        if error.code == 0:
            raise Misconfigured(
                f"no NVIDIA driver here ({error}); install it, or set UNDERSTUDY_DEVICE=cpu",
                code="device.none",
            ) from error
        raise DeviceUnavailable(f"the NVIDIA driver does not answer: {error}") from error


def _from_file(path: Path) -> list[Readings]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [Readings(**{"index": index, **entry}) for index, entry in enumerate(entries)]
    except (OSError, ValueError, TypeError) as error:
        raise Misconfigured(
            f"UNDERSTUDY_DEVICE_TABLE: {path} is no table of devices: {error}", code="device.none"
        ) from error
