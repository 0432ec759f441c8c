"""The shape of the rollout: one step after the other, and a report whatever happens."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise

import pytest

pytestmark = pytest.mark.airflow

STEPS = ("start", "golden", "gate", "canary", "watch", "decide", "report")


def test_every_step_waits_for_the_one_before(dags):
    dag = dags["model_rollout"]
    assert set(dag.task_ids) == set(STEPS)
    for before, after in pairwise(STEPS):
        assert before in dag.get_task(after).upstream_task_ids


def test_watching_holds_no_worker(dags):
    watch = dags["model_rollout"].get_task("watch")
    assert watch.mode == "reschedule"
    assert watch.timeout > 7 * 86400


@pytest.mark.parametrize(
    ("conf", "ok"),
    [
        ({"tenant": "acme", "backend": "studio"}, True),
        ({"tenant": "acme", "backend": "studio", "share": 0.2, "stage": "lip_sync"}, True),
        ({"tenant": "acme"}, False),
        ({"tenant": "a/b", "backend": "studio"}, False),
        ({"tenant": "acme", "backend": "studio", "share": 1}, False),
        ({"tenant": "acme", "backend": "studio", "stage": "safety"}, False),
    ],
)
def test_the_form_takes_what_can_be_rolled_out(dags, conf, ok):
    from airflow.sdk.exceptions import ParamValidationError

    params = deepcopy(dags["model_rollout"].params)
    try:
        params.update(conf)
        params.validate()
    except (ParamValidationError, ValueError):
        assert not ok
    else:
        assert ok
