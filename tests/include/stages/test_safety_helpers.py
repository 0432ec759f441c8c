from __future__ import annotations

import itertools

import pytest

from include.stages.safety import as_checks, as_reasons, judged, sample_indices
from models.safety.finding import Finding, unavailable

PASS = Finding("nudity.none", "pass", 0.1, 0.3)
REVIEW = Finding("nudity.x", "review", 0.5, 0.3, time_s=62.04, detail="seen")


def test_every_second_and_every_cut_inside_the_changed_spans_is_looked_at() -> None:
    picked = sample_indices(200, 25.0, [0, 25, 145], [(25, 145)])
    assert 27 in picked
    assert all(25 <= index < 145 for index in picked)
    gaps = [b - a for a, b in itertools.pairwise(picked)]
    assert max(gaps) <= 25


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_a_very_short_video_is_looked_at_too(frames: int) -> None:
    picked = sample_indices(frames, 25.0, [0], [(0, frames)])
    assert picked
    assert max(picked) < frames


def test_the_worst_finding_speaks_for_its_check() -> None:
    checks = as_checks([PASS, REVIEW])
    assert [(c["name"], c["verdict"]) for c in checks] == [("nudity", "review")]


def test_reasons_name_rule_and_time_code() -> None:
    assert as_reasons([PASS, REVIEW], ["nudity"]) == ["nudity.x at 01:02.040: seen"]


def test_what_is_unavailable_is_a_reason_only_where_it_is_required() -> None:
    finding = unavailable("nudity", "no detector")
    assert as_reasons([finding], []) == []
    assert as_reasons([finding], ["nudity"]) == ["nudity.unavailable: no detector"]


@pytest.mark.parametrize(
    ("verdict", "review", "expected"),
    [
        ("pass", "borderline", "pass"),
        ("pass", "all", "review"),
        ("review", "borderline", "review"),
        ("review", "none", "block"),
        ("block", "all", "block"),
    ],
)
def test_the_briefs_review_setting_decides_who_sees_a_person(
    verdict: str, review: str, expected: str
) -> None:
    assert judged(verdict, review) == expected  # type: ignore[arg-type]
