"""The vocabulary lint catches what the C2PA library signs without complaint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from include.provenance.lint import lint_manifest
from include.provenance.manifest import Ingredient, Provenance, build_manifest


@pytest.fixture
def manifest(provenance: Provenance, ingredients: list[Ingredient]) -> dict[str, Any]:
    return copy.deepcopy(build_manifest(provenance, ingredients, "00"))


def _actions(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest["assertions"][0]["data"]["actions"]
    return found


def test_our_own_manifest_is_clean(manifest: dict[str, Any]) -> None:
    assert lint_manifest(manifest) == []


SOFT_BINDING = {"label": "c2pa.soft-binding", "data": {"alg": "io.iscc.v0", "blocks": [{}]}}


@pytest.mark.parametrize(
    ("break_it", "problem"),
    [
        (lambda m: _actions(m).append({"action": "c2pa.beautified"}), "unknown action"),
        (lambda m: _actions(m)[2].update(digitalSourceType="magic"), "unknown digital source"),
        (lambda m: _actions(m)[4].pop("digitalSourceType"), "has no digital source type"),
        (lambda m: _actions(m).reverse(), "the first action is"),
        (lambda m: _actions(m).append(dict(_actions(m)[0])), "exactly one"),
        (lambda m: _actions(m)[-2].pop("parameters"), "c2pa.transcoded names no ingredient"),
        (lambda m: _actions(m).append({"action": "c2pa.translated"}), "sourceLanguage"),
        (lambda m: _actions(m).append({"action": "c2pa.watermarked.bound"}), "need each other"),
        (lambda m: m["assertions"].append(SOFT_BINDING), "need each other"),
        (
            lambda m: m["assertions"].append({"label": "c2pa.soft-binding", "data": {}}),
            "no algorithm",
        ),
        (lambda m: m["assertions"].append({"label": "c2pa.actions"}), "unknown assertion"),
        (lambda m: m.update(claim_version=1), "not version 2"),
        (lambda m: m["assertions"].pop(0), "no c2pa.actions.v2"),
    ],
)
def test_each_rule_fires(
    manifest: dict[str, Any], break_it: Callable[[dict[str, Any]], Any], problem: str
) -> None:
    break_it(manifest)
    assert any(problem in found for found in lint_manifest(manifest))


def test_a_watermark_with_its_soft_binding_is_clean(manifest: dict[str, Any]) -> None:
    _actions(manifest).append({"action": "c2pa.watermarked.bound"})
    manifest["assertions"].append(SOFT_BINDING)
    assert lint_manifest(manifest) == []


def test_a_manifest_needs_exactly_one_template(
    provenance: Provenance, ingredients: list[Ingredient]
) -> None:
    with pytest.raises(ValueError, match="one parentOf"):
        build_manifest(provenance, ingredients[1:], "00")
