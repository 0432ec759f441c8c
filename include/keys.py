"""Every key from the brief alone: the key material of each artifact of a template or a row.

Where something is computed is in no key, neither the machine nor the device: processors with and
without bfloat16, and GPUs, can differ by a code value here and there (see
``models.upscale.compact``), and the first manifest of a key wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.contracts.base import Sha256
from include.contracts.brief import Brief
from include.contracts.manifest import BackendRef, KeyMaterial
from include.contracts.plan import SourceRef, UnitPlan
from include.errors import BadBrief
from include.features.catalogue import AssetKind
from include.features.rules import rules_digest
from include.stages.specs import MAKER
from models.registry import DECLARED_ENV, Backend, backend, backends

Materials = dict[str, KeyMaterial]
Chosen = Mapping[str, BackendRef]
"""Backend by stage, for the stages of ``DEFAULTS`` that do not use their default."""

CHUNK_S = 10.0
"""Length of the chunks that long templates are worked through in, seconds."""

BACKEND_OF = {
    "track_face": "face",
    "upscale_plate": "upscale",
    "encode_plate": "upscale",
    "analyse_face": "face_swap",
    "classify_template": "safety",
    "ingest_recipients/voice": "speech",
    "face_swap": "face_swap",
    "lip_sync": "lip_sync",
    "upscale": "upscale",
    "compose": "upscale",
    "classify": "safety",
    "measure_template": "quality",
    "measure_inputs/photo": "quality",
    "measure_inputs/audio": "quality",
    "measure_render": "quality",
}
"""Artifact to the package below ``models`` whose registry lists its backends."""

DEFAULTS = {"face_swap": "mesh", "lip_sync": "viseme", "upscale": "compact"}
"""What is used of the stages whose backend can be rolled out, unless something else is live."""


def upscaler_name(brief: Brief) -> str:
    """The upscaling backend of a brief: the one it names, or by tier.

    Raises:
        BadBrief: ``brief.field``: there is no such upscaler, or it has another scale.
        Usage: the file of declared backends cannot be used.
    """
    name = brief.output.upscaler
    if name == "auto":
        return "lanczos" if brief.tier == "preview" else DEFAULTS["upscale"]
    known = backends("upscale")
    if name not in known:
        raise BadBrief(
            f"output.upscaler: there is no upscaler {name!r}; take one of "
            f"{', '.join(['auto', *sorted(known)])}, or declare it in the file that "
            f"{DECLARED_ENV} names",
            code="brief.field",
        )
    declared = known[name].declared
    if declared and declared.scale != brief.output.scale:
        raise BadBrief(
            f"output.scale: {brief.output.scale}, but the upscaler {name} enlarges by "
            f"{declared.scale}; change output.scale or output.upscaler",
            code="brief.field",
        )
    return name


def template_materials(
    brief: Brief,
    sources: dict[str, SourceRef],
    chunk_s: float = CHUNK_S,
    chosen: Chosen | None = None,
) -> Materials:
    """Key material of what is made once per template and settings.

    Args:
        brief: the brief.
        sources: the template's files.
        chunk_s: length of the chunks of a long template, seconds.
        chosen: backends by stage, where they are not the defaults.
    """
    upscaler = _upscaler(brief, chosen)
    made: Materials = {}
    video = {"video": sources["video"].blob.sha256}
    _add(made, "ingest_template", sources=video)
    like = {"like": sources["like"].blob.sha256} if "like" in sources else {}
    face = "like" if like else brief.model_dump(mode="json")["template"]["face"]
    _add(
        made,
        "track_face",
        # A tracker remembers: where a chunk begins can move a landmark by a fraction.
        params={"face": face, "chunk_s": chunk_s},
        sources=like,
        backend=_backend("track_face", "facemesh"),
    )
    _add(
        made,
        "upscale_plate",
        params={"scale": brief.output.scale},
        backend=upscaler,
    )
    _add(
        made,
        "encode_plate",
        params={"scale": brief.output.scale, "crf": brief.output.crf, "tier": brief.tier},
        backend=upscaler,
    )
    _add(made, "analyse_face", backend=_chosen("face_swap", chosen))
    _add(made, "classify_template", backend=_backend("classify_template", "ensemble"))
    bed = {"bed": sources["bed"].blob.sha256} if "bed" in sources else {}
    _measured(made, "measure_template", "template", video | bed)
    return made


def row_materials(
    brief: Brief,
    template: UnitPlan,
    row: UnitPlan,
    chosen: Chosen | None = None,
    anchors: Sha256 | None = None,
) -> Materials:
    """Key material of what is made for one recipient.

    Args:
        brief: the brief.
        template: the template, with its materials for the same backends.
        row: the recipient.
        chosen: backends by stage, where they are not the defaults.
        anchors: digest of the roots that signatures have to lead to, where they are configured.
    """
    made: Materials = dict(template.materials)
    source = {name: ref.blob.sha256 for name, ref in row.sources.items()}
    upscaler = _upscaler(brief, chosen)
    _add(made, "ingest_recipients/face", sources={"face": source["face"]})
    _add(
        made,
        "ingest_recipients/voice",
        params={"script": row.script, "locale": row.locale, "voice": row.voice},
        sources={"audio": source["audio"]} if "audio" in source else {},
        backend=None if "audio" in source else _backend("ingest_recipients/voice", "espeak-ng"),
    )
    face, voice = ("ingest_recipients/face",), ("ingest_recipients/voice",)
    _measured(made, "measure_inputs/photo", "photo", {"face": source["face"]}, face)
    audio = {"audio": source["audio"]} if "audio" in source else {}
    _measured(made, "measure_inputs/audio", "audio", audio, voice)
    _add(made, "face_swap", backend=_chosen("face_swap", chosen))
    speech = brief.voice.model_dump(mode="json")
    _add(
        made,
        "lip_sync",
        params={"voice": speech, "lip_sync": row.lip_sync},
        backend=_chosen("lip_sync", chosen),
    )
    # A row that speaks leaves the mouth to compose.
    scale = {"scale": brief.output.scale, "lip_sync": row.lip_sync}
    _add(made, "upscale", params=scale, backend=upscaler)
    bed = template.sources.get("bed")
    _add(
        made,
        "compose",
        params={
            "scale": brief.output.scale,
            "crf": brief.output.crf,
            "tier": brief.tier,
            "voice": speech,
        },
        sources={"bed": bed.blob.sha256} if bed else {},
        backend=upscaler,
    )
    _add(
        made,
        "classify",
        params={
            "required": sorted(brief.policy.required),
            "review": brief.policy.review,
            "locale": row.locale,
        },
        backend=_backend("classify", "ensemble"),
    )
    _measured(made, "measure_render", "render", {})
    title = {"campaign": brief.campaign, "recipient": row.id}
    # What leads to other roots is no release any more, however good the signature.
    _add(made, "sign", params=title | ({"anchors": anchors} if anchors else {}))
    _add(made, "publish", params=title)
    return {name: material for name, material in made.items() if name not in template.materials}


def _measured(
    made: Materials,
    artifact: str,
    kind: AssetKind,
    sources: dict[str, Sha256],
    upstream: tuple[str, ...] | None = None,
) -> None:
    """A measurement exists only where its kind's hard rules hold, so they are in its key."""
    params, measures = {"rules": rules_digest(kind)}, _backend(artifact, "measures")
    _add(made, artifact, params=params, sources=sources, backend=measures, upstream=upstream)


