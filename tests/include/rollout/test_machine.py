"""A rollout's steps: in order, immutable, audited, resumable; and what is live after each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from include.errors import Misconfigured, Refused, Usage
from include.live import backend_ref, current, history
from include.provenance import audit
from include.rollout import machine
from include.rollout.canary import Sides, look
from include.rollout.golden import GoldenSet
from include.rollout.records import Rule, Rules
from include.rollout.steps import Rollout, advance, load, newest, rollouts
from include.settings import Settings
from include.store import ObjectStore, open_store

LANCZOS = backend_ref("upscale", "lanczos")
COMPACT = backend_ref("upscale", "compact")
RULES = Rules(
    share=0.25, min_rows=20, max_hours=1, canary=(Rule(measure="x", better="higher", margin=0.1),)
)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "store"))


def begin(store: ObjectStore, name: str = "lanczos", **more: str) -> Rollout:
    return machine.start(store, "acme", "upscale", name, rules=RULES, by="anna", **more)


def passed(store: ObjectStore, rollout: Rollout) -> Rollout:
    found = {"reason": "golden.as_good", "said": "as good"}
    return advance(store, rollout, "measured", by="anna", **found)


def canary(store: ObjectStore) -> Rollout:
    return machine.begin_canary(store, passed(store, begin(store)), by="anna")


def judged(level: float, rows: int, champions: int | None = None):
    """A canary's rules, judged on renders at this level beside champions at 1."""
    return look([Sides([{"x": 1.0}] * (champions or rows), [{"x": level}] * rows)], RULES)


def pointer(store: ObjectStore):
    return current(store, "acme", "upscale")


def actions(store: ObjectStore) -> list[str]:
    found = audit.verify(store, "acme")
    assert found.holds, found.problem
    return [record.action for record in audit.records(store, "acme")][1:]


def test_a_rollout_that_is_as_good_goes_through_every_step_and_is_live(store: ObjectStore) -> None:
    rollout = canary(store)
    assert pointer(store).champion is None
    assert (pointer(store).canary.backend, pointer(store).canary.share) == (LANCZOS, 0.25)
    rollout, verdict = machine.watched(store, rollout, judged(1.0, 20), by="anna")
    assert verdict == "as_good"
    rollout = machine.decide(store, rollout, by="anna")
    states = ["started", "measured", "canary", "watched", "promoted"]
    assert [step.state for step in rollout.steps] == states
    assert load(store, "acme", rollout.id) == rollout
    assert (pointer(store).champion, pointer(store).canary) == (LANCZOS, None)
    assert actions(store) == [f"rollout.{state}" for state in states]


@pytest.mark.parametrize(
    ("golden", "said"), [("", "golden campaign"), ("golden.yaml", "held-out pictures")]
)
def test_work_that_needs_the_stage_worker_is_refused_where_there_is_none_and_can_be_tried_again(
    store: ObjectStore, tmp_path: Path, golden: str, said: str
) -> None:
    rules = RULES.model_copy(update={"pictures": RULES.canary})
    rollout = machine.start(store, "acme", "upscale", "lanczos", rules=rules, by="anna")
    settings = replace(Settings.from_env(), worker_python=tmp_path / "python")
    with pytest.raises(Misconfigured, match=said):
        machine.measure(store, rollout, settings, golden=GoldenSet(golden), by="anna")
    assert load(store, "acme", rollout.id).last.state == "started"


def test_a_worse_canary_is_rolled_back_to_what_was_live(store: ObjectStore) -> None:
    rollout, verdict = machine.watched(store, canary(store), judged(0.5, 20), by="anna")
    assert verdict == "worse"
    rollout = machine.decide(store, rollout, by="anna")
    assert (rollout.last.state, rollout.last.reason) == ("rolled_back", "canary.worse")
    assert (pointer(store).champion, pointer(store).canary) == (None, None)
    last = list(audit.records(store, "acme"))[-1]
    assert last.action == "rollout.rolled_back"
    assert last.subject["reason"] == "canary.worse"
    assert last.subject["challenger"] == "lanczos"
    assert last.subject["champion_weights"] == COMPACT.weights_sha256


