"""The ledger: what is reserved and settled is counted once, and a limit holds among racers."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from include.errors import BudgetExceeded
from include.remote.budget import Ledger
from include.store import open_store

KEYS = [f"{number:064x}" for number in range(40)]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(open_store(str(tmp_path)), "acme", "spring")


def test_a_call_counts_from_its_reservation_to_its_price(ledger: Ledger) -> None:
    made = ledger.reserve(KEYS[0], "near", 0.4, 1.0, "USD")
    assert ledger.spent() == 0.4
    ledger.settle(made, 0.25)
    assert ledger.spent() == 0.25


def test_a_retry_of_the_same_call_is_not_counted_twice(ledger: Ledger) -> None:
    first = ledger.reserve(KEYS[0], "near", 0.6, 1.0, "USD")
    assert ledger.reserve(KEYS[0], "near", 0.6, 1.0, "USD") == first
    assert ledger.spent() == 0.6
    ledger.settle(first, 0.6)
    ledger.settle(first, 0.1)
    assert ledger.spent() == 0.6, "the first word holds"


def test_a_second_attempt_at_a_settled_call_is_another(ledger: Ledger) -> None:
    ledger.settle(ledger.reserve(KEYS[0], "near", 0.3, 1.0, "USD"), 0.3)
    ledger.settle(ledger.reserve(KEYS[0], "near", 0.3, 1.0, "USD"), 0.0)
    assert ledger.spent() == 0.3


def test_another_endpoint_has_a_reservation_of_its_own(ledger: Ledger) -> None:
    first = ledger.reserve(KEYS[0], "near", 0.2, 1.0, "USD")
    with pytest.raises(BudgetExceeded, match=r"0\.9000 USD; 0\.2000 of"):
        ledger.reserve(KEYS[0], "far", 0.9, 1.0, "USD")
    second = ledger.reserve(KEYS[0], "far", 0.5, 1.0, "USD")
    assert ledger.spent() == 0.7, "the first endpoint may have a job still"
    ledger.settle(second, 0.0)
    assert ledger.spent() == 0.2
    ledger.settle(first, 0.1)
    assert ledger.spent() == 0.1


def test_a_call_that_has_become_dearer_sets_the_rest_aside(ledger: Ledger) -> None:
    first = ledger.reserve(KEYS[0], "near", 0.2, 1.0, "USD")
    assert first.fresh
    with pytest.raises(BudgetExceeded, match=r"1\.1000 USD; 0\.0000 of"):
        ledger.reserve(KEYS[0], "near", 1.1, 1.0, "USD")
    assert ledger.spent() == 0.2, "what was held stays held"
    dearer = ledger.reserve(KEYS[0], "near", 0.9, 1.0, "USD")
    assert not dearer.fresh
    assert ledger.spent() == 0.9
    cheaper = ledger.reserve(KEYS[0], "near", 0.1, 1.0, "USD")
    assert cheaper == dearer, "its job may have been accepted at the old price"
    ledger.settle(cheaper, 0.15)
    assert ledger.spent() == 0.15


def test_entries_of_an_earlier_release_count_and_are_not_used_again(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    for name in ("001r-200000", "001s-150000", "002r-300000"):
        store.put(f"acme/spend/spring/{KEYS[0]}/{name}", b"{}")
    ledger = Ledger(store, "acme", "spring")
    assert ledger.spent() == 0.45
    made = ledger.reserve(KEYS[0], "near", 0.3, 1.0, "USD")
    assert made.fresh
    assert ledger.spent() == 0.75
    ledger.settle(made, 0.3)
    assert ledger.spent() == 0.75


def test_what_does_not_fit_is_refused_and_says_what_would(ledger: Ledger) -> None:
    ledger.reserve(KEYS[0], "near", 0.7, 1.0, "EUR")
    with pytest.raises(BudgetExceeded, match=r"0\.4000 EUR; 0\.7000 .* 1 EUR.*at least 1\.1000"):
        ledger.reserve(KEYS[1], "near", 0.4, 1.0, "EUR")
    ledger.reserve(KEYS[2], "near", 0.3, 1.0, "EUR")
    assert ledger.spent() == pytest.approx(1.0)


def test_campaigns_and_tenants_have_budgets_of_their_own(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    Ledger(store, "acme", "spring").reserve(KEYS[0], "near", 0.9, 1.0, "USD")
    for tenant, campaign in (("acme", "spring-2"), ("other", "spring")):
        Ledger(store, tenant, campaign).reserve(KEYS[0], "near", 0.9, 1.0, "USD")


def test_racers_never_overspend(tmp_path: Path) -> None:
    start = threading.Barrier(20)
    won: list[str] = []

    def racer(key: str) -> None:
        mine = Ledger(open_store(str(tmp_path)), "acme", "spring")
        start.wait()
        try:
            mine.reserve(key, "near", 0.3, 1.0, "USD")
        except BudgetExceeded:
            return
        won.append(key)

    threads = [threading.Thread(target=racer, args=(key,)) for key in KEYS[:20]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = Ledger(open_store(str(tmp_path)), "acme", "spring").spent()
    assert spent == pytest.approx(0.3 * len(won))
    assert len(won) <= 3
