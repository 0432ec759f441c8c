"""Borderline rows at the terminal: ask, or turn down."""

from __future__ import annotations

import getpass
from pathlib import Path

from include.contracts.plan import CampaignPlan
from include.contracts.stage import ReviewItem
from include.review import collect_reviews, record_decision
from include.settings import Settings
from include.store import open_store


def settle_reviews(plan: CampaignPlan, how: str, out: Path, settings: Settings) -> int:
    """Settle the rows that wait for a person.

    Args:
        plan: the campaign.
        how: ``ask`` (at the terminal), ``reject`` (recorded as turned down) or ``hold``.
        out: contact sheets and unsigned videos to look at go to its folder ``review``.
        settings: says which store.

    Returns:
        How many decisions were recorded.
    """
    if how == "hold":
        return 0
    settled = 0
    for item in collect_reviews(plan.shards, settings):
        if how == "reject":
            answer, by = False, "render --review reject"
        else:
            asked = _ask(item, out / "review")
            if asked is None:
                continue
            answer, by = asked, getpass.getuser()
        record_decision(item, approved=answer, by=by, settings=settings)
        settled += 1
    return settled


def _ask(item: ReviewItem, folder: Path) -> bool | None:
    """Put one question; None when it is left open."""
    folder.mkdir(parents=True, exist_ok=True)
    store = open_store(item.store)
    sheet, video = folder / f"{item.unit}.jpg", folder / f"{item.unit}.mp4"
    store.get_file(item.contact_sheet, sheet)
    store.get_file(item.video, video)
    print(f"\n{item.subject}")
    for reason in item.reasons:
        print(f"  - {reason}")
    print(f"  contact sheet: {sheet}\n  video (not signed yet): {video}")
    while True:
        text = input("  publish? [y]es, [n]o, [l]ater: ").strip().lower()
        if text in ("y", "yes", "n", "no", "l", "later"):
            return None if text[0] == "l" else text[0] == "y"
