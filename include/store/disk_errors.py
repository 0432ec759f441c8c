"""What the operating system says about files, translated into what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from include.errors import StoreUnavailable
from include.store.base import ObjectMissing

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""No space, no quota, or larger than a file may be."""


@contextlib.contextmanager
def read_errors(root: Path, key: str) -> Iterator[None]:
    """Translate errors while reading ``key`` below ``root``.

    Raises:
        ObjectMissing: there is no such file, or it is not one.
        StoreUnavailable: anything else, a root that is no directory included.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        # Without a root nothing was ever written; a root that is no directory is a mistake.
        if isinstance(error, FileNotFoundError) or os.path.isdir(root):
            raise ObjectMissing(key, str(root)) from error
        raise _unavailable(error, root, key) from error
    except OSError as error:
        raise _unavailable(error, root, key) from error


@contextlib.contextmanager
def write_errors(root: Path, key: str) -> Iterator[None]:
    """Translate errors while writing ``key`` below ``root``; ``FileExistsError`` passes.

    Raises:
        StoreUnavailable: ``disk.full`` when there is no space or quota, else ``store.unreachable``.
    """
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise _unavailable(error, root, key) from error


def _unavailable(error: OSError, root: Path, key: str) -> StoreUnavailable:
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return StoreUnavailable(
            f"No space to write {key!r} below {root} ({reason}). Free space on the file system "
            f"that holds {root}, or point the store at a larger one; the run then resumes.",
            code="disk.full",
            where=str(root),
        )
    return StoreUnavailable(
        f"The store directory {root} cannot be used: {reason} (at {error.filename or key!r}). "
        "Check that it is a directory which this user may read and write, and that it is mounted.",
        code="store.unreachable",
        where=str(root),
    )
