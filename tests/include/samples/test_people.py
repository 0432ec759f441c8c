"""The cast: nobody in it is a source portrait, nobody is somebody else."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest

from include.samples import people, sources
from models.face.quality import assess_photo
from models.identity import distance, embed

pytestmark = pytest.mark.worker

FROM_SOURCES, FROM_EACH_OTHER = 0.55, 0.50


@cache
def photo(name: str) -> npt.NDArray[np.uint8]:
    return people.make_person(name)


@cache
def identity(name: str) -> npt.NDArray[np.float32]:
    found = embed(photo(name))
    assert found is not None
    return found


@cache
def source(name: str) -> npt.NDArray[np.float32]:
    found = embed(getattr(sources, name)().image.clip(0, 255).astype(np.uint8))
    assert found is not None
    return found


@pytest.mark.parametrize("origin", ["astronaut", "admiral"])
@pytest.mark.parametrize("name", people.PEOPLE)
def test_nobody_is_recognised_as_a_source_portrait(name: str, origin: str) -> None:
    assert distance(identity(name), source(origin)) >= FROM_SOURCES


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(people.PEOPLE, 2)))
def test_no_two_people_are_the_same_person(a: str, b: str) -> None:
    assert distance(identity(a), identity(b)) >= FROM_EACH_OTHER


@pytest.mark.parametrize("name", people.PEOPLE)
def test_a_photo_is_usable_without_a_warning(name: str) -> None:
    face = assess_photo(photo(name))
    assert not face.warnings
    assert face.interocular > 100


def test_there_is_a_presenter_and_three_recipients() -> None:
    assert people.PRESENTER in people.PEOPLE
    assert len(people.PEOPLE) >= 4


def test_a_photo_is_the_same_at_every_call() -> None:
    name = next(iter(people.PEOPLE))
    np.testing.assert_array_equal(people.make_person(name), photo(name))
