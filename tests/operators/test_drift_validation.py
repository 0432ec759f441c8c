"""A tenant's rows through Great Expectations: verdicts, reports, references and gates."""

from __future__ import annotations

import hashlib
import io
import json
import re
import socket
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from include.drift import gates
from include.errors import BadInput, CorruptArtifact
from include.features.catalogue import FEATURES
from include.samples.feature_rows import RowModel, changed, measured_rows
from include.store import open_store

pytestmark = pytest.mark.airflow

TENANT = "acme"
START = datetime(2026, 3, 1, 6, tzinfo=UTC)
LATER = START + timedelta(days=3)
CLEAN = RowModel.fit("photo", measured_rows("photo"))
WARM = RowModel.fit(
    "photo", changed(measured_rows("photo"), warmth=12.0, colour_temperature=-900.0)
)


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def collect(store, model, seed, count, start, campaign="spring"):
    from include.drift.rows import write_rows

    rows = model.rows_of(seed, count, start=start, campaign=campaign)
    return write_rows(store, TENANT, f"run-{seed}", rows)


def validate(store, run="check", **options):
    from include.drift.validate import validate_tenant

    return validate_tenant(store, TENANT, run, kinds=("photo",), **options)


@pytest.fixture
def accepted(store):
    """A store with 600 clean rows, accepted as the reference."""
    from include.drift.reference import accept, keep_batch
    from include.drift.rows import read_rows

    collect(store, CLEAN, 1, 600, START)
    batch = keep_batch(store, TENANT, "photo", read_rows(store, TENANT, "photo"))
    return accept(store, TENANT, "photo", batch, by="Ada")


def test_a_row_is_stored_once_and_comes_back_as_it_was(store):
    from include.drift.rows import read_rows

    rows = CLEAN.rows_of(1, 5, start=START)
    assert len(collect(store, CLEAN, 1, 5, START)) == 1
    assert collect(store, CLEAN, 1, 5, START) == []
    frame = read_rows(store, TENANT, "photo")
    assert list(frame["asset"]) == [row.asset for row in rows]
    assert frame["at"][0].to_pydatetime() == rows[0].made_at
    for feature in FEATURES["photo"]:
        assert list(frame[feature.name]) == [row.values[feature.name] for row in rows]


def test_nulls_and_flags_come_back_as_nulls_and_flags(store):
    from include.drift.rows import read_rows, write_rows

    model = RowModel.fit(
        "audio", [dict.fromkeys(f.name for f in FEATURES["audio"]) | {"speech_present": True}]
    )
    write_rows(store, TENANT, "run", model.rows_of(1, 3, start=START))
    frame = read_rows(store, TENANT, "audio")
    assert frame["loudness"].isna().all()
    assert list(frame["codec"]) == [None] * 3
    assert list(frame["speech_present"]) == [True] * 3


def test_rows_are_filed_by_day_and_read_from_a_time_on(store):
    from include.drift.rows import read_rows

    collect(store, CLEAN, 1, 30, START.replace(hour=23, minute=45))
    days = [info.key.split("/")[3] for info in store.list(f"{TENANT}/features/photo/")]
    assert days == ["2026-03-01", "2026-03-02"]
    assert len(read_rows(store, TENANT, "photo")) == 30
    midnight = START.replace(day=2, hour=0)
    assert len(read_rows(store, TENANT, "photo", midnight)) == 15


def test_rows_that_were_tampered_with_are_refused(store):
    from include.drift.rows import read_rows

    (key,) = collect(store, CLEAN, 1, 5, START)
    store.put(key, store.get(key)[:-1] + b"!")
    with pytest.raises(CorruptArtifact, match="other bytes than its name says"):
        read_rows(store, TENANT, "photo")


def test_without_rows_nothing_is_said(store):
    (photo,) = validate(store).verdict.kinds
    assert (photo.outcome, photo.rows) == ("too_few", 0)


def test_without_a_reference_rows_are_kept_so_that_they_can_become_one(store):
    from include.drift.reference import accept

    collect(store, CLEAN, 1, 250, START)
    (photo,) = validate(store).verdict.kinds
    assert (photo.outcome, photo.findings) == ("no_reference", ())
    assert accept(store, TENANT, "photo", photo.batch, by="Ada").rows == 250