def test_few_rows_decide_nothing_until_time_is_up(store: ObjectStore) -> None:
    rollout = canary(store)
    began = rollout.last.at
    for level in (0.5, 1.0):
        same, verdict = machine.watched(store, rollout, judged(level, 5), by="anna")
        assert (same, verdict) == (rollout, "unclear")
    late = began + timedelta(hours=1.1)
    rollout, verdict = machine.watched(store, rollout, judged(1.0, 5), by="anna", now=late)
    assert (verdict, rollout.last.reason) == ("worse", "canary.expired")
    assert machine.decide(store, rollout, by="anna").last.state == "rolled_back"


@pytest.mark.parametrize("reason", ["golden.worse", "golden.unclear", "golden.upscaler.weights"])
def test_what_the_golden_set_does_not_show_never_meets_a_customer(store, reason: str) -> None:
    rollout = advance(store, begin(store), "measured", by="anna", reason=reason, said="no")
    with pytest.raises(Refused, match="golden set was not passed"):
        machine.begin_canary(store, rollout, by="anna")
    rollout = machine.gate(store, rollout, by="anna")
    assert (rollout.last.state, rollout.last.reason) == ("rolled_back", reason)
    assert machine.begin_canary(store, rollout, by="anna") == rollout
    assert pointer(store) is None, "nothing ever went live"


def test_one_rollout_of_a_stage_at_a_time(store: ObjectStore) -> None:
    rollout = begin(store)
    with pytest.raises(Refused, match=rollout.id) as caught:
        begin(store)
    assert caught.value.code == "rollout.running"
    with pytest.raises(Refused, match="under way"):
        machine.set_by_hand(store, "acme", "upscale", "lanczos", by="anna")
    machine.roll_back(store, rollout, by="anna")
    assert newest(store, "acme", "upscale").last.state == "rolled_back"
    begin(store, rollout="second")
    assert [each.id for each in rollouts(store, "acme")] == [rollout.id, "second"]


