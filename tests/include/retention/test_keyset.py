from __future__ import annotations

import hashlib
import sys

from include.retention.keyset import KeySet


def digest(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def test_a_set_holds_what_was_added_once_and_nothing_else() -> None:
    found = KeySet()
    found.update(digest(n) for n in (*range(5000), *range(2000)))
    assert len(found) == 5000
    assert all(digest(n) in found for n in range(5000))
    assert not any(digest(n) in found for n in range(5000, 10_000))


def test_the_smallest_and_the_largest_digest_are_held() -> None:
    found = KeySet()
    assert "0" * 64 not in found
    found.update(["0" * 64, "f" * 64])
    assert "0" * 64 in found
    assert "f" * 64 in found
    assert "f" * 63 + "e" in found, "as far as 64 bits tell"


def test_a_digest_takes_a_few_bytes() -> None:
    found = KeySet()
    found.update(map(digest, range(200_000)))
    assert sum(map(sys.getsizeof, found._parts)) / 200_000 < 20
