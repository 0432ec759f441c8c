"""Devices that nobody is to begin using: one small file each, with reason and end."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote


@dataclass(frozen=True)
class Drain:
    """Why a device is not used, and until when."""

    uuid: str
    reason: str
    since: float
    """Seconds since 1970."""
    until: float | None = None
    """The same; None until somebody clears it."""
    by: str = "health"
    """``health``, ``failure`` or ``hand``."""


def drained(folder: Path, now: float | None = None) -> dict[str, Drain]:
    """All drains that hold, by UUID."""
    now = time.time() if now is None else now
    found = {}
    for path in folder.glob("*.drained"):
        try:
            drain = Drain(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            continue
        if drain.until is None or drain.until > now:
            found[drain.uuid] = drain
    return found


def remember(folder: Path, drain: Drain) -> None:
    """Drain a device; a drain that holds longer already stays."""
    before = drained(folder, drain.since).get(drain.uuid)
    if before and (before.until is None or (drain.until and before.until >= drain.until)):
        return
    path = _path(folder, drain.uuid)
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(asdict(drain)), encoding="utf-8")
    fresh.replace(path)


def forget(folder: Path, uuid: str) -> bool:
    """Clear a drain; says whether there was one."""
    try:
        _path(folder, uuid).unlink()
    except FileNotFoundError:
        return False
    return True


def _path(folder: Path, uuid: str) -> Path:
    return folder / f"{quote(uuid, safe='')}.drained"
