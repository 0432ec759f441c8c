"""What ``UNDERSTUDY_DEVICE`` may say."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from include.errors import Usage

DEVICE_ENV = "UNDERSTUDY_DEVICE"


@dataclass(frozen=True)
class DeviceChoice:
    """Where to compute what a GPU can do."""

    kind: Literal["cpu", "cuda", "auto"] = "cpu"
    """``auto``: a GPU where one has room, else the CPU."""
    index: int | None = None
    """Which GPU, counted by PCI address among those that ``CUDA_VISIBLE_DEVICES`` leaves."""


def parse_device(text: str) -> DeviceChoice:
    """Read ``cpu``, ``cuda``, ``cuda:1`` or ``auto``; nothing means ``cpu``.

    Raises:
        Usage: it is none of them.
    """
    found = re.fullmatch(r"cpu|auto|cuda(?::(\d{1,3}))?", text or "cpu")
    if found is None:
        raise Usage(f"{DEVICE_ENV}={text!r} is unknown; take cpu, cuda, cuda:N or auto")
    if found[1] is not None:
        return DeviceChoice("cuda", int(found[1]))
    kind: Literal["cpu", "cuda", "auto"] = {"auto": "auto", "cuda": "cuda"}.get(text, "cpu")  # type: ignore[assignment]
    return DeviceChoice(kind)
