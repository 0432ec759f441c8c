"""The stages as data: what each makes, from what, and what it needs to run.

Imports nothing heavy: the planner, the Airflow operators and the stage processes all read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One stage.

    ``artifacts`` are the names under which it stores its outputs, each with a key of its own
    (a stage that makes two things a row, such as face and voice, has two). ``upstream`` are the
    artifacts it reads; their *keys* are in its keys. ``after`` are artifacts that must exist before
    it runs although it does not make its own from them: checks that it waits for. Their keys are
    not in its keys, so a check that changes is made again and what it gates is not.
    """

    name: str
    version: int
    scope: str
    """``template``: once per template. ``row``: once per recipient."""
    artifacts: tuple[str, ...]
    upstream: tuple[str, ...]
    after: tuple[str, ...] = ()
    pool: str = "cpu"
    """The Airflow pool whose slots it takes: ``cpu`` or ``io``."""
    timeout: timedelta = timedelta(minutes=30)
    memory_mib: int = 2048
    """Declared need, for pods and for placing."""
    cpu: float = 1.0
    """Cores it keeps busy with one thread."""
    scratch_mib: int = 4096
    """Local disk for its inputs, intermediates and outputs."""
    gpu: str = ""
    """GPU that it makes use of where the deployment has one: ``small``, ``large`` or none."""
    gpu_for: tuple[str, ...] = ()
    """The backends that make use of it; all, where none is named."""
    gpu_memory_mib: int = 0
    """What a process takes of a GPU's memory where ``UNDERSTUDY_DEVICE`` says so. A CUDA context is
    in it; the rest decides how many frames it works on at once. 0: nothing for a GPU to do."""
    spot: bool = True
    """Whether it may run on machines that are taken away at short notice."""
    chunked: bool = False
    """Whether a long template is worked through in chunks, each an artifact of its own."""
    remote: bool = False
    """Whether a model API may do it: a pure function of upstream artifacts and its parameters,
    without sources, brief, consent or keys."""


_TEMPLATE_CHECKED = ("measure_template",)
"""Before a template that breaks a rule costs more than being measured."""
_CHECKED = ("measure_template", "measure_inputs/photo", "measure_inputs/audio")
"""Before anything is rendered for a row."""
_RELEASABLE = ("measure_inputs/photo", "measure_inputs/audio", "measure_render")
"""Before a row's video is signed and published."""

