"""The state directory: keys made on first use, private files, one maker at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STATE_ENV = "UNDERSTUDY_STATE"


def state_dir() -> Path:
    """The directory that development keys live in: ``UNDERSTUDY_STATE`` or the user's state."""
    configured = os.environ.get(STATE_ENV)
    return Path(configured) if configured else Path.home() / ".local/state/understudy"


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the directory's lock; a second process waits here and then sees what the first made."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Write a whole file or none: a reader never sees half of it, nor a wider mode than asked."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
