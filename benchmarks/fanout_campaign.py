"""A large campaign that plans like any other and renders nothing: photos of random bytes."""

from __future__ import annotations

import hashlib
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.consent import dump_consent, sign_consent, tenant_key
from include.contracts.consent import ConsentRecord
from include.settings import Settings

TENANT = "bench"
BRIEF = """campaign: fanout
tenant: bench
template: {video: ad.mp4, consent: consent/presenter.json}
recipients: recipients.csv
policy: {min_success_ratio: 0}
"""


def make_campaign(folder: Path, rows: int, photo: int, settings: Settings) -> Path:
    """Write a brief, its table, and for each row a photo of its own and a consent record.

    Args:
        folder: where to; made anew.
        rows: how many recipients.
        photo: bytes in a photo. Planning does not look inside.
        settings: where the tenant's key is kept.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "faces").mkdir(parents=True)
    (folder / "consent").mkdir()
    key = tenant_key(TENANT, keys=settings.consent_keys)

    def consent(name: str, media: bytes, *scope: str) -> None:
        record = _record(name, hashlib.sha256(media).hexdigest(), scope)
        (folder / f"consent/{name}.json").write_bytes(dump_consent(sign_consent(record, key)))

    noise = random.Random(1).randbytes(photo)
    lines = ["id,face,script,consent,locale,name"]
    for number in range(rows):
        name = f"r{number:05}"
        picture = name.encode() + noise
        (folder / f"faces/{name}.jpg").write_bytes(picture)
        consent(name, picture, "face_swap", "lip_sync")
        lines.append(f"{name},faces/{name}.jpg,Hi {{name}}.,consent/{name}.json,en,N{number}")
    (folder / "ad.mp4").write_bytes(noise)
    consent("presenter", noise, "template")
    (folder / "recipients.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "brief.yaml").write_text(BRIEF, encoding="utf-8")
    return folder / "brief.yaml"


def _record(name: str, face: str, scope: tuple[str, ...]) -> ConsentRecord:
    now = datetime.now(UTC)
    return ConsentRecord.model_validate(
        {
            "record_id": f"c-{name}",
            "tenant": TENANT,
            "subject": name,
            "face_sha256": face,
            "audio_sha256": None,
            "scope": scope,
            "campaigns": ("*",),
            "not_before": now - timedelta(minutes=1),
            "expires": now + timedelta(days=30),
            "evidence": "bench fanout",
            "issued_at": now,
            "issuer": "bench fanout",
        }
    )
