"""A campaign for whoever only plans: its media are any bytes."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from include.consent import dump_consent, issue_consent
from include.contracts.plan import ShardPlan
from include.planning import plan_campaign
from include.settings import Settings
from include.store import open_store

BRIEF = """
campaign: spring
tenant: acme
template: {video: ad.mp4, consent: presenter.json}
recipients: recipients.csv
"""
HEAD = "id,face,audio,script,consent,locale,voice,name\n"


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Campaign:
    """A campaign folder whose media are any bytes: planning does not look inside them."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.root, self.settings = root, settings
        self.brief = root / "brief.yaml"
        self.brief.write_text(BRIEF)
        (root / "ad.mp4").write_bytes(b"video")
        self.consent("presenter.json", root / "ad.mp4", {"template"})
        self.rows: list[str] = []

    def consent(self, name: str, face: Path, scope: set[str], **more: object) -> None:
        record = issue_consent(
            tenant="acme",
            subject=name,
            scope=scope,
            face_sha256=sha(face),
            keys=self.settings.state / "consent",
            **more,
        )
        (self.root / name).write_bytes(dump_consent(record))

    def add(self, ident: str, script: str = "Hello {name}", name: str = "Anna", **more: object):
        photo = self.root / f"{ident}.jpg"
        photo.write_bytes(ident.encode())
        self.consent(f"{ident}.json", photo, {"face_swap", "lip_sync"}, **more)
        self.rows.append(f"{ident},{ident}.jpg,,{script},{ident}.json,en,,{name}\n")
        self.write()

    def expire(self, ident: str) -> None:
        """The consent of somebody who was added ended yesterday."""
        now = datetime.now(UTC)
        times = {"not_before": now - timedelta(days=9), "expires": now - timedelta(days=1)}
        self.consent(
            f"{ident}.json", self.root / f"{ident}.jpg", {"face_swap", "lip_sync"}, **times
        )

    def write(self) -> None:
        (self.root / "recipients.csv").write_text(HEAD + "".join(self.rows))

    def plan(self, **more: object):
        return plan_campaign(str(self.brief), self.settings, **more)

    def shard(self, plan, index: int = 0) -> ShardPlan:
        data = open_store(plan.store).get(plan.shards[index].plan)
        return ShardPlan.model_validate_json(data)
