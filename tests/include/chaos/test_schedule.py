"""What breaks when is decided by the seed, and every kind gets its turn."""

from __future__ import annotations

import pytest

from include.chaos.schedule import KINDS, make_schedule, possible
from include.errors import Usage

EVERYTHING = {"ceph", "postgres", "disk", "netns", "clock"}


def test_the_same_seed_plans_the_same_faults_and_another_seed_others() -> None:
    kinds = possible(EVERYTHING)
    assert make_schedule(7, 10, kinds) == make_schedule(7, 10, kinds)
    assert make_schedule(7, 10, kinds) != make_schedule(8, 10, kinds)


def test_no_kind_comes_again_before_all_were_there() -> None:
    kinds = possible(EVERYTHING)
    dealt = [fault.kind for plan in make_schedule(3, 14, kinds, 2) for fault in plan.faults]
    assert len(dealt) == 28
    assert all(dealt.count(kind) == 2 for kind in kinds)


def test_a_round_has_no_kind_twice_and_its_faults_in_order() -> None:
    for plan in make_schedule(5, 50, possible(EVERYTHING), 3):
        assert len({fault.kind for fault in plan.faults}) == 3
        assert [f.at for f in plan.faults] == sorted(f.at for f in plan.faults)
        for fault in plan.faults:
            least, most = KINDS[fault.kind].lasts_s
            assert 0 < fault.at < 1
            assert least <= fault.lasts_s <= most


def test_few_kinds_make_small_rounds() -> None:
    plans = make_schedule(1, 3, ["stage-kill"], 3)
    assert [[fault.kind for fault in plan.faults] for plan in plans] == [["stage-kill"]] * 3


def test_what_is_not_there_is_left_out_and_refused_when_asked_for() -> None:
    assert "store-kill" not in possible(set())
    assert "stage-kill" in possible(set())
    with pytest.raises(Usage, match="store-kill needs ceph"):
        possible({"disk"}, ["store-kill"])
    with pytest.raises(Usage, match="no fault 'flood'"):
        possible(EVERYTHING, ["flood"])


def test_every_kind_can_be_injected() -> None:
    from include.chaos.faults import _INJECT

    assert set(_INJECT) == set(KINDS)