def test_a_reference_is_frozen_with_who_accepted_it(store, accepted):
    from include.drift.reference import accept, newest, read_window

    assert (accepted.version, accepted.accepted_by, accepted.rows) == (1, "Ada", 600)
    assert len(read_window(store, accepted)) == 600
    again = accept(store, TENANT, "photo", accepted.rows_sha256, by="Bob")
    assert again == accepted == newest(store, TENANT, "photo")


def test_a_reference_of_too_few_rows_and_one_that_is_not_there_are_refused(store):
    from include.drift.reference import accept, keep_batch
    from include.drift.rows import read_rows

    collect(store, CLEAN, 1, 199, START)
    batch = keep_batch(store, TENANT, "photo", read_rows(store, TENANT, "photo"))
    with pytest.raises(BadInput, match="199 rows are too few"):
        accept(store, TENANT, "photo", batch, by="Ada")
    with pytest.raises(BadInput, match="run the validation again"):
        accept(store, TENANT, "photo", "0" * 64, by="Ada")


@pytest.mark.slow
def test_clean_rows_pass_and_are_not_judged_twice(store, accepted):
    collect(store, CLEAN, 2, 250, LATER)
    (photo,) = validate(store, "one").verdict.kinds
    assert (photo.outcome, photo.rows) == ("ok", 250)
    collect(store, CLEAN, 3, 40, LATER + timedelta(days=1))
    (photo,) = validate(store, "two").verdict.kinds
    assert photo.rows == 200  # 40 new ones, and older ones to make up the least there must be
    assert gates.current(store, TENANT, "photo") is None


def test_drift_opens_the_gate_once_and_names_what_drifted(store, accepted):
    collect(store, WARM, 2, 200, LATER)
    found = validate(store, "one")
    (photo,) = found.verdict.kinds
    assert photo.outcome == "drift"
    assert {"warmth", "colour_temperature"} <= {one.feature for one in photo.drifted}
    assert {"luma", "face_size", "blur"}.isdisjoint(one.feature for one in photo.drifted)
    (opened,) = found.changed
    assert (opened.state, opened.reason, opened.by) == ("open", "drift", "one")
    assert validate(store, "two").changed == ()
    assert [one.number for one in gates.history(store, TENANT, "photo")] == [1]


def test_a_reference_of_before_a_feature_was_measured_opens_no_gate_over_it(
    store, accepted, monkeypatch
):
    import pyarrow.parquet as pq

    from include.drift import reference
    from include.drift.rows import table_bytes

    window = reference.newest(store, TENANT, "photo")
    (key,) = [i.key for i in store.list(f"{TENANT}/reference/") if i.key.endswith(".parquet")]
    with io.BytesIO(store.get(key)) as file:
        older = table_bytes(pq.read_table(file).drop_columns(["luma"]))
    digest = hashlib.sha256(older).hexdigest()
    store.put(f"{key.rpartition('/')[0]}/{digest}.parquet", older)
    window = window.model_copy(update={"rows_sha256": digest})
    monkeypatch.setattr(reference, "newest", lambda *_: window)
    assert reference.read_window(store, window)["luma"].isna().all()
    collect(store, CLEAN, 2, 250, LATER)
    (photo,) = (found := validate(store, "one")).verdict.kinds
    assert (photo.outcome, found.changed) == ("ok", ())
    (luma,) = [one for one in photo.findings if one.feature == "luma"]
    assert luma.state == "too_few"
    assert "not in this reference" in luma.said


@pytest.mark.slow
def test_a_gate_recovers_by_later_rows_only(store, accepted):
    collect(store, WARM, 2, 200, LATER)
    validate(store, "one")
    collect(store, CLEAN, 3, 150, LATER + timedelta(days=1))
    (photo,) = (few := validate(store, "two")).verdict.kinds
    assert (photo.outcome, photo.rows, few.changed) == ("too_few", 150, ())
    collect(store, CLEAN, 4, 150, LATER + timedelta(days=2))
    (closed,) = validate(store, "three").changed
    assert (closed.state, closed.reason, closed.number) == ("closed", "recovered", 2)


