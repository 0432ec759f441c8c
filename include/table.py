"""The recipients table: CSV to checked rows, each bad row with a reason of its own."""

from __future__ import annotations

import csv
import io
import re
import string
from collections import Counter
from dataclasses import dataclass, field

from include.contracts.plan import Reject
from include.errors import BadBrief, BadInput

KNOWN = ("id", "face", "audio", "script", "consent", "locale", "voice")
REQUIRED = ("id", "face", "consent")
MAX_SCRIPT = 800
"""Longest line to be spoken, in characters: about a minute of speech."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LOCALE = re.compile(r"[A-Za-z]{2,8}(?:[-_][A-Za-z0-9]{1,8}){0,7}")
"""The shape of a BCP 47 tag, also with the underscores that operating systems write."""
_RESERVED = {"template"}
_EXTRA = "\0extra"


@dataclass(frozen=True)
class Row:
    """One line of the table with its script filled in; files not looked at yet."""

    line: int
    id: str
    face: str
    consent: str
    audio: str | None = None
    script: str | None = None
    locale: str = "en"
    voice: str | None = None


@dataclass
class Table:
    """What the table holds, and what was wrong with it."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)


def read_table(data: bytes, name: str) -> Table:
    """Read the recipients table.

    UTF-8 with or without a byte-order mark, any line ending. A bad row is rejected by itself;
    a table that cannot be understood at all is an error.

    Args:
        data: the file's bytes.
        name: what to call it in messages.

    Raises:
        BadBrief: ``table.empty``, ``table.encoding``, ``table.columns``, ``table.malformed``.
    """
    header, records = _parse(data, name)
    table = Table()
    scripts = "\n".join(record.get("script", "") for _, record in records)
    for column in header:
        if column not in KNOWN and f"{{{column}}}" not in scripts:
            message = (
                f"{name}: column {column!r} is neither known ({', '.join(KNOWN)}) nor used as "
                f"{{{column}}} in a script; it was ignored. Check its spelling"
            )
            table.rejects.append(
                Reject(line=1, recipient="", code="table.unknown_column", message=message)
            )
    counts = Counter(record.get("id", "").strip().casefold() for _, record in records)
    for line, record in records:
        ident = record.get("id", "").strip()
        try:
            if counts[ident.casefold()] > 1:
                raise BadInput(
                    f"id {ident!r} is used by {counts[ident.casefold()]} rows; none of them is "
                    "rendered, because it is not clear which one is meant. Make ids unique",
                    code="row.duplicate_id",
                )
            table.rows.append(_row(line, record))
        except BadInput as error:
            table.rejects.append(
                Reject(
                    line=line,
                    recipient=ident,
                    code=error.code,
                    message=f"{name} line {line}: {error.message}",
                )
            )
    return table


def _parse(data: bytes, name: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadBrief(
            f"{name} line {line} is not UTF-8; save the table as 'CSV UTF-8'",
            code="table.encoding",
        ) from error
    if "\x00" in text:
        raise BadBrief(f"{name} holds NUL bytes; it is not a CSV table", code="table.encoding")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise BadBrief(f"{name} line {reader.line_num}: {error}", code="table.malformed") from error
    if len(lines) < 2:
        raise BadBrief(
            f"{name} holds no recipients; it needs a header line ({', '.join(REQUIRED)}, ...) "
            "and one line for each recipient",
            code="table.empty",
        )
    header = [cell.strip() for cell in lines[0][1]]
    _check_header(header, name)
    return header, [(line, _record(header, cells)) for line, cells in lines[1:]]


def _record(header: list[str], cells: list[str]) -> dict[str, str]:
    record = dict(zip(header, cells, strict=False))
    if len(cells) > len(header):
        record[_EXTRA] = str(len(cells))
    return record


def _check_header(header: list[str], name: str) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        hint = " (separated by semicolons? use commas)" if any(";" in c for c in header) else ""
        raise BadBrief(
            f"{name} line 1: no column {', '.join(missing)}{hint}; found {', '.join(header)}",
            code="table.columns",
        )
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise BadBrief(
            f"{name} line 1: column {', '.join(map(repr, twice))} appears twice",
            code="table.columns",
        )


def _row(line: int, record: dict[str, str]) -> Row:
    if _EXTRA in record:
        raise BadInput(
            f"the row has {record[_EXTRA]} cells, more than the header; quote cells that "
            "hold commas",
            code="row.cells",
        )
    cells = {column: cell.strip() for column, cell in record.items()}
    ident = cells["id"]
    if not _ID.fullmatch(ident) or ident.casefold() in _RESERVED:
        raise BadInput(
            f"id {ident!r} cannot be used; ids are 1 to 64 of A-Z a-z 0-9 . _ - and begin with a "
            "letter or digit (names go into a column of their own)",
            code="row.id",
        )
    locale = cells.get("locale") or "en"
    if not _LOCALE.fullmatch(locale):
        raise BadInput(
            f"locale {locale[:40]!r} is not a language tag; write one such as en, de or pt-BR",
            code="row.locale",
        )
    if not cells["face"]:
        raise BadInput("no face; name the recipient's photo", code="photo.missing")
    if not cells["consent"]:
        raise BadInput("no consent; name the recipient's consent record", code="consent.missing")
    return Row(
        line=line,
        id=ident,
        face=cells["face"],
        consent=cells["consent"],
        audio=cells.get("audio") or None,
        script=fill_script(cells.get("script", ""), cells) or None,
        locale=locale,
        voice=cells.get("voice") or None,
    )


def fill_script(script: str, values: dict[str, str]) -> str:
    """Put a row's values into ``{name}`` places. Only plain names: no attributes or indexes.

    Raises:
        BadInput: ``script.malformed``, ``script.missing_variable``, ``script.too_long``.
    """
    try:
        parts = list(string.Formatter().parse(script))
    except ValueError as error:
        raise BadInput(
            f"the script's braces do not match ({error}); write {{name}}, or {{{{ for a brace",
            code="script.malformed",
        ) from error
    text = ""
    for literal, name, spec, conversion in parts:
        text += literal
        if name is None:
            continue
        if spec or conversion or not values.get(name):
            raise BadInput(
                f"the script uses {{{name}}}, and the row has no value for it; fill in the "
                f"column {name!r}",
                code="script.missing_variable",
            )
        text += values[name]
    if len(text) > MAX_SCRIPT:
        raise BadInput(
            f"the script has {len(text)} characters, more than {MAX_SCRIPT}; shorten it",
            code="script.too_long",
        )
    return " ".join(text.split())
