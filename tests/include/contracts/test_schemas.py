from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from include.contracts.base import Contract, canonical_json, digest_json
from include.contracts.brief import Brief
from include.contracts.export import EXPORTED, FOLDER, schema_path, schema_text
from include.contracts.manifest import BackendRef, KeyMaterial
from include.contracts.stage import StageRequest

BRIEF = {
    "campaign": "spring",
    "tenant": "acme",
    "template": {"video": "a.mp4", "consent": "c.json"},
    "recipients": "r.csv",
}


@pytest.mark.parametrize("contract", EXPORTED, ids=lambda c: c.__name__)
def test_the_exported_schema_is_the_one_of_the_code(contract: type[Contract]) -> None:
    written = schema_path(contract).read_text(encoding="utf-8")
    assert written == schema_text(contract), "run: python -m include.contracts.export"


def test_no_schema_is_left_behind_by_a_contract_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {c.__name__ for c in EXPORTED}


@pytest.mark.parametrize("contract", EXPORTED, ids=lambda c: c.__name__)
def test_the_schema_is_valid_json_schema(contract: type[Contract]) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text(contract)))


def test_a_brief_that_the_contract_takes_is_taken_by_the_schema_too() -> None:
    dumped = Brief.model_validate(BRIEF).model_dump(mode="json")
    jsonschema.validate(dumped, json.loads(schema_text(Brief)))


def test_unknown_fields_are_errors() -> None:
    with pytest.raises(ValidationError, match="recipient_table"):
        Brief.model_validate({**BRIEF, "recipient_table": "x"})


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.2s", 1.2), ("1200ms", 1.2), ("3", 3.0), (0.5, 0.5)]
)
def test_times_are_read_with_and_without_units(text: object, seconds: float) -> None:
    brief = Brief.model_validate({**BRIEF, "voice": {"at": text}})
    assert brief.voice.at == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "1.2 h", "-1s"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        Brief.model_validate({**BRIEF, "voice": {"at": text}})


def test_a_request_of_another_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        StageRequest.model_validate(
            {
                "schema_version": 2,
                "stage": "compose",
                "store": "s",
                "tenant": "acme",
                "plan": "p",
                "units": ["a"],
                "run_id": "r",
                "result": "x",
            }
        )


def test_canonical_json_has_one_form_for_one_value() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "other"},
        {"stage_version": 2},
        {"params": {"crf": 19}},
        {"sources": {"video": "0" * 64}},
        {"upstream": {"x": "1" * 64}},
        {"backend": BackendRef(name="b", version="2")},
        {"backend": BackendRef(name="b", version="1", weights_sha256="2" * 64)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_in_the_material_is_in_the_key(change: dict[str, object]) -> None:
    base = KeyMaterial(stage="compose", stage_version=1, backend=BackendRef(name="b", version="1"))
    assert base.model_copy(update=change).key() != base.key()


def test_a_parameter_that_is_not_a_number_has_no_key() -> None:
    with pytest.raises(ValueError, match="JSON"):
        KeyMaterial(stage="compose", stage_version=1, params={"x": float("nan")}).key()


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: (
        st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=8,
)


@given(params=st.dictionaries(st.text(), JSON_LIKE), backend=st.booleans())
def test_a_key_is_the_digest_of_the_materials_canonical_json(
    params: dict[str, object], backend: bool
) -> None:
    named = BackendRef(name="mesh", version="1") if backend else None
    material = KeyMaterial(stage="compose", stage_version=2, backend=named, params=params)
    assert material.key() == digest_json(material.model_dump(mode="json"))


def test_a_key_that_was_asked_for_changes_nothing_else() -> None:
    asked, fresh = (KeyMaterial(stage="compose", stage_version=2) for _ in range(2))
    key = asked.key()
    assert asked == fresh
    assert asked.model_dump_json() == fresh.model_dump_json()
    assert asked.model_copy(update={"stage_version": 3}).key() != key
    assert asked.model_copy().key() == key
