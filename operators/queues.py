"""Celery queues by stage class: named by ``UNDERSTUDY_QUEUES``, read when a DAG is parsed."""

from __future__ import annotations

import os

from include.stages.specs import StageSpec


def stage_queue(spec: StageSpec) -> str | None:
    """The queue that a stage's tasks wait in; None for Airflow's default queue.

    Of the queues that there are, a stage takes the one of its GPU (``gpu-small``, ``gpu-large``),
    unless only some backends use it, else the one named like its pool (``cpu``, ``io``). Other
    executors than Celery's ignore queues.
    """
    there = {name.strip() for name in os.environ.get("UNDERSTUDY_QUEUES", "").split(",")}
    wanted = ([f"gpu-{spec.gpu}"] if spec.gpu and not spec.gpu_for else []) + [spec.pool]
    return next((name for name in wanted if name in there), None)
