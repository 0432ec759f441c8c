"""What a stage's pod asks for: declared needs, and what its earlier pods taught. Pure functions.

A pod leaves a record beside its request (``<try>.pod.json``). The next try reads those
of the tries before it: after running out of memory it asks for twice as much and, on a GPU, for the
larger class; after filling its disk for twice the disk; after losing a node it prefers others, and
after losing two takes no spot node any more. What was done is in the store: it goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from include.errors import OutOfMemory, Preempted
from include.stages.specs import StageSpec
from operators.runtimes.pod_records import PodRecord
from operators.runtimes.pod_settings import PodSettings

SCRATCH_FULL = "pod.scratch_full"
"""Code of an ``OutOfMemory`` that was about disk."""

SPOT_LOSSES = 2
"""So many lost nodes are enough for a shard."""


@dataclass(frozen=True)
class PodNeeds:
    """What to ask for."""

    pod_class: str
    """Which template: ``cpu``, ``gpu-small``, ``gpu-large`` or ``io``."""
    cpu: float
    memory_mib: int
    scratch_mib: int
    spot: bool = False
    """Whether it tolerates nodes that are taken away at short notice."""
    avoid: tuple[str, ...] = ()
    """Nodes that earlier pods of this task were lost on."""

    @property
    def gpus(self) -> int:
        """How many."""
        return 1 if self.pod_class.startswith("gpu-") else 0


def pod_needs(
    spec: StageSpec,
    threads: int,
    settings: PodSettings,
    past: Sequence[PodRecord] = (),
    backends: Collection[str] = (),
) -> PodNeeds:
    """What the next pod of a stage asks for.

    Args:
        spec: what the stage declares.
        threads: what it may use.
        settings: what the cluster gives.
        past: records of this task's earlier tries, oldest first.
        backends: those that the rows ask for, where the stage's use of a GPU depends on it.
    """
    memory = spec.memory_mib
    scratch = settings.scratch_mib or spec.scratch_mib
    pod_class = _class_of(spec, settings, backends)
    for record in past:
        if record.error != OutOfMemory.__name__:
            continue
        if record.code == SCRATCH_FULL:
            scratch = max(scratch, 2 * record.scratch_mib)
            continue
        memory = max(memory, 2 * record.memory_mib)
        if record.pod_class == "gpu-small":
            pod_class = "gpu-large"
    lost = [record for record in past if record.error == Preempted.__name__]
    return PodNeeds(
        pod_class=pod_class,
        cpu=spec.cpu * max(1, threads),
        memory_mib=min(memory, max(settings.memory_max_mib, spec.memory_mib)),
        scratch_mib=scratch,
        spot=spec.spot and settings.spot is not None and len(lost) < SPOT_LOSSES,
        avoid=tuple(dict.fromkeys(record.node for record in lost if record.node)),
    )


def _class_of(spec: StageSpec, settings: PodSettings, backends: Collection[str]) -> str:
    if spec.pool == "io":
        return "io"
    used = not spec.gpu_for or not set(spec.gpu_for).isdisjoint(backends)
    return f"gpu-{spec.gpu}" if spec.gpu and settings.gpu_image and used else "cpu"
