"""Python's collector of cycles, kept out of the way where it can find nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many small objects without a search for cycles among all of them every now and then.

    For code that makes no cycles: planning 10,000 rows spent a quarter of its time in searches.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