@pytest.mark.slow
def test_accepted_data_is_the_reference_from_then_on(store, accepted):
    from include.drift.settle import ACCEPT, settle_answer

    collect(store, WARM, 2, 300, LATER)
    found = validate(store, "one")
    (photo,) = found.verdict.kinds
    done = settle_answer(store, TENANT, photo, ACCEPT, by="Ada", note="new studio light")
    assert (done.state, done.reason, done.by) == ("closed", "accepted", "Ada")
    collect(store, WARM, 3, 200, LATER + timedelta(days=2))
    (photo,) = validate(store, "two").verdict.kinds
    assert (photo.outcome, photo.version) == ("ok", 2)
    collect(store, CLEAN, 4, 200, LATER + timedelta(days=4))
    (photo,) = validate(store, "three").verdict.kinds
    assert photo.outcome == "drift"


@pytest.mark.slow
def test_data_that_a_person_calls_repaired_is_not_held_against_it_again(store, accepted):
    from include.drift.settle import RESUME, settle_answer

    collect(store, WARM, 2, 200, LATER)
    (photo,) = validate(store, "one").verdict.kinds
    settle_answer(store, TENANT, photo, RESUME, by="Ada", note="")
    assert validate(store, "two").changed == ()
    collect(store, WARM, 3, 200, LATER + timedelta(days=2))
    (opened,) = validate(store, "three").changed
    assert (opened.state, opened.number) == ("open", 3)


def test_stored_rows_that_break_a_hard_rule_are_named(store, accepted):
    from include.drift.rows import write_rows

    rows = CLEAN.rows_of(2, 200, start=LATER)
    for place in (3, 50):
        rows[place].values["luma"] = 5.0 + place / 100
    write_rows(store, TENANT, "run", rows)
    found = validate(store, "one")
    (photo,) = found.verdict.kinds
    assert photo.outcome == "broken"
    (breach,) = photo.breaches
    assert (breach.rule, breach.rows) == ("photo-light", 2)
    assert breach.worst == (rows[3].asset, rows[50].asset)
    assert "even light" in breach.said


@pytest.mark.slow
def test_great_expectations_and_the_light_evaluator_agree_on_every_rule_and_row(store, tmp_path):
    from include.drift.gx import Validator
    from include.drift.rows import read_rows, write_rows
    from include.expectations.suites import suite_of
    from include.features.rules import broken, hard_rules

    for kind in FEATURES:
        model = RowModel.fit(kind, measured_rows(kind))
        rows = model.rows_of(7, 120, start=START)
        for place, rule in enumerate(hard_rules(kind)):
            for number, value in enumerate(_around(rule)):
                rows[(place * 5 + number) % 120].values[rule.feature] = value
        write_rows(store, TENANT, "run", rows)
        frame = read_rows(store, TENANT, kind)
        result = Validator(tmp_path / kind).run(frame, suite_of(kind), None, None)
        theirs = {
            one["expectation_config"]["meta"]["rule"]: one["result"]["unexpected_count"]
            for one in result["results"]
        }
        ours = dict.fromkeys(theirs, 0)
        for row in rows:
            for found in broken(hard_rules(kind), row.values):
                ours[found.rule] += 1
        assert ours == theirs
        assert all(count > 0 for count in ours.values()), ours


def _around(rule):
    """Values on, inside and outside of a rule's borders, and null."""
    if rule.not_null:
        return [None]
    if rule.in_set is not None:
        wrong = not rule.in_set[0] if isinstance(rule.in_set[0], bool) else "gopher"
        return [rule.in_set[0], wrong, None]
    borders = [border for border in (rule.min, rule.max) if border is not None]
    return [border + step for border in borders for step in (-0.001, 0.0, 0.001)][:5]


def test_validation_needs_no_network_and_sends_nothing(store, accepted, monkeypatch):
    def refused(*_args, **_kwargs):
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    collect(store, CLEAN, 2, 200, LATER)
    assert validate(store).verdict.kinds[0].outcome == "ok"


