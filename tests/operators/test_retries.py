"""Which errors Airflow tries again."""

from __future__ import annotations

import pytest

from include import errors

pytestmark = pytest.mark.airflow

LEAVES = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.UnderstudyError)
]


@pytest.mark.parametrize("error", LEAVES, ids=lambda error: error.__name__)
def test_the_policy_agrees_with_the_error_tree(error):
    from airflow.sdk import RetryAction

    from operators.retries import BY_ERROR

    action = BY_ERROR.evaluate(error("x"), try_number=1, max_tries=3).action
    if error in (errors.UnderstudyError, errors.Bug):
        assert action is RetryAction.DEFAULT
    else:
        assert action is (RetryAction.RETRY if error.retry else RetryAction.FAIL)


def test_transient_errors_use_the_tasks_exponential_backoff():
    from operators.retries import BY_ERROR, DEFAULT_ARGS

    decision = BY_ERROR.evaluate(errors.LeaseHeld("x"), try_number=1, max_tries=3)
    assert decision.retry_delay is None
    assert DEFAULT_ARGS["retry_exponential_backoff"] > 1


def test_the_policy_survives_serialisation():
    from airflow.sdk import ExceptionRetryPolicy, RetryAction

    from operators.retries import BY_ERROR

    again = ExceptionRetryPolicy.deserialize(BY_ERROR.serialize())
    decision = again.evaluate(errors.BadFace("x"), try_number=1, max_tries=3)
    assert decision.action is RetryAction.FAIL


def test_an_outage_of_three_minutes_uses_up_no_task():
    from operators.retries import DEFAULT_ARGS

    first, factor = DEFAULT_ARGS["retry_delay"].total_seconds(), 3.0
    waits = [first * factor**number for number in range(DEFAULT_ARGS["retries"])]
    assert DEFAULT_ARGS["retry_exponential_backoff"] == factor
    assert sum(waits) >= 180
    assert max(waits) <= DEFAULT_ARGS["max_retry_delay"].total_seconds()


def test_what_was_not_foreseen_is_retried_twice_and_an_outage_as_often_as_the_task_allows():
    from airflow.sdk import RetryAction

    from operators.retries import BY_ERROR, DEFAULT_ARGS

    most = DEFAULT_ARGS["retries"]

    def decide(error, number):
        return BY_ERROR.evaluate(error, try_number=number, max_tries=most).action

    bugs = [decide(errors.Bug("x"), number) for number in (1, 2, 3)]
    assert bugs == [RetryAction.DEFAULT, RetryAction.DEFAULT, RetryAction.FAIL]
    assert decide(RuntimeError("x"), 3) is RetryAction.FAIL
    assert decide(errors.StoreUnavailable("x"), most) is RetryAction.RETRY
