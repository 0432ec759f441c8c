"""Which errors are worth another try: the error tree's decisions, told to Airflow."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include.errors import (
    BadInput,
    Misconfigured,
    OutOfMemory,
    Preempted,
    Refused,
    Transient,
    Usage,
)

BY_ERROR = ExceptionRetryPolicy(
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
"""First match wins. Anything else (a bug, a timeout) takes the task's plain retries."""

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "understudy",
    "retries": 2,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": 3.0,
    "max_retry_delay": timedelta(minutes=10),
    "retry_policy": BY_ERROR,
}
"""What every task of our DAGs starts from."""
