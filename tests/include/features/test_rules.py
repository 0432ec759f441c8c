"""The light evaluator of hard rules."""

from __future__ import annotations

import pytest

from include.expectations.suites import HardRule
from include.features.rules import broken

SIZE = HardRule(rule="photo-width", feature="width", min=256, max=8000, message="use a larger one")
LOUD = HardRule(rule="loud-enough", feature="loudness", min=-45, message="record it again")
KIND = HardRule(rule="known-codec", feature="codec", in_set=("h264", "hevc"), message="export it")
TALK = HardRule(rule="speaks", feature="speech_present", in_set=(True,), message="say something")
FACE = HardRule(rule="has-face", feature="face_size", not_null=True, message="show a face")


@pytest.mark.parametrize(
    ("rule", "value", "breaks"),
    [
        (SIZE, 256.0, False),
        (SIZE, 8000.0, False),
        (SIZE, 255.9, True),
        (SIZE, 8001.0, True),
        (SIZE, None, False),
        (LOUD, -60.0, True),
        (LOUD, 3.0, False),
        (KIND, "h264", False),
        (KIND, "vp8", True),
        (KIND, None, False),
        (TALK, True, False),
        (TALK, False, True),
        (FACE, None, True),
        (FACE, 0.0, False),
    ],
)
def test_a_rule_breaks_beyond_its_border_and_only_there(rule, value, breaks):
    found = broken([rule], {rule.feature: value})
    assert [item.rule for item in found] == ([rule.rule] if breaks else [])


def test_the_message_says_what_was_measured_what_is_wanted_and_what_to_do():
    (found,) = broken([SIZE], {"width": 120.0})
    assert found.message == "width is 120, wanted is 256 to 8000; use a larger one"
    (found,) = broken([FACE], {"face_size": None})
    assert "not known" in found.message


def test_all_broken_rules_are_told_in_their_order():
    values = {"width": 10.0, "codec": "vp8", "face_size": 0.4}
    assert [item.rule for item in broken([KIND, FACE, SIZE], values)] == [
        "known-codec",
        "photo-width",
    ]
