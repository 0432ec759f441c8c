"""Gates: how policies are written, and what an open gate does to a campaign that is planned."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from include.drift import gates
from include.drift.gates import gates_of, parse_policies
from include.drift.records import Finding, KindVerdict
from include.drift.since import parse_since
from include.errors import Refused, Usage
from include.store import open_store

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def verdict(outcome, kind="photo", until=NOW):
    finding = Finding(
        feature="luma",
        test="ks_wasserstein",
        state="drifted" if outcome == "drift" else "steady",
        said="luma: median 90, was 120; 1.20 sd apart",
        rows_reference=500,
        rows_current=200,
        nulls_reference=0,
        nulls_current=0,
        alpha=1e-4,
        size=1.2,
        threshold=0.2,
    )
    return KindVerdict(
        kind=kind, outcome=outcome, rows=200, until=until, suite="0" * 64, findings=(finding,)
    )


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def judge(store, *verdicts, run="run"):
    return gates.apply(store, "acme", verdicts, run, "acme/drift/report/x.html")


def test_policies_are_for_everybody_and_for_single_tenants():
    assert parse_policies("") == {"": "warn"}
    assert parse_policies("review, acme=stop") == {"": "review", "acme": "stop"}


@pytest.mark.parametrize("text", ["stopp", "acme=", "acme=no"])
def test_an_unknown_policy_is_refused_with_the_known_ones(text):
    with pytest.raises(Usage, match="warn, review, stop"):
        parse_policies(text)


def test_states_are_appended_and_never_changed(store):
    judge(store, verdict("drift"), run="one")
    first = store.get("acme/gate/photo/000001.json")
    judge(store, verdict("ok"), run="two")
    judge(store, verdict("drift"), run="three")
    assert [(s.number, s.state, s.by) for s in gates.history(store, "acme", "photo")] == [
        (1, "open", "one"),
        (2, "closed", "two"),
        (3, "open", "three"),
    ]
    assert store.get("acme/gate/photo/000001.json") == first


def test_a_gate_that_somebody_moved_since_the_rows_were_chosen_is_left_alone(store):
    chosen = verdict("drift").model_copy(update={"gate": 0})
    judge(store, verdict("drift"), run="one")
    gates.settle(store, "acme", "photo", "resumed", by="Ada", said="repaired")
    assert judge(store, chosen, run="slow") == []
    assert gates.current(store, "acme", "photo").by == "Ada"
    assert judge(store, chosen.model_copy(update={"gate": 2}), run="next")[0].number == 3


def test_a_gate_stays_open_while_what_opened_it_is_in_doubt(store):
    judge(store, verdict("drift"), run="one")
    assert gates.current(store, "acme", "photo").features == ("luma",)
    doubt = verdict("ok")
    other = doubt.findings[0].model_copy(update={"feature": "blur"})
    few = doubt.findings[0].model_copy(update={"state": "too_few"})
    doubt = doubt.model_copy(update={"findings": (few, other)})
    assert judge(store, doubt, run="two") == []
    assert judge(store, verdict("ok"), run="three")[0].reason == "recovered"


@pytest.mark.parametrize("outcome", ["too_few", "no_reference", "broken"])
def test_only_rows_as_expected_close_a_gate(store, outcome):
    judge(store, verdict("drift"), run="one")
    assert judge(store, verdict(outcome), run="two") == []
    assert gates.current(store, "acme", "photo").state == "open"


def test_each_kind_of_asset_has_a_gate_of_its_own(store):
    judge(store, verdict("drift"), verdict("drift", "audio"), run="one")
    judge(store, verdict("ok"), run="two")
    assert [gate.kind for gate in gates_of(store, "acme", "warn").open] == ["audio"]
    assert gates_of(store, "other", "warn").open == ()


def test_a_policy_of_stop_refuses_with_what_to_do_and_others_go_on(store):
    judge(store, verdict("drift"))
    with pytest.raises(Refused, match=r"photo: luma: median 90.*Required Actions") as caught:
        gates_of(store, "acme", "warn,acme=stop").check()
    assert caught.value.code == "drift.gate"
    for policy, looked_at in (("warn", False), ("review", True)):
        found = gates_of(store, "acme", policy)
        found.check()
        assert found.review_all is looked_at


def test_a_persons_word_closes_an_open_gate_only(store):
    assert gates.settle(store, "acme", "photo", "resumed", by="Ada", said="repaired") is None
    judge(store, verdict("drift"))
    closed = gates.settle(store, "acme", "photo", "resumed", by="Ada", said="repaired")
    assert (closed.state, closed.by, closed.until) == ("closed", "Ada", NOW)
    gates_of(store, "acme", "stop").check()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-02-01", datetime(2026, 2, 1, tzinfo=UTC)),
        ("2026-02-01T06:00+02:00", datetime(2026, 2, 1, 4, tzinfo=UTC)),
        ("24h", datetime(2026, 2, 28, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 2, 15, 12, tzinfo=UTC)),
    ],
)
def test_times_are_read_as_people_write_them(text, expected):
    assert parse_since(text, NOW) == expected


def test_another_form_of_time_is_refused_with_the_forms():
    with pytest.raises(Usage, match="24h, 7d, 2w"):
        parse_since("yesterday")
