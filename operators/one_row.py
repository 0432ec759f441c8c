"""One ad from a form: a brief of one row, written beside the state."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.errors import BadBrief

if TYPE_CHECKING:
    from include.settings import Settings

_CELLS = ("face", "audio", "script", "consent", "locale", "voice")
_PATHS = ("face", "audio", "consent")


def one_row_brief(params: Mapping[str, Any], settings: Settings) -> str:
    """Write a brief that renders one row with the template of an existing brief.

    Args:
        params: ``brief`` (whose template, policy and output are used), ``recipient`` (an id),
            ``face``, ``consent`` and optionally ``audio``, ``script``, ``locale``, ``voice``.
            Paths are absolute or relative to the brief.
        settings: roots and state folder.

    Returns:
        The new brief's path. The same form gives the same brief, so a retry finds its artifacts.

    Raises:
        BadBrief: a field is missing, or the brief cannot be read.
    """
    import yaml

    from include.contracts.brief import FaceLike
    from include.inputs import open_inputs
    from include.planning import parse_brief

    source = str(params["brief"])
    if source.startswith("s3://"):
        raise BadBrief(
            f"{source}: a new row needs a brief on disk; add the row to the brief's table instead "
            "and name its id under 'recipient'",
            code="brief.remote",
        )
    for name in ("face", "consent"):
        if not params.get(name):
            raise BadBrief(f"fill in {name!r}, or only 'recipient' to render a row of the brief")
    brief, _ = parse_brief(open_inputs(source, settings))
    folder = Path(source).resolve().parent
    row = {name: str(params.get(name) or "") for name in _CELLS}
    row.update({name: str(folder / row[name]) for name in _PATHS if row[name]})
    row = {"id": str(params.get("recipient") or "ad"), **row}
    data = brief.model_dump(mode="json", exclude_none=True)
    for name in ("video", "bed", "consent"):
        if data["template"].get(name):
            data["template"][name] = str(folder / data["template"][name])
    if isinstance(brief.template.face, FaceLike):
        data["template"]["face"] = {"like": str(folder / brief.template.face.like)}
    data["recipients"] = "recipients.csv"
    digest = hashlib.sha256(json.dumps([data, row], sort_keys=True).encode()).hexdigest()
    target = settings.state / "ads" / digest[:32]
    target.mkdir(parents=True, exist_ok=True)
    with (target / "recipients.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        writer.writeheader()
        writer.writerow(row)
    (target / "brief.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return str(target / "brief.yaml")