def test_of_two_that_start_at_the_same_moment_none_is_left_running_unseen(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is written between our look around and our first step."""
    write, others = machine.write, []

    def slowly(store: ObjectStore, rollout: Rollout) -> Rollout:
        if not others:
            others.append("there")
            step = rollout.steps[0].model_copy(update={"rollout": "other"})
            write(store, Rollout((step,)))
        return write(store, rollout)

    monkeypatch.setattr(machine, "write", slowly)
    with pytest.raises(Refused, match="other") as caught:
        begin(store, rollout="mine")
    assert caught.value.code == "rollout.running"
    assert load(store, "acme", "mine").last.reason == "start.raced"
    assert [each.id for each in rollouts(store, "acme") if not each.ended] == ["other"]


def test_a_backend_that_changed_since_it_was_tried_is_not_promoted(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rollout = canary(store)
    newer = LANCZOS.model_copy(update={"version": "9"})
    monkeypatch.setattr(machine, "backend_ref", lambda stage, name: newer)
    with pytest.raises(Refused, match="not what was tried") as caught:
        machine.promote(store, rollout, by="anna")
    assert caught.value.code == "rollout.outdated"
    assert pointer(store).champion is None


def test_a_last_step_that_was_not_recorded_is_recorded_when_it_is_asked_for_again(store) -> None:
    rollout, _ = machine.watched(store, canary(store), judged(1.0, 20), by="anna")
    rollout = machine.decide(store, rollout, by="anna")
    lost = [info.key for info in store.list("acme/audit/") if info.key.endswith(".json")][-1]
    store.delete(lost)
    machine.decide(store, rollout, by="anna")
    assert actions(store)[-1] == "rollout.promoted"


def test_too_few_renders_say_how_many_it_takes_and_what_to_do(store: ObjectStore) -> None:
    rollout = canary(store)
    late = rollout.last.at + timedelta(hours=1.1)
    rollout, _ = machine.watched(store, rollout, judged(1.0, 5, 9), by="anna", now=late)
    said = rollout.last.said
    assert "5 renders of lanczos and 9 of compact came about; at least 20 of each are" in said
    assert "larger --share (now 25%)" in said
    assert "longer max_hours (now 1)" in said


def test_starting_a_known_rollout_goes_on_with_it(store: ObjectStore) -> None:
    rollout = passed(store, begin(store, rollout="mine"))
    assert begin(store, rollout="mine") == rollout


@pytest.mark.parametrize(("name", "code"), [("compact", "rollout.live"), ("x", "backend.unknown")])
def test_what_cannot_be_rolled_out_is_refused(store: ObjectStore, name: str, code: str) -> None:
    with pytest.raises((Refused, Usage)) as caught:
        begin(store, name)
    assert caught.value.code == code
    assert rollouts(store, "acme") == []


def test_an_interrupted_driver_makes_no_step_twice(store: ObjectStore) -> None:
    rollout = canary(store)
    assert machine.begin_canary(store, rollout, by="anna") == rollout
    # Stopped between the pointer and the step: the pointer is not moved again.
    before = Rollout(rollout.steps[:-1])
    store.delete(f"acme/rollout/{rollout.id}/0003.json")
    again = machine.begin_canary(store, before, by="anna")
    assert again.last.live == rollout.last.live
    assert len(history(store, "acme", "upscale")) == 1


def test_a_step_that_was_not_recorded_is_recorded_before_the_next(store: ObjectStore) -> None:
    rollout = begin(store)
    lost = [info.key for info in store.list("acme/audit/") if info.key.endswith(".json")][-1]
    store.delete(lost)
    passed(store, rollout)
    assert actions(store) == ["rollout.started", "rollout.measured"]


def test_two_drivers_cannot_both_take_a_step(store: ObjectStore) -> None:
    rollout = begin(store)
    passed(store, rollout)
    with pytest.raises(Refused) as caught:
        machine.roll_back(store, rollout, by="ben")
    assert caught.value.code == "rollout.changed"


def test_a_promotion_can_be_taken_back_while_nothing_newer_is_live(store: ObjectStore) -> None:
    rollout = machine.promote(store, canary(store), by="anna")
    assert pointer(store).champion == LANCZOS
    rollout = machine.roll_back(store, rollout, by="anna")
    assert pointer(store).champion is None
    with pytest.raises(Refused, match="already"):
        machine.roll_back(store, rollout, by="anna")
    rollout = machine.promote(store, passed(store, begin(store, rollout="next")), by="anna")
    machine.set_by_hand(store, "acme", "upscale", None, by="anna")
    with pytest.raises(Refused, match="something newer is live"):
        machine.roll_back(store, rollout, by="anna")


def test_a_promotion_can_be_taken_back_after_a_later_canary_was(store: ObjectStore) -> None:
    first = machine.promote(store, canary(store), by="anna")
    second = begin(store, "compact", rollout="next")
    second = machine.begin_canary(store, passed(store, second), by="anna")
    with pytest.raises(Refused, match="something newer is live"):
        machine.roll_back(store, first, by="anna")
    machine.roll_back(store, second, by="anna")
    assert pointer(store).champion == LANCZOS
    first = machine.roll_back(store, load(store, "acme", first.id), by="anna")
    assert first.last.state == "rolled_back"
    assert pointer(store).champion is None


def test_a_change_by_hand_ends_no_rollout_unseen(store: ObjectStore) -> None:
    """Somebody who writes the pointer past us is not overwritten."""
    from include.live import set_live

    rollout = passed(store, begin(store))
    set_live(store, None, tenant="acme", stage="upscale", champion=LANCZOS, by="ben")
    with pytest.raises(Refused) as caught:
        machine.begin_canary(store, rollout, by="anna")
    assert caught.value.code == "live.changed"


def test_what_is_live_by_hand_is_in_the_log(store: ObjectStore) -> None:
    machine.set_by_hand(store, "acme", "upscale", "lanczos", by="anna")
    assert pointer(store).champion == LANCZOS
    (record,) = [r for r in audit.records(store, "acme") if r.action == "live.set"]
    assert record.subject == {"stage": "upscale", "backend": "lanczos", "live": "1"}
    assert record.by == "anna"
