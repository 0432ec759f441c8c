from __future__ import annotations

from pathlib import Path

import pytest

from include.errors import Usage
from include.settings import Settings


def revoked(monkeypatch: pytest.MonkeyPatch, path: Path) -> frozenset[str]:
    monkeypatch.setenv("UNDERSTUDY_REVOKED", str(path))
    return Settings.from_env().revoked_records()


@pytest.mark.parametrize(
    "data",
    [
        b"c-1\nc-2\n",
        b"\xef\xbb\xbfc-1\nc-2\n",
        b"\xef\xbb\xbfc-1\r\n\r\n  c-2",
    ],
    ids=["plain", "byte-order mark", "CRLF, blanks"],
)
def test_every_line_of_the_revoked_file_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes
) -> None:
    path = tmp_path / "revoked.txt"
    path.write_bytes(data)
    assert revoked(monkeypatch, path) == {"c-1", "c-2"}


def test_nothing_is_revoked_where_no_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNDERSTUDY_REVOKED", raising=False)
    assert Settings.from_env().revoked_records() == frozenset()


@pytest.mark.parametrize("data", [None, "c-1\n".encode("utf-16")], ids=["missing", "utf-16"])
def test_a_revoked_file_that_cannot_be_read_is_an_error_and_not_an_empty_list(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: bytes | None
) -> None:
    path = tmp_path / "revoked.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(Usage, match=r"UNDERSTUDY_REVOKED.*revoked\.txt"):
        revoked(monkeypatch, path)
