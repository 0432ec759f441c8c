"""Findings add up to the worst; what could not be checked never passes where it is required."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.safety.finding import CheckVerdict, Finding, combine, unavailable
from models.safety.policy import DEFAULT_POLICY, Limits


def _said(check: str, verdict: CheckVerdict) -> Finding:
    return Finding(f"{check}.x", verdict, 0.5, 0.5)


@pytest.mark.parametrize(
    ("findings", "required", "verdict"),
    [
        ([_said("nudity", "pass"), _said("script", "pass")], ("nudity", "script"), "pass"),
        ([_said("nudity", "pass"), _said("script", "review")], ("nudity", "script"), "review"),
        ([_said("nudity", "block"), _said("script", "review")], ("nudity", "script"), "block"),
        ([_said("script", "block")], (), "block"),
        ([_said("script", "review")], (), "review"),
        ([_said("nudity", "pass")], ("nudity", "script"), "review"),
        ([unavailable("nudity", "gone")], ("nudity",), "review"),
        ([_said("nudity", "pass"), unavailable("nudity", "gone")], ("nudity",), "review"),
        ([unavailable("nudity", "gone"), _said("script", "pass")], ("script",), "pass"),
        ([unavailable("nudity", "gone"), _said("nudity", "block")], ("nudity",), "block"),
        ([], ("nudity",), "review"),
        ([], (), "pass"),
    ],
)
def test_the_worst_finding_decides(
    findings: list[Finding], required: tuple[str, ...], verdict: str
) -> None:
    assert combine(findings, required) == verdict
    assert combine(reversed(findings), required) == verdict


def test_limits_are_reached_at_their_value() -> None:
    limits = Limits(review=0.3, block=0.6)
    assert [limits.verdict(s) for s in (0.29, 0.3, 0.59, 0.6)] == [
        "pass",
        "review",
        "review",
        "block",
    ]
    assert [limits.crossed(s) for s in (0.1, 0.3, 0.6)] == [0.3, 0.3, 0.6]


def test_a_policy_is_known_by_name_version_and_digest() -> None:
    changed = replace(DEFAULT_POLICY, flash_badness=Limits(1.0, 2.0))
    assert DEFAULT_POLICY.id == "understudy-safety/1"
    assert changed.sha256 != DEFAULT_POLICY.sha256