def chunk_material(material: KeyMaterial, index: int) -> KeyMaterial:
    """What a chunk of an artifact is keyed by: the artifact's own key, and which chunk."""
    return KeyMaterial(
        stage=f"{material.stage}/chunk",
        stage_version=material.stage_version,
        backend=material.backend,
        params={"index": index},
        upstream={material.stage: material.key()},
    )


def refused_material(material: KeyMaterial) -> KeyMaterial:
    """What the figures of an asset are keyed by that a hard rule refused.

    The measurement itself does not exist then: its existence is what lets the asset through.
    """
    return KeyMaterial(
        stage=f"refused/{material.stage}",
        stage_version=material.stage_version,
        backend=material.backend,
        upstream={material.stage: material.key()},
    )


def _add(
    made: Materials,
    artifact: str,
    *,
    params: dict[str, Any] | None = None,
    sources: dict[str, Sha256] | None = None,
    backend: BackendRef | None = None,
    upstream: tuple[str, ...] | None = None,
) -> None:
    """Add an artifact's material; ``upstream`` where it reads less than all that its stage does."""
    spec = MAKER[artifact]
    made[artifact] = KeyMaterial(
        stage=artifact,
        stage_version=spec.version,
        backend=backend,
        params=params or {},
        sources=sources or {},
        upstream={name: made[name].key() for name in upstream or spec.upstream},
    )


def _chosen(stage: str, chosen: Chosen | None) -> BackendRef:
    return (chosen or {}).get(stage) or _backend(stage, DEFAULTS[stage])


def _upscaler(brief: Brief, chosen: Chosen | None) -> BackendRef:
    return (chosen or {}).get("upscale") or _backend("upscale", upscaler_name(brief))


_REFS: dict[int, tuple[Backend, BackendRef]] = {}
"""By identity: a plan asks for the same few backends ten times a row."""


def _backend(artifact: str, name: str) -> BackendRef:
    found = backend(BACKEND_OF[artifact], name)
    known = _REFS.get(id(found))
    if known is None or known[0] is not found:
        ref = BackendRef(
            name=found.name, version=found.version, weights_sha256=found.weights_sha256
        )
        known = _REFS[id(found)] = (found, ref)
    return known[1]
