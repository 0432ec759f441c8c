"""Many lookups at a time: the answers of ``head``, with fewer questions."""

from __future__ import annotations

import pytest

from include.store import ObjectStore
from include.store.bulk import FEW, LISTED_PER_KEY, heads, in_parallel


def fill(store: ObjectStore, names: list[str]) -> None:
    in_parallel(lambda name: store.put(name, name.encode()), names)


@pytest.mark.parametrize("count", [1, FEW, FEW + 1, 60])
def test_bulk_answers_are_those_of_single_questions(store: ObjectStore, count: int) -> None:
    names = [f"t/blob/{number:03}" for number in range(count)]
    fill(store, [*names[::2], "t/blobs/other", "t/a"])
    found = heads(store, "t/blob/", names)
    assert found == {name: store.head(name) for name in names[::2]}


def test_a_listing_that_is_too_long_is_given_up_and_the_rest_asked_for(store: ObjectStore) -> None:
    names = [f"t/é{number:05}" for number in range(0, LISTED_PER_KEY * (FEW + 1) * 2, 41)]
    assert len(names) > FEW
    others = [f"t/é{number:05}" for number in range(LISTED_PER_KEY * (len(names) + 5))]
    fill(store, others)
    wanted = [*names, "t/zzz", "t/ZZZ"]
    found = heads(store, "t/", wanted)
    assert set(found) == set(names) & set(others)


def test_parallel_work_keeps_its_order_and_raises_its_error() -> None:
    assert in_parallel(lambda number: number * 2, range(1000)) == list(range(0, 2000, 2))
    assert in_parallel(str, []) == []
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda number: 1 // number, [3, 2, 1, 0])
