from __future__ import annotations

import numpy as np
import pytest

from include.errors import Usage
from include.rollout.canary import Sides, look
from include.rollout.measures import render_measures
from include.rollout.records import Rule, Rules
from include.rollout.rules import read_rules
from include.rollout.statistics import (
    compare_groups,
    compare_pairs,
    newcombe,
    overall,
    wilson,
)

RULES = Rules(resamples=1000)
HIGHER = Rule(measure="psnr", better="higher", margin=0.1)


def side(values, name: str = "psnr"):
    return {f"p{number}": {name: value} for number, value in enumerate(values)}


def pairs(rule: Rule, a, b):
    return compare_pairs("pictures", rule, side(a, rule.measure), side(b, rule.measure), RULES)


@pytest.mark.parametrize(
    ("better", "gain", "verdict"),
    [
        ("higher", 0.5, "as_good"),
        ("higher", 0.0, "as_good"),
        ("higher", -0.5, "worse"),
        ("lower", -0.5, "as_good"),
        ("lower", 0.5, "worse"),
        ("same", 0.0, "as_good"),
        ("same", 0.5, "worse"),
        ("same", -0.5, "worse"),
    ],
)
def test_a_steady_difference_is_judged_by_its_direction(better, gain, verdict) -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(30, 4, 20)
    b = a + gain + rng.normal(0, 0.02, 20)
    rule = Rule(measure="psnr", better=better, margin=0.1)
    assert pairs(rule, a, b).verdict == verdict


def test_a_difference_that_varies_more_than_it_is_large_is_unclear() -> None:
    rng = np.random.default_rng(1)
    a = rng.normal(30, 4, 10)
    found = pairs(HIGHER, a, a + rng.normal(0, 2, 10))
    assert found.verdict == "unclear"
    assert found.low < found.difference < found.high


@pytest.mark.parametrize("relative", [False, True])
def test_an_interval_of_three_pairs_covers_the_truth_as_often_as_it_says(relative: bool) -> None:
    rng = np.random.default_rng(4)
    rule, covered = Rule(measure="x", better="lower", margin=0.1, relative=relative), 0
    for _ in range(1000):
        a = np.exp(rng.normal(0, 0.5, 3)) if relative else rng.normal(30, 4, 3)
        noise = rng.normal(0.2, 0.1, 3)
        found = pairs(rule, a, a * np.exp(noise) if relative else a + noise)
        truth = np.expm1(0.2) if relative else 0.2
        covered += found.low <= truth <= found.high
    assert 930 <= covered <= 970


def test_one_pair_shows_nothing() -> None:
    found = pairs(HIGHER, [30.0], [31.0])
    assert (found.verdict, found.low, found.high) == ("unclear", None, None)


def test_the_same_values_give_the_same_interval() -> None:
    a, b = np.arange(9.0), np.arange(9.0) ** 1.1
    assert pairs(HIGHER, a, b) == pairs(HIGHER, a, b)


def test_what_is_enough_needs_no_comparison() -> None:
    rule = Rule(measure="s", better="lower", margin=0.1, relative=True)
    a, b = [0.01, 0.02, 0.015], [0.3, 0.4, 0.35]
    assert pairs(rule, a, b).verdict == "worse"
    assert pairs(rule.model_copy(update={"enough": 1.0}), a, b).verdict == "as_good"
    assert pairs(rule.model_copy(update={"enough": 0.2}), a, b).verdict == "worse"


def test_relative_margins_are_shares_of_the_champions_value() -> None:
    rule = Rule(measure="s", better="lower", margin=0.2, relative=True)
    a = np.array([1.0, 2.0, 4.0])
    found = pairs(rule, a, a * 1.1)
    assert found.verdict == "as_good"
    assert found.difference == pytest.approx(0.1)
    assert pairs(rule, a, a * 1.5).verdict == "worse"