@pytest.mark.slow
def test_the_report_fetches_nothing_and_explains_the_drift(store, accepted):
    collect(store, CLEAN, 2, 200, LATER)
    validate(store, "one")
    collect(store, WARM, 3, 200, LATER + timedelta(days=1), campaign="<b>summer</b>")
    found = validate(store, "two")
    page = store.get(found.verdict.report).decode()
    assert "Drift in photo assets" in page
    assert '<h3 class="bad">warmth</h3>' in page
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|<script|@import", page)
    assert "&lt;b&gt;summer&lt;/b&gt;" in page
    assert page.count("<svg") > 4
    assert "distance from the reference in the last 2 runs" in page


def test_results_and_data_docs_are_stored(store, accepted):
    collect(store, WARM, 2, 200, LATER)
    found = validate(store)
    docs = store.get(found.verdict.docs).decode()
    assert "photo" in docs
    listed = re.findall(r'<li><a href="([^"]+)"', docs)
    for page in listed:
        assert store.get(found.verdict.docs.replace("index.html", page))
    assert any(page.startswith("validations/photo/") for page in listed)
    for info in store.list(found.verdict.docs.replace("index.html", "")):
        page = store.get(info.key).decode()
        assert not re.search(r"<script|<(?!a )[^>]*(src|href)=[\"']?(https?:)?//|@import", page), (
            info
        )
        if info.key.endswith(".html"):
            assert page.count("fetches nothing and runs no script") == 1
    prefix = found.verdict.docs.rsplit("/", 1)[0]
    pages = [store.get(info.key).decode() for info in store.list(f"{prefix}/validations/")]
    assert any("warmth: median" in page and "alarm below" in page for page in pages)
    name = found.key.rsplit("/", 1)[-1].removesuffix(".json")
    result = json.loads(store.get(f"{TENANT}/drift/result/{name}/photo.json"))
    assert result["success"] is False
    types = {one["expectation_config"]["type"] for one in result["results"]}
    assert "expect_column_values_to_follow_reference" in types
    assert "expect_column_categories_to_follow_reference" in types


def test_offenders_are_the_assets_least_like_the_reference(store, accepted):
    from include.drift.rows import write_rows

    rows = WARM.rows_of(2, 200, start=LATER)
    rows[17].values["warmth"] = 60.0
    write_rows(store, TENANT, "run", rows)
    (photo,) = validate(store).verdict.kinds
    worst = {one.asset: one for one in photo.offenders}
    assert rows[17].asset in worst
    assert worst[rows[17].asset].value == 60.0
    assert len(worst) == len(photo.offenders) <= 8


def test_another_try_of_a_run_judges_the_same_rows_and_tells_the_same(store, accepted):
    collect(store, WARM, 2, 250, LATER)
    first, again = validate(store, "one"), validate(store, "one")
    assert first.changed == again.changed
    assert [one.kinds[0].batch for one in (first.verdict, again.verdict)] == [
        first.verdict.kinds[0].batch
    ] * 2
    assert len(gates.history(store, TENANT, "photo")) == 1


def test_an_answer_to_an_outdated_question_is_refused(store, accepted):
    from include.drift.settle import ACCEPT, settle_answer

    collect(store, WARM, 2, 250, LATER)
    (old,) = validate(store, "one").verdict.kinds
    collect(store, WARM, 3, 250, LATER + timedelta(days=1))
    (new,) = validate(store, "two").verdict.kinds
    settle_answer(store, TENANT, new, ACCEPT, by="Ada")
    with pytest.raises(BadInput, match="version 2 of the reference"):
        settle_answer(store, TENANT, old, ACCEPT, by="Bob")


def test_an_answer_that_was_acted_on_in_part_can_be_given_again(store, accepted):
    from include.drift.reference import accept, newest
    from include.drift.settle import ACCEPT, settle_answer

    collect(store, WARM, 2, 250, LATER)
    (photo,) = validate(store, "one").verdict.kinds
    accept(store, TENANT, "photo", photo.batch, by="Ada")  # and then its task was stopped
    done = settle_answer(store, TENANT, photo, ACCEPT, by="Ada")
    assert (done.state, done.reason) == ("closed", "accepted")
    assert newest(store, TENANT, "photo").version == 2
    assert settle_answer(store, TENANT, photo, ACCEPT, by="Ada") is None


