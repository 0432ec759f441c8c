"""``publish``: a signed video goes out, after everything that gates it was checked once more."""

from __future__ import annotations

import json
from typing import Any

from include import VERSION
from include.contracts.manifest import Manifest
from include.errors import ProvenanceError
from include.features.collect import MEASURED, collected_values, row_manifests
from include.gate import check_consents
from include.provenance.verify import Verification, require_verified
from include.stages.context import Hold, Output, StageContext
from include.stages.placing import hold_place, place
from include.verdict import release

FILES = {
    "thumbnail.jpg": ("compose", "thumbnail"),
    "captions.vtt": ("compose", "captions"),
    "video.mp4": ("sign", "video"),
}
"""Published name to artifact and output; the video last, it is what others wait for."""


def published_prefix(tenant: str, campaign: str, recipient: str) -> str:
    """Object prefix that a recipient's files are published under."""
    return f"{tenant}/published/{campaign}/{recipient}"


def run(ctx: StageContext, artifact: str) -> Output | Hold:
    """Publish one recipient's files by idempotent copy.

    Skips inside mapped groups do not propagate in Airflow 3.3, so nothing is taken on trust
    here: verdict, consents, digest and signature are checked again.

    Outputs: ``report`` (JSON). Facts: ``published``, object keys by file name.

    Raises:
        LeaseHeld: another version of the recipient's files goes out at this moment.
        Refused: blocked, rejected or without consent.
        ProvenanceError: the file that this run signed does not verify as Trusted; or one that an
            earlier run signed does not any more (``provenance.outdated``): it was taken out, and
            only another run signs it anew.
    """
    released = release(ctx.cache, ctx.unit)
    if released is None:
        return Hold("review.waiting", f"{ctx.unit.id}: waits for a person's answer")
    consents = check_consents(ctx)
    check = _verified(ctx)
    report = ctx.scratch / "report.json"
    body = _report(ctx, released[0])
    body["consent"] = {
        "recipient": consents.recipient.record_id,
        "expires": consents.recipient.expires.isoformat(),
        "presenter": consents.presenter.record_id if consents.presenter else None,
    }
    body["signature"] = {"state": check.state, "trusted": check.trusted}
    report.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    prefix = published_prefix(ctx.cache.tenant, ctx.shard.brief.campaign, ctx.unit.id)
    copies = {name: ctx.blob(source, output) for name, (source, output) in FILES.items()}
    lease = ctx.closing.enter_context(hold_place(ctx.cache, prefix))
    published = place(ctx.cache, lease, prefix, ctx.unit.key("publish"), report, copies)
    return Output({"report": (report, "application/json")}, {"published": published})


def _verified(ctx: StageContext) -> Verification:
    """Verify the signed file; one of an earlier run that fails is made to be signed again.

    Roots are replaced and certificates end. What this run signed is not signed again: it would
    fail like that for ever.
    """
    try:
        return require_verified(ctx.fetch("sign", "video"))  # fetch checks the digest
    except ProvenanceError as error:
        if ctx.facts("sign").get("run") == ctx.run_id:
            raise ProvenanceError(f"{ctx.unit.id}: {error.message}", code=error.code) from error
        ctx.cache.quarantine("sign", ctx.unit.key("sign"))
        raise ProvenanceError(
            f"{ctx.unit.id}: what an earlier run signed holds no more and was taken out "
            f"({error.message}); run the campaign again and it is signed anew",
            code="provenance.outdated",
        ) from error


def _report(ctx: StageContext, verdict: str) -> dict[str, Any]:
    made: dict[str, Manifest] = {
        name: ctx.manifest(name) for name in ctx.unit.materials if name != "publish"
    }
    video = made["compose"]
    return {
        "schema_version": 1,
        "understudy": VERSION,
        "campaign": ctx.shard.brief.campaign,
        "tenant": ctx.cache.tenant,
        "recipient": ctx.unit.id,
        "key": ctx.unit.key("publish"),
        "run": ctx.run_id,
        "tier": ctx.shard.brief.tier,
        **({"instead": ctx.shard.instead} if ctx.shard.instead else {}),
        "video": {
            "sha256": made["sign"].outputs["video"].sha256,
            "sha256_before_signing": video.outputs["video"].sha256,
            "bytes": made["sign"].outputs["video"].size,
            "width": video.facts["width"],
            "height": video.facts["height"],
            "frames": video.facts["frames"],
            "seconds": video.facts["seconds"],
            "voice": video.facts["voice"],
        },
        "safety": {
            "verdict": verdict,
            "policy": made["classify"].facts["policy"],
            "checks": made["classify"].facts["checks"],
            "reasons": made["classify"].facts["reasons"],
        },
        "photo": made["ingest_recipients/face"].facts,
        "features": _features(ctx),
        "stages": {
            name: {
                "key": manifest.key,
                "backend": _backend(manifest),
                "seconds": manifest.seconds,
                "cpu_seconds": manifest.cpu_seconds,
                "peak_mib": manifest.peak_mib,
                **({"remote": manifest.remote.model_dump()} if manifest.remote else {}),
            }
            for name, manifest in made.items()
        },
    }


def _features(ctx: StageContext) -> dict[str, Any]:
    """What was measured of the photo, the voice and the video, by kind."""
    measured: dict[str, Any] = {
        MEASURED[name]: dict(ctx.facts(name)["features"])
        for name in MEASURED
        if name in ctx.unit.materials
    }
    made = row_manifests(ctx.cache, ctx.unit)
    measured["render"] |= collected_values(made, ctx.settings.core_hour)
    return measured


def _backend(manifest: Manifest) -> str | None:
    backend = manifest.material.backend
    return f"{backend.name} {backend.version}" if backend else None
