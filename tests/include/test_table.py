from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.errors import BadBrief, BadInput
from include.table import fill_script, read_table

HEAD = "id,face,audio,script,consent,locale,voice,name\n"
ROW = "anna,a.jpg,,Hello {name},c.json,en-US,female,Anna\n"


def table(text: str | bytes):
    data = text if isinstance(text, bytes) else text.encode()
    return read_table(data, "recipients.csv")


def codes(text: str) -> dict[str, str]:
    return {reject.recipient: reject.code for reject in table(text).rejects}


def test_a_row_is_read_with_its_script_filled_in() -> None:
    row = table(HEAD + ROW).rows[0]
    assert (row.id, row.script, row.locale, row.voice) == ("anna", "Hello Anna", "en-US", "female")
    assert row.line == 2


@pytest.mark.parametrize(
    "data",
    [
        (HEAD + ROW).encode("utf-8-sig"),
        (HEAD + ROW).replace("\n", "\r\n").encode(),
        (HEAD + "\n" + ROW + "\n\n").encode(),
    ],
    ids=["byte-order mark", "CRLF", "blank lines"],
)
def test_what_spreadsheets_write_is_read(data: bytes) -> None:
    assert [row.id for row in table(data).rows] == ["anna"]
    assert not table(data).rejects


def test_names_in_any_script_are_kept() -> None:
    rows = table(HEAD + "yulia,Юлия.jpg,,Привет {name},c.json,ru,,Юлия\n").rows
    assert rows[0].script == "Привет Юлия"
    assert rows[0].face == "Юлия.jpg"


def test_duplicate_ids_are_all_rejected_because_nobody_knows_which_is_meant() -> None:
    found = table(HEAD + ROW + ROW.replace("anna", "Anna") + ROW.replace("anna", "ben"))
    assert [row.id for row in found.rows] == ["ben"]
    assert [reject.code for reject in found.rejects] == ["row.duplicate_id"] * 2
    assert "line 2" in found.rejects[0].message


def test_a_missing_variable_rejects_the_row_and_names_the_column() -> None:
    found = table(HEAD + ROW.replace(",Anna\n", ",\n") + ROW.replace("anna", "ben"))
    assert [row.id for row in found.rows] == ["ben"]
    assert found.rejects[0].code == "script.missing_variable"
    assert "'name'" in found.rejects[0].message


@pytest.mark.parametrize(
    "ident", ["../x", "a/b", "", ".hidden", "имя", "a" * 65, "template", "a b"]
)
def test_an_id_that_is_no_folder_name_is_rejected(ident: str) -> None:
    assert set(codes(HEAD + ROW.replace("anna", ident)).values()) == {"row.id"}


@pytest.mark.parametrize(
    "locale",
    [
        "en\n\n00:00.000 --> 00:09.000\nBuy now",
        "en --> de",
        "e",
        "-",
        "english please",
        "日本",
        "a" * 99,
    ],
)
def test_a_locale_that_is_no_language_tag_is_rejected(locale: str) -> None:
    rows = HEAD + ROW.replace("en-US", f'"{locale}"') + ROW.replace("anna", "ben")
    assert codes(rows) == {"anna": "row.locale"}


@pytest.mark.parametrize(
    "locale", ["de", "pt-BR", "es_MX", "zh-Hant-TW", "es-419", "sl-rozaj-1994"]
)
def test_language_tags_are_taken_as_they_are(locale: str) -> None:
    assert table(HEAD + ROW.replace("en-US", locale)).rows[0].locale == locale


def test_an_unknown_column_is_told_and_does_not_stop_the_campaign() -> None:
    found = table(HEAD.replace("voice,name", "voice,name,scirpt") + ROW.replace("\n", ",hm\n"))
    assert [row.id for row in found.rows] == ["anna"]
    assert found.rejects[0].code == "table.unknown_column"
    assert "scirpt" in found.rejects[0].message


def test_a_row_with_too_many_cells_is_rejected_with_advice_on_quotes() -> None:
    assert codes(HEAD + ROW.replace("\n", ",more\n")) == {"anna": "row.cells"}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "table.empty"),
        (HEAD.encode(), "table.empty"),
        ((HEAD + ROW).encode("utf-16"), "table.encoding"),
        ("id,face,consent\nä,b,c\n".encode("latin-1"), "table.encoding"),
        (b"id,face\na,b\n", "table.columns"),
        (b"id;face;consent\na;b;c\n", "table.columns"),
        (b"id,id,face,consent\na,a,b,c\n", "table.columns"),
        (b'id,face,consent\na,"b,c\n', "table.malformed"),
    ],
    ids=["empty", "header only", "utf-16", "latin-1", "no consent", "semicolons", "twice", "quote"],
)
def test_a_table_that_cannot_be_understood_is_an_error_with_a_name(data: bytes, code: str) -> None:
    with pytest.raises(BadBrief, match=r"recipients\.csv") as caught:
        table(data)
    assert caught.value.code == code


@pytest.mark.parametrize("script", ["{name.__class__}", "{name[0]}", "{name!r}", "{name:>9}", "{}"])
def test_only_plain_names_are_filled_in(script: str) -> None:
    with pytest.raises(BadInput) as caught:
        fill_script(script, {"name": "Anna"})
    assert caught.value.code == "script.missing_variable"


def test_doubled_braces_are_braces() -> None:
    assert fill_script("{{x}} {name}", {"name": "Anna"}) == "{x} Anna"


@given(st.binary(max_size=400))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with contextlib.suppress(BadBrief):
        table(data)