def test_an_answer_to_an_old_question_closes_no_newer_alarm(store, accepted):
    from include.drift.settle import RESUME, resume, settle_answer

    collect(store, WARM, 2, 200, LATER)
    (old,) = validate(store, "one").verdict.kinds
    resume(store, TENANT, "photo", by="Ada")
    collect(store, WARM, 3, 200, LATER + timedelta(days=1))
    validate(store, "two")
    with pytest.raises(BadInput, match="drifted again"):
        settle_answer(store, TENANT, old, RESUME, by="Bob")
    assert gates.current(store, TENANT, "photo").state == "open"


def test_repaired_covers_all_rows_that_were_judged_while_the_gate_was_open(store, accepted):
    from include.drift.settle import resume

    collect(store, WARM, 2, 200, LATER)
    validate(store, "one")
    collect(store, WARM, 3, 200, LATER + timedelta(days=1))
    validate(store, "two")
    resume(store, TENANT, "photo", by="Ada")
    collect(store, CLEAN, 4, 20, LATER + timedelta(days=2))
    (photo,) = (after := validate(store, "three")).verdict.kinds
    assert (photo.rows, after.changed) == (20, ())


def test_rows_that_are_collected_late_are_judged_although_younger_ones_were(store, accepted):
    collect(store, CLEAN, 2, 200, LATER + timedelta(days=1))
    assert validate(store, "one").verdict.kinds[0].outcome == "ok"
    collect(store, WARM, 3, 200, LATER)  # measured before, by a campaign that took longer
    (photo,) = validate(store, "two").verdict.kinds
    assert (photo.outcome, photo.new) == ("drift", 200)


def test_what_a_hard_rule_refused_is_counted_and_in_no_comparison(store, accepted):
    from include.drift.rows import read_rows, write_rows

    collect(store, CLEAN, 2, 200, LATER)
    dark = RowModel.fit("photo", changed(measured_rows("photo"), luma=-110.0))
    refused = [replace(row, refused="photo-light") for row in dark.rows_of(3, 60, start=LATER)]
    refused[0] = replace(refused[0], refused="photo-light,photo-contrast")
    write_rows(store, TENANT, "run-3", refused)
    assert len(read_rows(store, TENANT, "photo")) == 800
    found = validate(store, "one")
    (photo,) = found.verdict.kinds
    assert (photo.outcome, photo.rows, photo.refused) == ("ok", 200, 60)
    assert [(one.rule, one.rows) for one in photo.refusals] == [
        ("photo-light", 60),
        ("photo-contrast", 1),
    ]
    assert "60 more were refused by hard rules (photo-light 60" in photo.said
    page = store.get(found.verdict.report).decode()
    assert "in no comparison: 60, 23% of what is new" in page
    assert validate(store, "two").verdict.kinds[0].refused == 0, "told once"


def test_a_damaged_picture_costs_its_thumbnail_and_not_the_report(store):
    from include.drift.records import Offender
    from include.drift.report import _picture

    store.put("acme/blob/aa/x", b"\x89PNG\r\n\x1a\n and nothing else")
    where = {"asset": "0" * 64, "unit": "u", "campaign": "c", "run_id": "r", "feature": "luma"}
    assert _picture(Offender(**where, value=1.0, picture="acme/blob/aa/x"), store) == ""


