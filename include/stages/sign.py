"""``sign``: what may be released gets its C2PA manifest."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from include import VERSION
from include.contracts.consent import ConsentRecord
from include.contracts.plan import SourceRef
from include.gate import Consents, check_consents
from include.media import structure
from include.media.mux import remux_mp4
from include.provenance.manifest import (
    Agent,
    Captions,
    ConsentClaim,
    Ingredient,
    Provenance,
    SafetyCheck,
    SafetySummary,
)
from include.provenance.pki import signing_identity
from include.provenance.sign import sign_video
from include.stages.context import Hold, Output, StageContext
from include.verdict import release

EMBEDDABLE = {
    "mp4": ("video/mp4", "video/quicktime"),
    "jpeg": ("image/jpeg",),
    "png": ("image/png",),
    "webp": ("image/webp",),
}
"""Media types by container of what can be an ingredient as it is."""


def run(ctx: StageContext, artifact: str) -> Output | Hold:
    """Sign one video, if its verdict and its consents allow it.

    Outputs: ``video`` (MP4 with an embedded C2PA manifest, Trusted against the configured
    anchors). Facts: ``verdict``, ``signature``, and ``run``, which made it. A row whose verdict is
    review and that nobody answered yet is held.

    Raises:
        Refused: blocked, rejected in review, or without consent.
        ProvenanceError: the signature did not come out Trusted.
    """
    released = release(ctx.cache, ctx.unit)
    if released is None:
        return Hold("review.waiting", f"{ctx.unit.id}: waits for a person's answer")
    consents = check_consents(ctx)
    state = ctx.settings.state
    signed = ctx.scratch / "video.mp4"
    facts = sign_video(
        ctx.fetch("compose", "video"),
        signed,
        provenance_of(ctx, released[0], consents),
        ingredients_of(ctx),
        signing_identity(state=state),
    )
    return Output(
        {"video": (signed, "video/mp4")},
        {"verdict": released[0], "signature": asdict(facts), "run": ctx.run_id},
    )


def provenance_of(ctx: StageContext, verdict: str, consents: Consents) -> Provenance:
    """What a video's manifest says, given ``pass`` or ``reviewed-approved`` and the consents."""
    safety = ctx.facts("classify")
    speaks = ctx.unit.lip_sync
    synthetic = speaks and "audio" not in ctx.unit.sources
    scaled = ctx.shard.brief.output.scale > 1
    claims = [_claim(ctx, ctx.unit.sources["consent"], consents.recipient, "recipient")]
    if consents.presenter:
        reference = ctx.shard.template.sources["consent"]
        claims.append(_claim(ctx, reference, consents.presenter, "presenter"))
    return Provenance(
        title=f"{ctx.shard.brief.campaign}/{ctx.unit.id}",
        run_id=ctx.run_id,
        version=VERSION,
        safety=SafetySummary(
            policy=safety["policy"],
            verdict="pass" if verdict == "pass" else "reviewed-approved",
            checks=tuple(SafetyCheck(**check) for check in safety["checks"]),
        ),
        consents=tuple(claims),
        face_swap=_agent(ctx, "face_swap"),
        lip_sync=_agent(ctx, "lip_sync") if speaks else None,
        voice_synthesis=_agent(ctx, "ingest_recipients/voice") if synthetic else None,
        upscale=_agent(ctx, "upscale") if scaled else None,
        captions=Captions(ctx.unit.locale, ctx.blob("compose", "captions").sha256),
        overlays=("PREVIEW",) if ctx.shard.brief.tier == "preview" else (),
    )


def _claim(ctx: StageContext, ref: SourceRef, record: ConsentRecord, role: str) -> ConsentClaim:
    return ConsentClaim(
        record_id=record.record_id,
        record_sha256=hashlib.sha256(ctx.cache.read_bytes(ref.blob)).hexdigest(),
        role="presenter" if role == "presenter" else "recipient",
        expires=record.expires.isoformat(),
    )


def _agent(ctx: StageContext, artifact: str) -> Agent | None:
    backend = ctx.owner(artifact).materials[artifact].backend
    if backend is None:
        return None
    return Agent(backend.name, backend.version, backend.weights_sha256)


def ingredients_of(ctx: StageContext) -> list[Ingredient]:
    """Template, photo and voice; titles are ids, never names."""
    named = ctx.shard.template.sources["video"].blob.media_type
    template = ctx.source("video", of_template=True)
    mime = _media_type(template, structure.VIDEO_CONTAINERS, named)
    if mime is None:  # the library cannot read it: the same streams in MP4
        template, mime = remux_mp4(template, ctx.scratch / "template.mp4"), "video/mp4"
    parts = [Ingredient("template", "parentOf", "template", mime, template)]
    named = ctx.unit.sources["face"].blob.media_type
    photo = ctx.source("face")
    mime = _media_type(photo, structure.IMAGE_CONTAINERS, named)
    if mime is None:
        photo, mime = ctx.fetch("ingest_recipients/face", "photo"), "image/png"
    parts.append(Ingredient("recipient photo", "componentOf", "face", mime, photo))
    if ctx.unit.lip_sync:
        voice: Path = ctx.fetch("ingest_recipients/voice", "voice")
        parts.append(Ingredient("recipient voice", "componentOf", "voice", "audio/wav", voice))
    return parts


def _media_type(path: Path, accepted: frozenset[str], named: str) -> str | None:
    """What a source is embedded as, by its bytes, as it was taken in; None when it cannot be.

    Its name decides only between names of the same container.
    """
    with path.open("rb") as file:
        container = structure.sniff(path, file.read(structure.HEAD_BYTES), accepted)
    types = EMBEDDABLE.get(container, ())
    return named if named in types else next(iter(types), None)
