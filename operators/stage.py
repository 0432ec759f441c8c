"""The operator of all stages: one try after the other, until the shard's artifacts are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from include.errors import LeaseHeld
from include.stages.specs import STAGES
from operators.queues import stage_queue
from operators.waiting import wait_for

if TYPE_CHECKING:
    from airflow.sdk import Context

    from operators.attempt import Attempt


class StageOperator(BaseOperator):
    """Runs one stage for a shard, or does nothing when everything is there already.

    The units whose artifacts exist, and those that no missing artifact is made from, are
    counted as hits without starting a process. The rest goes to the stage process in one
    request. Its exit code becomes an error of ``include.errors``, whose class decides about the
    retry (see ``operators.retries``). What another run makes at the moment is waited for without a
    worker slot and without using up an attempt (see ``operators.waiting``). Variants of a template,
    for rows that try another backend, come after it; what is wrong with one of them is no other
    row's concern.

    Args:
        stage: name of the stage in ``include.stages.specs``.
        shard: a ``ShardRef`` as plain data (templated; usually an XCom). A further item
            ``units`` limits the work to these unit ids; ``chunk`` says which chunk.
        by_chunk: make only one chunk of each artifact, for a task that makes the whole later.
        runtime: where to run the stage, instead of where ``UNDERSTUDY_RUNTIME`` says.

    Returns (XCom): a ``StageResultRef`` as plain data.

    Raises:
        UnderstudyError: as the stage's exit code says.
    """

    template_fields = ("shard",)
    ui_color = "#e8f0ec"

    def __init__(
        self,
        *,
        stage: str,
        shard: Mapping[str, Any],
        runtime: str | None = None,
        by_chunk: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"task_id": stage, **_task_defaults(stage), **kwargs})
        self.stage = stage
        self.shard = shard
        self.runtime = runtime
        self.by_chunk = by_chunk
        self._attempt: Attempt | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """See the class."""
        return self._try(context, None)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Where Airflow goes on after a runtime left the task (see ``Runtime.resume``).

        What this try has settled already is not done again; what the event is about is finished.

        Args:
            context: the task's.
            event: what the trigger said, with the ``request`` that was worked on.
        """
        return self._try(context, event)

    def on_kill(self) -> None:
        """Stop the stage with everything it started."""
        if self._attempt is not None:
            self._attempt.kill()

    def _try(self, context: Context, resumed: Mapping[str, Any] | None) -> dict[str, Any]:
        from operators.attempt import Attempt  # what a DAG's parsing need not import

        spec = STAGES[self.stage]
        self._attempt = Attempt(
            spec,
            self.shard,
            context,
            self.log,
            by_chunk=self.by_chunk,
            runtime=self.runtime,
            resumed=resumed,
        )
        try:
            return self._attempt.run()
        except LeaseHeld as held:
            wait_for(held, context, spec.timeout)


def _task_defaults(stage: str) -> dict[str, Any]:
    spec = STAGES[stage]
    queue = stage_queue(spec)
    return {
        **({"queue": queue} if queue else {}),
        "pool": spec.pool,
        "execution_timeout": spec.timeout,
        "map_index_template": "{{ task.shard['label'] }}",
    }


def stage_defaults(stage: str) -> dict[str, Any]:
    """Arguments for ``StageOperator.partial``, which knows no defaults of its own."""
    return {"stage": stage, **_task_defaults(stage)}
