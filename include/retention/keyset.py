"""A set of digests that takes little memory, however many there are."""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterable


class KeySet:
    """Digests by their first 64 bits: 8 bytes each, where a set of text takes some 160.

    Two digests that begin alike count as one. Among a thousand million that happens about once in
    forty sets, and then the collector keeps what it need not. Several threads may use a set.
    """

    def __init__(self) -> None:
        self._parts: list[array[int]] = [array("Q") for _ in range(1 << 12)]
        """Sorted, by the first 12 bits: an insertion moves little."""
        self._lock = threading.Lock()

    def update(self, digests: Iterable[str]) -> None:
        """Add digests in hexadecimal, of 16 digits or more."""
        for digest in digests:
            self.add(digest)

    def add(self, digest: str) -> None:
        """Add one."""
        value = int(digest[:16], 16)
        part = self._parts[value >> 52]
        with self._lock:
            place = bisect_left(part, value)
            if place == len(part) or part[place] != value:
                part.insert(place, value)

    def __contains__(self, digest: str) -> bool:
        value = int(digest[:16], 16)
        part = self._parts[value >> 52]
        with self._lock:
            place = bisect_left(part, value)
            return place < len(part) and part[place] == value

    def __len__(self) -> int:
        return sum(map(len, self._parts))
