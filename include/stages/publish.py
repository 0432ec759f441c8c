"""``publish``: a signed video goes out, after everything that gates it was checked once more."""

from __future__ import annotations

import json
from typing import Any

from include import VERSION
from include.contracts.manifest import BlobRef, Manifest
from include.errors import ProvenanceError
from include.features.collect import MEASURED, collected_values, row_manifests
from include.gate import check_consents
from include.provenance.verify import require_verified
from include.stages.context import Hold, Output, StageContext
from include.store import ObjectMissing
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
        Refused: blocked, rejected or without consent.
        ProvenanceError: the signed file does not verify as Trusted.
    """
    released = release(ctx.cache, ctx.unit)
    if released is None:
        return Hold("review.waiting", f"{ctx.unit.id}: waits for a person's answer")
    consents = check_consents(ctx)
    try:
        check = require_verified(ctx.fetch("sign", "video"))  # fetch checks the digest
    except ProvenanceError as error:
        raise ProvenanceError(f"{ctx.unit.id}: {error.message}", code=error.code) from error
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
    _supersede(ctx, f"{prefix}/report.json")
    ctx.cache.store.put_file(f"{prefix}/report.json", report)
    published = {"report.json": f"{prefix}/report.json"}
    for name, (source, output) in FILES.items():
        published[name] = f"{prefix}/{name}"
        _copy(ctx, ctx.blob(source, output), published[name])
    return Output({"report": (report, "application/json")}, {"published": published})


def _supersede(ctx: StageContext, report: str) -> None:
    """Take back the artifact that says that another version lies here: it will not any more.

    A campaign that goes back to that version then publishes it again. The report goes out first
    and names its artifact, so this holds wherever an earlier attempt was interrupted.
    """
    try:
        before = json.loads(ctx.cache.store.get(report)).get("key")
    except ObjectMissing:
        return
    if before and before != ctx.unit.key("publish"):
        ctx.cache.quarantine("publish", before)


def _copy(ctx: StageContext, blob: BlobRef, key: str) -> None:
    """Copy inside the store; a retry copies again, which changes nothing."""
    ctx.cache.store.copy(ctx.cache.blob_key(blob.sha256), key)


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