def test_what_only_the_champion_has_is_worse_and_what_nobody_has_holds_nobody_back() -> None:
    assert pairs(HIGHER, [1, 2, 3], [1, 2, None]).verdict == "worse"
    assert pairs(HIGHER, [None, None], [1, None]).verdict == "not_measured"
    short = compare_pairs("renders", HIGHER, side([1, 2]), side([1]), RULES)
    assert short.verdict == "worse"


def test_shares_take_the_published_interval() -> None:
    # R. G. Newcombe (1998), table II, method 10: 56/70 against 48/80 and 0/10 against 0/20.
    a = np.repeat([1.0, 0.0], [48, 32])
    b = np.repeat([1.0, 0.0], [56, 14])
    found = newcombe(a, b, 1.959964)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    found = newcombe(np.zeros(20), np.zeros(10), 1.959964)
    assert (found.low, found.high) == pytest.approx((-0.1611, 0.2775), abs=1e-4)
    assert wilson(0, 10, 1.959964).high == pytest.approx(0.2775, abs=1e-4)


def test_groups_of_other_people_are_compared_by_their_means() -> None:
    rng = np.random.default_rng(2)
    rule = Rule(measure="identity_recipient", better="lower", margin=0.06)
    a = [{"identity_recipient": value} for value in rng.normal(0.45, 0.06, 200)]
    b = [{"identity_recipient": value} for value in rng.normal(0.45, 0.06, 40)]
    far = [{"identity_recipient": value} for value in rng.normal(0.62, 0.06, 40)]
    assert compare_groups(rule, a, b, RULES).verdict == "as_good"
    assert compare_groups(rule, a, far, RULES).verdict == "worse"
    assert compare_groups(rule, a, b[:0], RULES).verdict == "not_measured"


def test_few_renders_without_a_failure_do_not_show_that_none_fails() -> None:
    rule = Rule(measure="failed", better="lower", margin=0.12)
    good = {"failed": 0.0}
    assert compare_groups(rule, [good] * 200, [good] * 10, RULES).verdict == "unclear"
    assert compare_groups(rule, [good] * 200, [good] * 40, RULES).verdict == "as_good"
    bad = [good] * 25 + [{"failed": 1.0}] * 15
    assert compare_groups(rule, [good] * 200, bad, RULES).verdict == "worse"


def test_what_cannot_be_measured_of_the_challenger_is_no_measure_less() -> None:
    rng = np.random.default_rng(4)
    rule = Rule(measure="face_share", better="same", margin=0.06)
    a = [{"face_share": value} for value in rng.normal(0.2, 0.02, 100)]
    none: dict[str, float | None] = {"face_share": None}
    assert compare_groups(rule, a, [none] * 40, RULES).verdict == "worse"
    assert compare_groups(rule, a, [*a[:20], *[none] * 20], RULES).verdict == "worse"
    assert compare_groups(rule, a, [*a[:38], *[none] * 2], RULES).verdict == "unclear"
    assert compare_groups(rule, [*a, *[none] * 20], [*a[:90], *[none] * 12], RULES).verdict == (
        "as_good"
    )
    assert compare_groups(rule, [none] * 100, [none] * 40, RULES).verdict == "not_measured"


def test_rows_without_a_voice_are_not_asked_for_the_mouth() -> None:
    rule = Rule(measure="mouth_correlation", better="higher", margin=0.1)
    silent: dict[str, float | None] = {"mouth_correlation": None, "voiced": 0.0}
    spoken = [{"mouth_correlation": 0.6 + 0.001 * (n % 9), "voiced": 1.0} for n in range(40)]
    assert compare_groups(rule, [*spoken, *[silent] * 60], spoken, RULES).verdict == "as_good"
    assert compare_groups(rule, spoken, [silent] * 40, RULES).verdict == "not_measured"
    mute = [{**one, "mouth_correlation": None} for one in spoken]
    assert compare_groups(rule, spoken, mute, RULES).verdict == "worse"


