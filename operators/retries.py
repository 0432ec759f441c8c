"""Which errors are worth another try, and how often: the error tree's decisions, told to Airflow.

What passes by itself (a store that restarts, a network that is cut, a disk that fills up) gets four
retries with a backoff of 5, 15, 45 and 135 s: an outage of three minutes costs no row. What we did
not foresee gets two: it will hardly be another thing the third time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryDecision, RetryRule

from include.errors import (
    BadInput,
    Misconfigured,
    OutOfMemory,
    Preempted,
    Refused,
    Transient,
    Usage,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

UNFORESEEN_RETRIES = 2
"""For bugs and time limits."""


class ErrorTreePolicy(ExceptionRetryPolicy):
    """Decides by the error's class; what no rule is about is retried less often."""

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """See ``RetryPolicy.evaluate``."""
        decision = super().evaluate(exception, try_number, max_tries, context)
        if decision.action is RetryAction.DEFAULT and try_number > UNFORESEEN_RETRIES:
            return RetryDecision.fail("not foreseen, and not mended by retrying")
        return decision


BY_ERROR = ErrorTreePolicy(
    rules=[
        RetryRule(
            exception=[BadInput, Usage],
            action=RetryAction.FAIL,
            reason="the input must change; a retry cannot help",
        ),
        RetryRule(
            exception=Refused,
            action=RetryAction.FAIL,
            reason="refused by policy; a retry cannot help",
        ),
        RetryRule(
            exception=Misconfigured,
            action=RetryAction.FAIL,
            reason="the installation must change; a retry cannot help",
        ),
        # No delay of its own: the task's exponential backoff applies.
        RetryRule(
            exception=Transient, action=RetryAction.RETRY, reason="transient; retried with backoff"
        ),
        RetryRule(
            exception=OutOfMemory,
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=30),
            reason="out of memory; retried when neighbours may have finished",
        ),
        RetryRule(
            exception=Preempted,
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=5),
            reason="the machine was taken away; retried as is",
        ),
    ]
)
"""First match wins. Anything else (a bug, a timeout) takes ``UNFORESEEN_RETRIES``."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "understudy",
    "retries": 4,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 3.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": BY_ERROR,
}
"""What every task of our DAGs starts from."""
