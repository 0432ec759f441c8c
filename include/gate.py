"""What is checked, uncached, before a video is signed and again before it is published."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from include.consent import load_consent, row_scope, verify_consent
from include.contracts.consent import ConsentRecord
from include.contracts.plan import UnitPlan
from include.errors import ConsentError
from include.stages.context import StageContext


@dataclass(frozen=True)
class Consents:
    """The records that allow a release."""

    recipient: ConsentRecord
    presenter: ConsentRecord | None


def check_consents(ctx: StageContext) -> Consents:
    """Verify the recipient's and the presenter's consent, now.

    Raises:
        ConsentError: with the row in the message.
    """
    unit = ctx.unit
    scope = row_scope(speaks=unit.lip_sync, recorded="audio" in unit.sources)
    recipient = _verify(ctx, unit, scope)
    template = ctx.shard.template
    if "consent" in template.sources:
        return Consents(recipient, _verify(ctx, template, {"template"}))
    if "consent" in ctx.shard.brief.policy.required:
        raise ConsentError(f"{unit.id}: the presenter's consent is missing (template.consent)")
    return Consents(recipient, None)


def _verify(ctx: StageContext, unit: UnitPlan, scope: set[str]) -> ConsentRecord:
    face = unit.sources["video" if "template" in scope else "face"].blob.sha256
    audio = unit.sources["audio"].blob.sha256 if "audio" in unit.sources else None
    try:
        return verify_consent(
            load_consent(ctx.cache.read_bytes(unit.sources["consent"].blob)),
            tenant=ctx.cache.tenant,
            campaign=ctx.shard.brief.campaign,
            now=datetime.now(UTC),
            scope=scope,
            face_sha256=face,
            audio_sha256=audio,
            revoked=ctx.settings.revoked_records(),
            keys=ctx.settings.consent_keys,
        )
    except ConsentError as error:
        raise ConsentError(f"{ctx.unit.id}: {error.message}", code=error.code) from error
