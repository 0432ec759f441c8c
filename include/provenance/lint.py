"""Vocabulary lint: what a C2PA library signs and trusts without complaint, but others cannot read.

The library accepts made-up actions, source types and labels; this does not. The lists are those of
C2PA 2.4 (actions), the IPTC digital source type NewsCodes and CAWG 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ACTION_NAMES = """
addedText adjustedColor changedSpeed converted created cropped deleted drawing dubbed edited
edited.metadata enhanced filtered mastered mixed opened orientation placed published redacted
remixed removed repackaged resized resized.proportional transcoded translated trimmed unknown
watermarked.bound watermarked.unbound
"""
ACTIONS = frozenset("c2pa." + name for name in _ACTION_NAMES.split())

_SOURCE_TYPE_NAMES = """
digitalCapture computationalCapture negativeFilm positiveFilm print humanEdits
compositeWithTrainedAlgorithmicMedia algorithmicallyEnhanced dataDrivenMedia digitalCreation
virtualRecording compositeSynthetic trainedAlgorithmicMedia algorithmicMedia screenCapture
compositeCapture composite
"""
SOURCE_TYPES = frozenset(
    "http://cv.iptc.org/newscodes/digitalsourcetype/" + name for name in _SOURCE_TYPE_NAMES.split()
)

ASSERTIONS = frozenset(
    {
        "c2pa.actions.v2",
        "c2pa.hash.bmff.v3",
        "c2pa.ingredient.v3",
        "c2pa.soft-binding",
        "cawg.metadata",
        "cawg.training-mining",
    }
)
OWN_PREFIX = "com.understudy."

NEEDS_INGREDIENT = frozenset(
    {"c2pa.opened", "c2pa.placed", "c2pa.removed", "c2pa.transcoded", "c2pa.repackaged"}
)
NEEDS_SOURCE_TYPE = frozenset({"c2pa.created", "c2pa.dubbed", "c2pa.enhanced"})


def lint_manifest(manifest: Mapping[str, Any]) -> list[str]:
    """Find what is wrong with a manifest's vocabulary.

    Args:
        manifest: the builder's definition, or a manifest as the reader returns it.

    Returns:
        One sentence for each problem, an empty list when there is none.
    """
    assertions = [item for item in manifest.get("assertions", []) if isinstance(item, Mapping)]
    labels = [str(item.get("label", "")) for item in assertions]
    problems = []
    if manifest.get("claim_version") != 2:
        problems.append("the claim is not version 2")
    problems += [f"unknown assertion {label}" for label in labels if not _known_label(label)]
    actions = _actions_of(assertions)
    problems += _lint_actions(actions)
    bound = any(str(action.get("action")) == "c2pa.watermarked.bound" for action in actions)
    if bound != ("c2pa.soft-binding" in {_base(label) for label in labels}):
        problems.append("c2pa.watermarked.bound and c2pa.soft-binding need each other")
    for item in assertions:
        if _base(str(item.get("label", ""))) == "c2pa.soft-binding":
            problems += _lint_soft_binding(item.get("data", {}))
    return problems


def _base(label: str) -> str:
    """An assertion's label without the instance number (``__2``)."""
    return label.partition("__")[0]


def _known_label(label: str) -> bool:
    return _base(label) in ASSERTIONS or label.startswith(OWN_PREFIX)


def _actions_of(assertions: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    for item in assertions:
        if _base(str(item.get("label", ""))) == "c2pa.actions.v2":
            found += item.get("data", {}).get("actions", [])
    return found


def _lint_actions(actions: Sequence[Mapping[str, Any]]) -> list[str]:
    if not actions:
        return ["there is no c2pa.actions.v2"]
    problems = []
    names = [str(action.get("action")) for action in actions]
    if names[0] not in ("c2pa.opened", "c2pa.created"):
        problems.append(f"the first action is {names[0]}, not c2pa.opened or c2pa.created")
    if sum(name in ("c2pa.opened", "c2pa.created") for name in names) != 1:
        problems.append("there must be exactly one c2pa.opened or c2pa.created")
    for action in actions:
        problems += _lint_action(action)
    return problems


def _lint_action(action: Mapping[str, Any]) -> list[str]:
    name = str(action.get("action"))
    source = action.get("digitalSourceType")
    parameters = action.get("parameters") or {}
    problems = []
    if name not in ACTIONS:
        problems.append(f"unknown action {name}")
    if source is not None and source not in SOURCE_TYPES:
        problems.append(f"{name}: unknown digital source type {source}")
    if source is None and name in NEEDS_SOURCE_TYPE:
        problems.append(f"{name} has no digital source type")
    # The builder is given ids; the reader gives back hashed links.
    linked = parameters.get("ingredientIds") or parameters.get("ingredients")
    if not linked and name in NEEDS_INGREDIENT:
        problems.append(f"{name} names no ingredient")
    if name == "c2pa.translated" and not {"sourceLanguage", "targetLanguage"} <= set(parameters):
        problems.append("c2pa.translated needs sourceLanguage and targetLanguage")
    return problems


def _lint_soft_binding(data: Mapping[str, Any]) -> list[str]:
    if not data.get("alg"):
        return ["c2pa.soft-binding names no algorithm"]
    return [] if data.get("blocks") else ["c2pa.soft-binding has no blocks"]
