"""From when on rows are judged, as a person writes it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from include.errors import Usage

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def parse_since(text: str, now: datetime | None = None) -> datetime:
    """Read ``2026-03-01``, ``2026-03-01T06:00``, ``24h``, ``7d`` or ``2w``; UTC unless it says.

    Raises:
        Usage: ``drift.since``: it is none of these.
    """
    span = re.fullmatch(r"(\d{1,4})([hdw])", text.strip())
    if span:
        return (now or datetime.now(UTC)) - int(span[1]) * _UNITS[span[2]]
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Usage(
            f"since {text!r}: give a date (2026-03-01), a time (2026-03-01T06:00) or a span "
            "(24h, 7d, 2w)",
            code="drift.since",
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
