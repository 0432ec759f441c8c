"""Rows that need a person: collected for the review step, and settled by an answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from include.contracts.manifest import Manifest
from include.contracts.plan import ShardPlan, ShardRef, UnitPlan
from include.contracts.stage import Decision, ReviewItem
from include.remote.fallback import rows_of
from include.settings import Settings
from include.store import open_store
from include.store.cache import ArtifactCache
from include.verdict import classified, decision_material, decision_of
from include.verdict import record_decision as _record


def collect_reviews(
    shards: Iterable[ShardRef | dict[str, Any]], settings: Settings
) -> list[ReviewItem]:
    """The rows of a campaign that a person has to look at and nobody has answered yet.

    A row whose video broke a hard rule is not asked about: no answer would release it.

    Args:
        shards: references as they come out of planning.
        settings: says which store they lie in.
    """
    return [
        _item(cache, ref, unit, manifest)
        for ref, cache, unit in _rows(shards, settings)
        if (manifest := classified(cache, unit)) is not None
        and manifest.facts["verdict"] == "review"
        and decision_of(cache, unit) is None
        and cache.lookup("measure_render", unit.key("measure_render")) is not None
    ]


def record_decision(
    item: ReviewItem | dict[str, Any],
    *,
    approved: bool,
    by: str,
    settings: Settings,
    note: str = "",
) -> Decision:
    """Store the answer to a review item; the first answer stands.

    Args:
        item: from ``collect_reviews``.
        approved: whether the video may be released.
        by: who answered.
        settings: says which store the row lies in.
        note: what they wrote.
    """
    item = ReviewItem.model_validate(item)
    cache = ArtifactCache(open_store(settings.store), item.tenant)
    shard = ShardPlan.model_validate_json(cache.store.get(item.plan))
    return _record(cache, shard.unit(item.unit), approved=approved, by=by, note=note)


def _rows(
    shards: Iterable[ShardRef | dict[str, Any]], settings: Settings
) -> Iterable[tuple[ShardRef, ArtifactCache, UnitPlan]]:
    for raw in shards:
        ref = ShardRef.model_validate(raw)
        cache = ArtifactCache(open_store(settings.store), ref.tenant)
        for part, units in rows_of(cache.store, ref):
            for unit in units:
                yield part.ref, cache, unit


def _item(cache: ArtifactCache, ref: ShardRef, unit: UnitPlan, manifest: Manifest) -> ReviewItem:
    reasons = tuple(manifest.facts["reasons"])
    sheet = manifest.outputs["contact_sheet"]
    video = cache.blob_key(_video(cache, unit))
    lines = [f"- {reason}" for reason in reasons]
    lines += [
        "",
        f"Contact sheet: `{ref.store}/{cache.blob_key(sheet.sha256)}`",
        f"Video, not signed yet: `{ref.store}/{video}`",
    ]
    if unit.script:
        lines += ["", "Script:", "", f"    {unit.script}"]  # code: no markup of a stranger's
    return ReviewItem(
        store=ref.store,
        tenant=ref.tenant,
        plan=ref.plan,
        unit=unit.id,
        label=unit.id,
        reasons=reasons,
        contact_sheet=cache.blob_key(sheet.sha256),
        video=video,
        decision=decision_material(unit).key(),
        subject=f"Release the video for {unit.id}?",
        body="\n".join(["Why a person is asked:", "", *lines]),
    )


def _video(cache: ArtifactCache, unit: UnitPlan) -> str:
    """Digest of a row's unsigned video; empty when it is gone."""
    manifest = cache.lookup("compose", unit.key("compose"))
    return manifest.outputs["video"].sha256 if manifest else "0" * 64
