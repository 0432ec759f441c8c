from __future__ import annotations

import numpy as np
import skimage.data

from models import identity
from tests.models.portraits import astronaut, hopper, moved, resized


def test_the_same_person_is_near_and_another_is_far():
    one, other = identity.embed(astronaut()), identity.embed(hopper())
    again = identity.embed(moved(resized(astronaut(), 1.4), 8, 5, 6))
    assert one.shape == (128,)
    assert one.dtype == np.float32
    assert identity.distance(one, again) < 0.35
    assert identity.distance(one, other) > identity.SAME_PERSON


def test_no_face_has_no_embedding():
    assert identity.embed(skimage.data.coffee()) is None
