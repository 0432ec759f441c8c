"""A made-up campaign's artifacts in a store whose clock can be turned back."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from include.contracts.brief import Brief
from include.contracts.manifest import BlobRef, KeyMaterial, Manifest
from include.contracts.plan import ShardPlan, SourceRef, UnitPlan
from include.retention.collect import Collected, collect
from include.retention.policy import Retention
from include.store import DirectoryStore
from include.store.cache import ArtifactCache

TENANT = "acme"
GRACE = timedelta(days=7)
BRIEF = Brief.model_validate(
    {
        "campaign": "spring",
        "tenant": TENANT,
        "template": {"video": "ad.mp4"},
        "recipients": "recipients.csv",
        "policy": {"required": []},
    }
)


@dataclass
class World:
    """Artifacts of a made-up campaign, in a store whose clock can be turned back."""

    store: DirectoryStore
    cache: ArtifactCache
    folder: Path
    made: dict[str, Manifest] = field(default_factory=dict)

    @classmethod
    def beside(cls, store: DirectoryStore) -> World:
        """A world in a store, its scratch folder beside it."""
        folder = store.root.parent / "scratch"
        folder.mkdir()
        return cls(store, ArtifactCache(store, TENANT), folder)

    def make(self, artifact: str, tag: str, **upstream: str) -> Manifest:
        path = self.folder / "output"
        path.write_bytes(f"{artifact} {tag}".encode() * 50)
        material = KeyMaterial(
            stage=artifact, stage_version=1, params={"tag": tag}, upstream=upstream
        )
        made = self.cache.publish(material, {"out": (path, "text/plain")}, {})
        self.made[f"{artifact} {tag}"] = made
        return made

    def plan(
        self,
        name: str,
        *made: Manifest,
        source: bytes | None = None,
        file: str = "shard-0000.json",
    ) -> str:
        sources = {}
        if source is not None:
            digest = hashlib.sha256(source).hexdigest()
            self.store.put(self.cache.blob_key(digest), source)
            blob = BlobRef(sha256=digest, size=len(source), filename="source.jpg")
            sources["face"] = SourceRef(blob=blob, origin="face.jpg")
        materials = {m.material.stage: m.material for m in made}
        row = UnitPlan(id="eve", materials=materials, sources=sources)
        plan = ShardPlan(
            brief=BRIEF, brief_sha256="0" * 64, label="row 1", rows=(row,), chunk_s=10,
            template=UnitPlan(id="template"),
        )  # fmt: skip
        key = f"{TENANT}/plan/{name}/{file}"
        self.store.put(key, plan.model_dump_json().encode())
        return key

    def age(self, days: float, prefix: str = "") -> None:
        """Make everything below a prefix that much older."""
        for info in list(self.store.list(prefix)):
            path = self.store.root / info.key
            then = path.stat().st_mtime - days * 86400
            os.utime(path, (then, then))

    def there(self) -> set[str]:
        """Which artifacts exist."""
        return {
            name
            for name, made in self.made.items()
            if self.cache.lookup(made.material.stage, made.key) is not None
        }

    def collect(self, policy: Retention | None = None, **more: bool) -> Collected:
        return collect(self.store, TENANT, policy or Retention(), GRACE, **more)
