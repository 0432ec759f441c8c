"""Many objects at a time: a listing where that is cheaper than asking for each."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from include.store.base import ObjectInfo, ObjectStore

PARALLEL = 8
"""Requests in flight at a time."""
FEW = 3
"""So few objects are asked for one by one: a listing may be long."""
LISTED_PER_KEY = 20
"""A listing is given up when it has shown this many objects for each that was asked for. A page of
a thousand costs about as much as this many requests for single objects, in parallel."""
_BATCH = 32

S = TypeVar("S")
T = TypeVar("T")


def in_parallel(work: Callable[[S], T], items: Iterable[S]) -> list[T]:
    """Do something for every item in threads; results in order, the first error is raised."""
    items = list(items)
    size = min(_BATCH, math.ceil(len(items) / PARALLEL))
    if size < 1:
        return []
    batches = [items[i : i + size] for i in range(0, len(items), size)]
    with ThreadPoolExecutor(min(PARALLEL, len(batches))) as pool:
        done = pool.map(lambda batch: [work(item) for item in batch], batches)
        return [result for batch in done for result in batch]


def in_batches(work: Callable[[S], T], items: Iterable[S], size: int) -> Iterator[T]:
    """As ``in_parallel``, for any number of items: only ``size`` of them are held at a time."""
    waiting = iter(items)
    while batch := list(itertools.islice(waiting, size)):
        yield from in_parallel(work, batch)


def heads(store: ObjectStore, prefix: str, keys: Iterable[str]) -> dict[str, ObjectInfo]:
    """Look up many objects; those that exist come back, by key.

    Args:
        store: where they are.
        prefix: what all the keys begin with.
        keys: any number of keys.
    """
    wanted = set(keys)
    found: dict[str, ObjectInfo] = {}
    last = ""
    if len(wanted) > FEW:
        for number, info in enumerate(store.list(prefix), 1):
            if info.key in wanted:
                found[info.key] = info
            if number >= LISTED_PER_KEY * len(wanted):
                last = info.key
                break
        else:
            return found
    # A listing is in the order of the keys' bytes: what comes before its last key was seen.
    rest = [key for key in sorted(wanted) if key.encode() > last.encode()]
    infos = in_parallel(store.head, rest)
    return found | {info.key: info for info in infos if info is not None}