def test_a_sound_is_shown_by_its_waveform(tmp_path):
    import io
    import wave

    import numpy as np
    from PIL import Image

    from include.drift.thumbnails import WAVE_PX, thumbnail, waveform

    time = np.arange(48_000) / 48_000
    loud = np.sin(2 * np.pi * 440 * time) * np.where(time < 0.5, 0.9, 0.1)
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 48_000, 0, "NONE", ""))
        sound.writeframes((loud * 32767).astype("<i2").tobytes())
    drawn = (waveform(out.getvalue())[..., 0] < 128).sum(axis=0) / WAVE_PX[1]
    assert drawn[: WAVE_PX[0] // 2 - 1].min() > 0.85
    assert 0.05 < drawn[WAVE_PX[0] // 2 + 1 :].max() < 0.15
    with Image.open(io.BytesIO(thumbnail(out.getvalue()))) as picture:
        assert (picture.format, picture.size) == ("JPEG", WAVE_PX)


def test_columns_of_another_type_are_refused_with_the_file(store):
    import pyarrow as pa

    from include.drift.rows import read_rows, table_bytes

    data = table_bytes(pa.table({"asset": ["a"], "luma": ["bright"]}))
    key = f"{TENANT}/features/photo/2026-03-01/{sha256(data)}.parquet"
    store.put(key, data)
    with pytest.raises(CorruptArtifact, match="columns of other types"):
        read_rows(store, TENANT, "photo")


def test_a_file_without_rows_and_values_that_are_no_numbers_are_no_obstacle(store, accepted):
    from include.drift.rows import schema_of, table_bytes, write_rows

    empty = table_bytes(schema_of("photo").empty_table())
    store.put(f"{TENANT}/features/photo/2026-03-04/{sha256(empty)}.parquet", empty)
    rows = CLEAN.rows_of(2, 220, start=LATER)
    for row in rows:
        row.values["blur"] = float("nan")
        row.values["noise"] = float("inf")
    write_rows(store, TENANT, "run", rows)
    found = validate(store)
    (photo,) = found.verdict.kinds
    assert {one.feature: one.what for one in photo.drifted} == {"blur": "nulls", "noise": "nulls"}
    assert store.get(found.verdict.report)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_an_offender_is_shown_by_the_picture_that_was_measured(store, accepted, tmp_path):
    from PIL import Image

    from include.contracts.manifest import KeyMaterial
    from include.drift.rows import write_rows
    from include.store.cache import ArtifactCache

    picture = tmp_path / "photo.png"
    Image.new("RGB", (640, 800), (90, 60, 50)).save(picture)
    cache = ArtifactCache(store, TENANT)
    face = KeyMaterial(stage="ingest_recipients/face", stage_version=1)
    cache.publish(face, {"photo": (picture, "image/png")}, {})
    measured = KeyMaterial(
        stage="measure_inputs/photo",
        stage_version=1,
        upstream={"ingest_recipients/face": face.key()},
    )
    cache.publish(measured, {}, {})
    rows = WARM.rows_of(2, 200, start=LATER)
    rows[0].values["warmth"] = 54.0
    write_rows(store, TENANT, "run", [replace(rows[0], asset=measured.key()), *rows[1:]])
    found = validate(store)
    shown = [one for one in found.verdict.kinds[0].offenders if one.picture]
    assert [one.unit for one in shown] == [rows[0].unit]
    page = store.get(found.verdict.report).decode()
    assert page.count("data:image/jpeg;base64,") == 1
    assert len(page) < 200_000


@pytest.mark.slow
def test_clean_runs_through_great_expectations_raise_no_alarm(store, accepted):
    for seed in range(5):
        collect(store, CLEAN, 100 + seed, 200, LATER + timedelta(days=seed))
        (photo,) = validate(store, f"run-{seed}").verdict.kinds
        assert photo.outcome == "ok"


@pytest.mark.slow
def test_the_command_says_what_drifted_by_its_exit_code_and_settles(store, accepted, tmp_path):
    from include.cli.drift import main

    here = ["--store", str(tmp_path / "store"), "--tenant", TENANT]
    collect(store, CLEAN, 2, 200, LATER)
    assert main(here) == 0
    collect(store, WARM, 3, 200, LATER + timedelta(days=1))
    assert main([*here, "--out", str(tmp_path / "out")]) == 3
    assert "warmth" in (tmp_path / "out" / TENANT / "report.html").read_text()
    assert (tmp_path / "out" / TENANT / "docs" / "index.html").exists()
    assert main(here) == 3  # no new rows, and not settled
    assert main([*here, "--accept", "photo", "--note", "new light"]) == 0
    assert main(here) == 0
    assert gates.current(store, TENANT, "photo").said.endswith("version 2")
    assert main([*here, "--since", "yesterday"]) == 2
    assert main([*here, "--resume", "audio"]) == 0
    with pytest.raises(SystemExit):
        main(["--store", str(tmp_path / "store"), "--tenant", "../other"])