def test_a_mean_of_a_few_renders_decides_nothing() -> None:
    rule = Rule(measure="mouth_correlation", better="higher", margin=0.1)
    silent: dict[str, float | None] = {"mouth_correlation": None, "voiced": 0.0}
    spoken = [{"mouth_correlation": 0.6 + 0.001 * (n % 9), "voiced": 1.0} for n in range(40)]
    low = [{"mouth_correlation": 0.1, "voiced": 1.0}]
    assert compare_groups(rule, spoken, [*low, *[silent] * 29], RULES).verdict == "unclear"
    assert compare_groups(rule, low, spoken, RULES).verdict == "not_measured"


def test_looking_after_every_run_calls_worse_hardly_more_often_than_looking_once() -> None:
    """Simulated: 40 looks at growing figures of two equal sides, with no margin."""
    rng = np.random.default_rng(5)
    rule = Rule(measure="failed", better="lower", margin=0.0)
    rules = Rules(canary=(rule,), confidence=0.95)
    called = 0
    for _ in range(200):
        runs: list[Sides] = []
        for _ in range(40):
            a, b = (
                [{"failed": float(one)} for one in rng.random(20) < 0.2],
                [{"failed": float(one)} for one in rng.random(20) < 0.2],
            )
            runs.append(Sides(a, b))
            if look(runs, rules).verdict == "worse":
                called += 1
                break
    assert called / 200 < 0.05


def test_equal_challengers_are_hardly_ever_called_worse() -> None:
    """Simulated: the share called worse stays below half of what the confidence leaves."""
    rng = np.random.default_rng(3)
    rule, rules = Rule(measure="x", better="higher", margin=0.0), Rules(resamples=300)
    called = 0
    for _ in range(400):
        a, b = rng.normal(0, 1, 30), rng.normal(0, 1, 30)
        called += (
            compare_pairs("pictures", rule, side(a, "x"), side(b, "x"), rules).verdict == "worse"
        )
    assert called / 400 < 0.05


def test_one_broken_rule_decides_and_then_one_that_is_unclear() -> None:
    good, bad = pairs(HIGHER, [1, 2], [1, 2]), pairs(HIGHER, [1, 2], [0, 1])
    unclear = pairs(HIGHER, [1, 2, 3, 4], [0, 3, 2, 5])
    none = pairs(HIGHER, [None], [None])
    assert overall([good, unclear, bad, none]) == "worse"
    assert overall([good, unclear, none]) == "unclear"
    assert overall([good, none]) == "as_good"
    assert overall([none]) == "not_measured"


def test_measures_of_a_render() -> None:
    values = {"duration": 4.0, "cost": 0.02, "cpu_seconds": 8.0,
              "verdict": "review", "mouth_lag": -40.0, "codec": "h264", "noise": None}  # fmt: skip
    found = render_measures(values)
    assert found["cost_per_second"] == 0.005
    assert found["cpu_per_second"] == 2.0
    assert (found["failed"], found["not_passed"], found["mouth_lag_size"]) == (0.0, 1.0, 40.0)
    assert not {"codec", "noise"} & found.keys()


def test_rules_are_read_and_mistakes_named(tmp_path) -> None:
    rules = read_rules(share=0.25)
    assert rules.share == 0.25
    assert rules.pictures
    assert {"failed", "cost_per_second"} <= {rule.measure for rule in rules.canary}
    path = tmp_path / "rules.yaml"
    path.write_text("canary: [{measure: noise, better: larger, margin: 1}]")
    with pytest.raises(Usage, match=r"canary\.0\.better") as caught:
        read_rules(path)
    assert caught.value.code == "rollout.rules"
    with pytest.raises(Usage, match="No such file"):
        read_rules(tmp_path / "none.yaml")


def test_every_rule_names_a_measure_that_there_is() -> None:
    from include.features.catalogue import FEATURES

    numbers = {f.name: 1.0 for f in FEATURES["render"] if f.type == "number"}
    known = set(render_measures({**numbers, "verdict": "pass"}))
    rules = read_rules()
    assert {rule.measure for rule in (*rules.renders, *rules.canary)} <= known
    assert {r.measure for r in rules.pictures} <= {
        "psnr_y", "psnr_rgb", "ssim_y", "cpu_per_megapixel", "peak_mib",
    }  # fmt: skip
