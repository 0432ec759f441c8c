"""Waiting for what another run makes now: no slot is taken and no attempt is used up.

Two runs of one campaign are no failure of either. The task goes back to the scheduler as a sensor
in reschedule mode does, and looks again later: its retries stay for what really goes wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from airflow.sdk.exceptions import AirflowRescheduleException

from include.errors import LeaseHeld

if TYPE_CHECKING:
    from airflow.sdk import Context

FIRST_S = 15.0
LONGEST_S = 120.0


def _delay_s(looked: int) -> float:
    """How long until the next look, doubled each time: a look starts a process."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(looked, 10))


def may_wait(context: Context, limit: timedelta) -> bool:
    """Whether this attempt has waited less than a limit."""
    looked = int(context.get("task_reschedule_count") or 0)
    waited = sum(_delay_s(number) for number in range(looked))
    return waited < limit.total_seconds()


def wait_for(held: LeaseHeld, context: Context, limit: timedelta) -> NoReturn:
    """Look again later.

    Raises:
        AirflowRescheduleException: to wait.
        LeaseHeld: the attempt has waited for the limit; its retry is decided as any other.
    """
    if not may_wait(context, limit):
        raise held
    looked = int(context.get("task_reschedule_count") or 0)
    again = datetime.now(UTC) + timedelta(seconds=_delay_s(looked))
    raise AirflowRescheduleException(again)  # type: ignore[no-untyped-call]
