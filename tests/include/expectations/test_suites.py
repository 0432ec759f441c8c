"""Expectations files: what they may say, and that a wrong one is told what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from include.errors import Usage
from include.expectations.suites import read_suite, suite_of
from include.features.catalogue import FEATURES, AssetKind


@pytest.mark.parametrize("kind", FEATURES)
def test_every_kind_of_asset_has_expectations(kind: AssetKind) -> None:
    suite = suite_of(kind)
    assert suite.kind == kind
    assert suite.hard
    assert suite.drift


@pytest.mark.parametrize("kind", FEATURES)
def test_a_rule_is_named_after_its_kind_so_that_its_code_says_where_it_applies(
    kind: AssetKind,
) -> None:
    assert all(rule.rule.startswith(f"{kind}-") for rule in suite_of(kind).hard)


def write(folder: Path, **changes: object) -> Path:
    path = folder / "photo.yaml"
    path.write_text(yaml.safe_dump({"kind": "photo", "hard": [], "drift": []} | changes))
    return path


def hard(**fields: object) -> list[dict[str, object]]:
    return [{"rule": "photo-x", "message": "do something"} | fields]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hard": hard(feature="nose", min=1)}, "hard[0].feature: there is no feature 'nose'"),
        ({"hard": hard(feature="luma")}, "give min and max, or in_set, or not_null"),
        ({"hard": hard(feature="luma", min=1, not_null=True)}, "give min and max, or in_set"),
        ({"hard": hard(feature="luma", min=2, max=1)}, "min 2 is above max 1"),
        ({"hard": hard(feature="luma", in_set=["a"])}, "hard[0].in_set: does not fit luma"),
        ({"hard": hard(feature="container", min=1)}, "container is a category"),
        ({"hard": hard(feature="luma", min=1) * 2}, "hard: rule: given twice: photo-x"),
        ({"drift": [{"feature": "luma", "test": "chi_square"}]}, "a number takes ks_wasserstein"),
        ({"drift": [{"feature": "luma", "test": "t"}]}, "drift.0.test"),
        ({"kind": "hat"}, "kind: "),
        ({"colour": 1}, "colour: "),
    ],
)
def test_a_wrong_file_is_told_what_is_wrong(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(Usage) as caught:
        read_suite(write(tmp_path, **changes))
    assert said in caught.value.message
    assert caught.value.code == "expectations.bad"


def test_what_is_known_only_after_the_rule_was_applied_cannot_be_a_hard_rule(
    tmp_path: Path,
) -> None:
    path = tmp_path / "render.yaml"
    rules = [{"rule": "render-x", "feature": "verdict", "in_set": ["pass"], "message": "look"}]
    path.write_text(yaml.safe_dump({"kind": "render", "hard": rules, "drift": []}))
    with pytest.raises(Usage, match="verdict is not known yet"):
        read_suite(path)


def test_the_hard_rules_digest_follows_hard_rules_only(tmp_path: Path) -> None:
    drift = [{"feature": "luma", "test": "ks_wasserstein"}]
    plain = read_suite(write(tmp_path))
    with_drift = read_suite(write(tmp_path, drift=drift))
    with_hard = read_suite(write(tmp_path, hard=hard(feature="luma", min=1)))
    assert plain.hard_digest == with_drift.hard_digest != with_hard.hard_digest
    assert plain.digest != with_drift.digest
