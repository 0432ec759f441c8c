"""The question to a person: publish this row or not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.sdk import Param

if TYPE_CHECKING:
    from airflow.sdk import Context

    from include.contracts.stage import ReviewItem

APPROVE = "Approve"
REJECT = "Reject"
_INLINE_IMAGE = re.compile(r"!\[[^\]]*\]\(data:[^)]*\)")
"""Airflow's Markdown shows no ``data:`` images; ours come from the plugin."""
DEFAULT_HOURS = 72.0
HOURS_VARIABLE = "understudy_review_hours"

NOTE = {"note": Param("", type="string", title="Note", description="Kept with the decision.")}
"""The form under the question."""


class ReviewOperator(HITLOperator):
    """Asks whether one row may be published; without an answer in time the row is not.

    No gate: it skips nothing (a skip inside a mapped group does not reach downstream tasks).
    The answer is recorded, and the stages after it look the decision up themselves.

    Args:
        item: a review by reference, from ``operators.campaign.collect_reviews`` (templated).
        hours: time limit; templated, so that it may come from a Param. When empty the variable
            ``understudy_review_hours`` decides, else 72.
    """

    template_fields = ("item", "hours")

    def __init__(
        self, *, item: Mapping[str, Any], hours: str = "{{ params.review_hours }}", **kwargs: Any
    ) -> None:
        kwargs.setdefault("map_index_template", "{{ task.item['label'] }}")
        super().__init__(subject="", options=[APPROVE, REJECT], defaults=REJECT, **kwargs)
        self.item = item
        self.hours = hours

    def execute(self, context: Context) -> Any:
        """Put the question; the task then waits without a process of its own."""
        item = load_item(self.item)
        self.subject = item.subject
        self.body = _INLINE_IMAGE.sub("", item.body) + media_links(item)
        self.response_timeout = timedelta(hours=review_hours(self.hours))
        return super().execute(context)


def load_item(ref: Mapping[str, Any]) -> ReviewItem:
    """The review item behind a reference."""
    from include.contracts.stage import ReviewItem
    from include.store import open_store

    return ReviewItem.model_validate_json(open_store(ref["store"]).get(ref["item"]))


def media_links(item: ReviewItem) -> str:
    """Markdown that shows the contact sheet and links the video, served by our plugin."""
    from airflow.sdk.configuration import conf

    base = (conf.get("api", "base_url", fallback="") or "").rstrip("/")
    sheet = f"{base}/understudy/object?key={item.contact_sheet}"
    video = f"{base}/understudy/object?key={item.video}"
    return (
        f"\n\n![Contact sheet of {item.unit}]({sheet})\n\n"
        f"[Contact sheet]({sheet}) · [Watch the unsigned video]({video})\n"
    )


def review_hours(text: str) -> float:
    """The time limit in hours: the run's own, the variable's, or 72."""
    if text in ("", "None"):
        from airflow.sdk import Variable

        text = str(Variable.get(HOURS_VARIABLE, default=DEFAULT_HOURS))
    return float(text)