_ALL = (
    StageSpec(
        name="ingest_template",
        version=2,
        scope="template",
        artifacts=("ingest_template",),
        upstream=(),
    ),
    StageSpec(
        name="track_face",
        version=2,
        scope="template",
        artifacts=("track_face",),
        upstream=("ingest_template",),
        chunked=True,
    ),
    StageSpec(
        name="measure_template",
        version=2,
        scope="template",
        artifacts=("measure_template",),
        upstream=("ingest_template", "track_face"),
        memory_mib=1024,
    ),
    StageSpec(
        name="upscale_plate",
        version=3,
        scope="template",
        artifacts=("upscale_plate",),
        upstream=("ingest_template", "track_face"),
        after=_TEMPLATE_CHECKED,
        timeout=timedelta(hours=2),
        gpu="large",
        scratch_mib=8192,
        chunked=True,
        gpu_memory_mib=4096,
    ),
    StageSpec(
        name="encode_plate",
        version=2,
        scope="template",
        artifacts=("encode_plate",),
        upstream=("ingest_template", "track_face"),
        after=_TEMPLATE_CHECKED,
        timeout=timedelta(hours=2),
        gpu="large",
        scratch_mib=8192,
        chunked=True,
        gpu_memory_mib=4096,
    ),
    StageSpec(
        name="analyse_face",
        version=2,
        scope="template",
        artifacts=("analyse_face",),
        upstream=("ingest_template", "track_face"),
        after=_TEMPLATE_CHECKED,
        chunked=True,
    ),
    StageSpec(
        name="classify_template",
        version=2,
        scope="template",
        artifacts=("classify_template",),
        upstream=("ingest_template",),
    ),
    StageSpec(
        name="ingest_recipients",
        version=2,
        scope="row",
        artifacts=("ingest_recipients/face", "ingest_recipients/voice"),
        upstream=(),
        timeout=timedelta(minutes=10),
    ),
    StageSpec(
        name="measure_inputs",
        version=2,
        scope="row",
        artifacts=("measure_inputs/photo", "measure_inputs/audio"),
        upstream=("ingest_recipients/face", "ingest_recipients/voice"),
        timeout=timedelta(minutes=10),
        memory_mib=1024,
    ),
    StageSpec(
        name="face_swap",
        version=3,
        scope="row",
        artifacts=("face_swap",),
        upstream=("ingest_template", "track_face", "analyse_face", "ingest_recipients/face"),
        after=_CHECKED,
        gpu="small",
        gpu_for=("mesh-batched",),
        chunked=True,
        remote=True,
        gpu_memory_mib=2048,
    ),
    StageSpec(
        name="lip_sync",
        version=3,
        scope="row",
        artifacts=("lip_sync",),
        upstream=(
            "ingest_template",
            "track_face",
            "analyse_face",
            "face_swap",
            "ingest_recipients/voice",
        ),
        after=_CHECKED,
        chunked=True,
    ),
    StageSpec(
        name="upscale",
        version=3,
        scope="row",
        artifacts=("upscale",),
        upstream=("ingest_template", "track_face", "analyse_face", "face_swap"),
        timeout=timedelta(hours=1),
        gpu="small",
        chunked=True,
        remote=True,
        gpu_memory_mib=2048,
    ),
    StageSpec(
        name="compose",
        version=4,
        scope="row",
        artifacts=("compose",),
        upstream=(
            "ingest_template",
            "track_face",
            "upscale_plate",
            "encode_plate",
            "face_swap",
            "upscale",
            "lip_sync",
            "ingest_recipients/voice",
        ),
        after=_CHECKED,
        timeout=timedelta(hours=1),
        scratch_mib=8192,
        chunked=True,
        gpu_memory_mib=2048,
    ),
    StageSpec(
        name="classify",
        version=2,
        scope="row",
        artifacts=("classify",),
        upstream=("compose", "classify_template", "ingest_recipients/voice", "track_face"),
    ),
    StageSpec(
        name="measure_render",
        version=1,
        scope="row",
        artifacts=("measure_render",),
        upstream=(
            "ingest_template",
            "track_face",
            "upscale_plate",
            "ingest_recipients/face",
            "ingest_recipients/voice",
            "lip_sync",
            "compose",
        ),
    ),
    StageSpec(
        name="sign",
        version=1,
        scope="row",
        artifacts=("sign",),
        upstream=("compose", "classify"),
        after=_RELEASABLE,
        pool="io",
        timeout=timedelta(minutes=10),
        memory_mib=512,
        scratch_mib=2048,
        spot=False,
    ),
    StageSpec(
        name="publish",
        version=2,
        scope="row",
        artifacts=("publish",),
        upstream=("sign",),
        after=_RELEASABLE,
        pool="io",
        timeout=timedelta(minutes=10),
        memory_mib=512,
        scratch_mib=2048,
        spot=False,
    ),
)

STAGES: dict[str, StageSpec] = {spec.name: spec for spec in _ALL}
"""Every stage by name, in the order of the flow."""

MAKER: dict[str, StageSpec] = {name: spec for spec in _ALL for name in spec.artifacts}
"""Which stage makes an artifact."""


def template_stages_of(spec: StageSpec) -> tuple[StageSpec, ...]:
    """The template's stages that a row's stage reads from, or waits for, in order."""
    needs = {*spec.upstream, *spec.after}
    return tuple(
        made for made in _ALL if made.scope == "template" and needs.intersection(made.artifacts)
    )


def stages_behind() -> dict[str, set[str]]:
    """Of every stage, all that it reads or waits for, directly or not."""
    behind: dict[str, set[str]] = {}
    for name in STAGES:  # in the order of the flow: what a stage reads comes before it
        needs = _needs(name)
        behind[name] = set().union(needs, *(behind[made] for made in needs))
    return behind


def stage_edges() -> list[tuple[str, str]]:
    """Which stage follows which, from what they read or wait for; what others imply is left out."""
    behind = stages_behind()
    return [
        (made, name)
        for name in STAGES
        for made in sorted(_needs(name))
        if not any(made in behind[other] for other in _needs(name))
    ]


def _needs(name: str) -> set[str]:
    spec = STAGES[name]
    return {MAKER[artifact].name for artifact in (*spec.upstream, *spec.after)}
