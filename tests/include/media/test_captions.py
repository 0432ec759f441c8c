from __future__ import annotations

import re

import pytest

from include.media.captions import webvtt

CLOCK = re.compile(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}")
"""As we write times: always with hours."""


@pytest.mark.parametrize(
    "locale",
    [
        "en\n\n00:00.000 --> 00:09.000\nBuy now",
        "en\r\n\r\nNOTE x",
        "en\rSTYLE\r",
        "en\x0b\u2028\x85--> de",
        "00:00.000 --> 00:09.000",
    ],
)
def test_nothing_that_is_said_or_named_makes_a_cue_of_its_own(locale: str) -> None:
    text = webvtt(f"Hello there. {locale}", 1.0, 2.5, locale=locale)
    assert "\r" not in text
    header, *cues = text.strip("\n").split("\n\n")
    first, language = header.split("\n")
    assert first == "WEBVTT"
    assert language.startswith("Language: ")
    assert "-->" not in language
    for cue in cues:
        times, *lines = cue.split("\n")
        assert CLOCK.fullmatch(times)
        assert lines
        assert not any("-->" in line for line in lines)


def test_a_language_tag_is_written_as_it_is() -> None:
    assert webvtt("Hi", 0, 1, locale="pt-BR").startswith("WEBVTT\nLanguage: pt-BR\n\n00:00")
