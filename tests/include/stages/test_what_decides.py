"""Which error ends a stage's attempt, when several rows failed for different reasons."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.contracts.stage import StageRequest
from include.errors import BadFace, LeaseHeld, StoreUnavailable, UnderstudyError
from include.stages.runner import _raise_what_decides, from_the_system
from include.stages.specs import STAGES

HELD, DOWN, BAD = LeaseHeld("held"), StoreUnavailable("down"), BadFace("bad")


def decide(errors: list[UnderstudyError], *, last: bool, may_wait: bool) -> None:
    request = StageRequest(
        stage="compose",
        store="s",
        tenant="acme",
        plan="p",
        units=("eve",),
        run_id="r",
        result="x",
        last_attempt=last,
        may_wait=may_wait,
    )
    _raise_what_decides(STAGES["compose"], errors, request)


@pytest.mark.parametrize("last", [False, True])
def test_what_others_make_is_waited_for_on_the_last_attempt_too(last: bool) -> None:
    with pytest.raises(LeaseHeld):
        decide([BAD, HELD], last=last, may_wait=True)


def test_who_cannot_wait_any_longer_records_the_row_on_the_last_attempt() -> None:
    decide([HELD], last=True, may_wait=False)
    with pytest.raises(LeaseHeld):
        decide([HELD], last=False, may_wait=False)


def test_a_failure_that_a_retry_may_mend_uses_up_an_attempt_although_others_wait() -> None:
    with pytest.raises(StoreUnavailable):
        decide([HELD, DOWN], last=False, may_wait=True)
    with pytest.raises(LeaseHeld):
        decide([HELD, DOWN], last=True, may_wait=True)
    decide([DOWN, BAD], last=True, may_wait=True)


def test_a_disk_that_is_full_is_no_bug_whoever_writes() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        Path("/dev/full").write_text("scratch")
    found = from_the_system(caught.value)
    assert isinstance(found, StoreUnavailable)
    assert (found.code, found.retry) == ("disk.full", True)
    assert from_the_system(ValueError("ours")) is None
    assert from_the_system(FileNotFoundError(2, "ours too")) is None
