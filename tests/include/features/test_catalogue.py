"""The catalogue is a contract: names are columns, and a row has exactly them."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from include.contracts.features import FeatureRow
from include.features.catalogue import FEATURES, feature_names

KEY = "0" * 64
SAMPLE = {"number": 1.5, "category": "x", "flag": True}


def values(kind):
    return {feature.name: SAMPLE[feature.type] for feature in FEATURES[kind]}


@pytest.mark.parametrize("kind", FEATURES)
def test_names_are_unique_and_fit_for_columns(kind):
    names = feature_names(kind)
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z_]*", name) for name in names)
    reserved = {"asset", "campaign", "run_id", "at"}
    assert not reserved & set(names)


@pytest.mark.parametrize("kind", FEATURES)
def test_every_feature_is_described_and_says_its_kind(kind):
    assert all(feature.doc and feature.kind == kind for feature in FEATURES[kind])


def test_one_name_means_one_thing_in_all_kinds():
    seen = {}
    for features in FEATURES.values():
        for feature in features:
            assert seen.setdefault(feature.name, feature.type) == feature.type


@pytest.mark.parametrize("kind", FEATURES)
def test_a_row_comes_back_from_its_file_with_the_same_types(kind):
    row = FeatureRow(kind=kind, key=KEY, values=values(kind))
    again = FeatureRow.model_validate_json(row.model_dump_json())
    assert again == row
    assert [type(v) for v in again.values.values()] == [type(v) for v in row.values.values()]


def test_whole_numbers_and_nulls_stay_numbers_and_nulls():
    given = {**values("audio"), "channels": 1, "duration": None}
    row = FeatureRow.model_validate({"kind": "audio", "key": KEY, "values": given})
    assert type(row.values["channels"]) is float
    assert row.values["duration"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"loudnes": 1.0}, "loudnes"),
        ({"loudness": "quiet"}, "no number"),
        ({"loudness": True}, "no number"),
        ({"codec": 3.0}, "no category"),
        ({"speech_present": 1.0}, "no flag"),
        ({"loudness": float("nan")}, "not finite"),
    ],
)
def test_a_row_of_other_names_or_types_is_refused_with_the_name(change, said):
    with pytest.raises(ValidationError, match=said):
        FeatureRow(kind="audio", key=KEY, values={**values("audio"), **change})


def test_a_row_that_lacks_a_feature_is_refused():
    some = values("photo")
    del some["blur"]
    with pytest.raises(ValidationError, match=r"missing \['blur'\]"):
        FeatureRow(kind="photo", key=KEY, values=some)
