"""Shares of a device's memory: several processes on one GPU, by what each declares to need.

A share is a file that its owner holds locked (flock). The kernel gives the lock back when the
process ends, however it ends, so a share outlives nobody. Who takes one holds the folder's own lock
while counting; a file that is not locked belonged to somebody who is gone, and is removed.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from include.devices.health import Readings
from include.errors import Misconfigured

SPARE_MIB: Final = 512
"""Of every device, for the driver."""


@dataclass(frozen=True)
class Held:
    """A share that somebody holds."""

    uuid: str
    mib: int
    pid: int
    stage: str


class Share:
    """Ours, until `release` or the end of the process."""

    def __init__(self, held: Held, descriptor: int, path: Path) -> None:
        self.uuid, self.mib = held.uuid, held.mib
        self._descriptor, self._path = descriptor, path

    def release(self) -> None:
        """Give it back."""
        with suppress(FileNotFoundError):
            self._path.unlink()
        os.close(self._descriptor)


def runtime_folder(configured: Path | None = None) -> Path:
    """Where this machine's processes meet; made when missing.

    Raises:
        Misconfigured: ``device.folder``: it belongs to somebody else.
    """
    folder = configured or Path(tempfile.gettempdir()) / f"understudy-devices-{os.geteuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if configured is None and (folder.is_symlink() or folder.stat().st_uid != os.geteuid()):
        raise Misconfigured(
            f"{folder} belongs to somebody else; set UNDERSTUDY_DEVICE_DIR to a folder of your own",
            code="device.folder",
        )
    return folder


def take(folder: Path, devices: Sequence[Readings], mib: int, stage: str) -> Share | None:
    """Take a share of the device that has most memory left, among the first that have enough.

    Args:
        folder: see `runtime_folder`.
        devices: those to choose from.
        mib: how much.
        stage: for whom; shown to people.

    Returns:
        The share; None where nobody has that much left, or somebody else is counting.
    """
    with _counting(folder) as ours:
        if not ours:
            return None
        held = _living(folder)
        room = [(room_left(device, held), -n, device) for n, device in enumerate(devices)]
        fitting = [each for each in room if each[0] >= mib]
        if not fitting:
            return None
        device = max(fitting)[2]
        return _write(folder, Held(device.uuid, mib, os.getpid(), stage))


def held_shares(folder: Path) -> list[Held]:
    """All shares that living processes hold. For people: it may miss one that is just taken."""
    with _counting(folder) as ours:
        return _living(folder, tidy=ours)


def room_left(device: Readings, held: Sequence[Held]) -> int:
    """MiB that nobody has a share of, and that nobody else uses."""
    declared = sum(share.mib for share in held if share.uuid == device.uuid)
    return min(device.total_mib - SPARE_MIB - declared, device.free_mib)


def _living(folder: Path, *, tidy: bool = True) -> list[Held]:
    found = []
    for path in sorted(folder.glob("*.share")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(ValueError, TypeError):  # not written yet: then its owner is counting
                found.append(Held(**json.loads(os.read(descriptor, 4096))))
        else:
            if tidy:  # else it may be one that is not locked yet
                path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return found


def _write(folder: Path, held: Held) -> Share:
    handle, name = tempfile.mkstemp(prefix=f"{held.pid}-", suffix=".share", dir=folder)
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.write(handle, json.dumps(held.__dict__).encode())
    return Share(held, handle, Path(name))


@contextmanager
def _counting(folder: Path) -> Iterator[bool]:
    """The folder's own lock; False where somebody else has it."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
