"""Stages that do nothing, to measure the graph alone (``bench fanout``)."""

from __future__ import annotations

from include.errors import Usage
from include.stages.specs import StageSpec
from operators.runtimes.base import OnEvent, Runtime

MARK = "noop-store"
"""Object that a benchmark puts into its own store. In any other store nothing is left undone."""


class NoopRuntime(Runtime):
    """Starts no process and makes no artifact: every unit is skipped, with the code ``noop``.

    Later stages then lack their inputs, so that nothing can be signed or published.
    """

    def run(self, request_uri: str, spec: StageSpec, on_event: OnEvent) -> int:
        """See ``Runtime.run``.

        Raises:
            Usage: ``noop.refused``: the store is not a benchmark's.
        """
        from include.contracts.stage import StageResult, UnitResult
        from include.stages.runner import load_request
        from include.store import open_store

        request = load_request(request_uri, spec.name)
        store = open_store(request.store)
        if store.head(MARK) is None:
            raise Usage(
                f"UNDERSTUDY_NOOP is set, but {request.store} is not the store of a benchmark; "
                "unset it, or nothing will be rendered",
                code="noop.refused",
            )
        message = "stages are switched off for a benchmark: nothing was made"
        units = tuple(
            UnitResult(id=unit, status="skipped", code="noop", message=message)
            for unit in request.units
        )
        result = StageResult(
            stage=spec.name,
            plan=request.plan,
            run_id=request.run_id,
            units=units,
            started_process=False,
        )
        store.put(request.result, result.model_dump_json().encode())
        return 0

    def kill(self) -> None:
        """See ``Runtime.kill``: nothing runs."""

    @property
    def last_words(self) -> str:
        """See ``Runtime.last_words``."""
        return ""
