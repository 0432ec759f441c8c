"""The audit log on every store: the chain holds, and what breaks it is named."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from include.errors import CorruptArtifact
from include.provenance.audit import BEGUN, MONTH_CLOSED, append, ident, key_of, records, verify
from include.store import ObjectStore

NOVEMBER = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 1, 0, 1, tzinfo=UTC)


def note(store: ObjectStore, now: datetime = NOVEMBER, **subject: str):
    return append(store, "acme", "model.promoted", by="anna", subject=subject, now=now)


def test_records_are_chained_in_the_order_written(store: ObjectStore) -> None:
    made = [note(store, rollout=f"r{number}") for number in range(3)]
    assert [key_of(record) for record in made] == [
        f"acme/audit/2026/11/{number:012d}.json" for number in (2, 3, 4)
    ]
    first, *rest = records(store, "acme")
    assert rest == made
    assert (first.action, first.previous) == (BEGUN, None)
    assert [r.previous for r in made] == [first.digest, made[0].digest, made[1].digest]
    found = verify(store, "acme")
    assert (found.holds, found.records, found.head) == (True, 4, made[-1].digest)


def test_an_empty_log_holds(store: ObjectStore) -> None:
    assert verify(store, "acme").holds
    assert verify(store, "acme").records == 0


def test_tenants_have_logs_of_their_own(store: ObjectStore) -> None:
    note(store)
    other = append(store, "globex", "model.promoted", by="ben", subject={}, now=NOVEMBER)
    assert other.number == 2


def test_a_month_is_closed_before_the_next_begins(store: ObjectStore) -> None:
    note(store)
    late = note(store, DECEMBER)
    assert key_of(late) == "acme/audit/2026/12/000000000004.json"
    actions = [record.action for record in records(store, "acme")]
    assert actions == [BEGUN, "model.promoted", MONTH_CLOSED, "model.promoted"]
    assert verify(store, "acme").holds


def test_a_clock_that_runs_behind_does_not_fork_the_chain(store: ObjectStore) -> None:
    note(store)
    note(store, DECEMBER)
    behind = note(store, NOVEMBER)
    assert behind.number == 5
    assert behind.at == DECEMBER
    assert verify(store, "acme").holds


def test_a_month_that_was_only_closed_is_gone_on_from_by_every_clock(store: ObjectStore) -> None:
    first = note(store)
    note(store, DECEMBER)
    store.delete("acme/audit/2026/12/000000000004.json")  # as if the writer died in between
    behind = note(store, NOVEMBER)
    assert (behind.number, key_of(behind)) == (4, "acme/audit/2026/12/000000000004.json")
    assert behind.at > first.at
    assert verify(store, "acme").holds


def test_writers_that_race_lose_no_record_and_overwrite_none(store: ObjectStore) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: note(store, DECEMBER if n % 2 else NOVEMBER, n=str(n)), range(16)))
    assert verify(store, "acme").holds
    written = [record.subject["n"] for record in records(store, "acme") if record.subject]
    assert sorted(written, key=int) == [str(number) for number in range(16)]


@pytest.fixture
def five(store: ObjectStore) -> list[str]:
    return [key_of(note(store, rollout=f"r{number}")) for number in range(5)]


def changed(store: ObjectStore, key: str, **fields: object) -> None:
    store.put(key, json.dumps({**json.loads(store.get(key)), **fields}).encode())


def test_a_changed_record_is_named(store: ObjectStore, five: list[str]) -> None:
    changed(store, five[2], by="somebody-else")
    found = verify(store, "acme")
    assert (found.broken, found.records) == (five[2], 3)
    assert "changed" in found.problem


def test_a_record_made_anew_breaks_the_link_after_it(store: ObjectStore, five: list[str]) -> None:
    for key in five[2:]:
        store.delete(key)
    forged = note(store, rollout="forged")
    assert key_of(forged) == five[2]
    assert verify(store, "acme").holds, "cutting off the end is what a chain alone cannot show"
    kept = [json.loads(store.get(key)) for key in five[:3]]
    store.put(five[3], json.dumps({**kept[1], "number": 5}).encode())
    assert verify(store, "acme").broken == five[3]


def test_a_missing_record_is_named_by_its_number(store: ObjectStore, five: list[str]) -> None:
    store.delete(five[1])
    found = verify(store, "acme")
    assert found.broken == five[2]
    assert "record 3 is missing" in found.problem


def test_a_record_of_another_log_does_not_fit_in(store: ObjectStore, five: list[str]) -> None:
    other = append(store, "globex", "model.promoted", by="ben", subject={}, now=NOVEMBER)
    store.put(five[0], store.get(key_of(other)))
    assert verify(store, "acme").broken == five[0]


def test_bytes_that_are_no_record_are_named_and_nothing_is_chained_to_them(
    store: ObjectStore, five: list[str]
) -> None:
    store.put(five[4], b"{}")
    assert verify(store, "acme").broken == five[4]
    with pytest.raises(CorruptArtifact, match=five[4]):
        note(store)


@pytest.mark.parametrize("text", ["Eve Example", "She said: yes", "", "a\nb", "x" * 201])
def test_no_sentence_and_no_name_gets_in(store: ObjectStore, text: str) -> None:
    with pytest.raises(ValidationError):
        note(store, recipient=text)
    assert not [record for record in records(store, "acme") if record.subject]
    note(store, recipient=ident(text))
