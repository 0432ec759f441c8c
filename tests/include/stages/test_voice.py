from __future__ import annotations

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.contracts.brief import VoiceSpec
from include.errors import BadInput, BadMedia
from include.media.captions import webvtt
from include.stages.bed import read_bed
from include.stages.voice import place_voice


def test_a_voice_that_fits_sounds_whole() -> None:
    place = place_voice(VoiceSpec(at=1.2), 3.0, 8.0, "anna")
    assert (place.start, place.stop, place.trimmed) == (1.2, 4.2, False)


def test_a_voice_that_is_too_long_is_refused_with_the_figures() -> None:
    with pytest.raises(BadInput, match=r"anna: the voice lasts 7\.50 s") as caught:
        place_voice(VoiceSpec(at=1.2), 7.5, 8.0, "anna")
    assert caught.value.code == "voice.too_long"


def test_speech_is_cut_only_when_the_brief_says_trim() -> None:
    place = place_voice(VoiceSpec(at=1.2, longer="trim"), 7.5, 8.0, "anna")
    assert (place.stop, place.trimmed) == (8.0, True)


def test_a_voice_that_begins_after_the_end_is_refused_even_with_trim() -> None:
    with pytest.raises(BadInput):
        place_voice(VoiceSpec(at=9, longer="trim"), 1.0, 8.0, "anna")


def test_captions_cover_the_voice_without_gaps_and_in_order() -> None:
    text = "Hello Anna, our spring sale begins on Monday, so come by and save on two pairs. " * 2
    times = re.findall(r"(\d\d:\d\d:\d\d\.\d{3}) --> (\d\d:\d\d:\d\d\.\d{3})", webvtt(text, 1, 9))
    assert times[0][0] == "00:00:01.000"
    assert times[-1][1] == "00:00:09.000"
    assert all(a[1] == b[0] for a, b in itertools.pairwise(times))


def test_captions_escape_markup_and_start_with_the_signature() -> None:
    page = webvtt("a <b> & c", 0, 1)
    assert page.startswith("WEBVTT\n")
    assert "a &lt;b&gt; &amp; c" in page


def test_no_script_gives_a_valid_file_without_cues() -> None:
    assert "-->" not in webvtt("", 0, 0)


def test_a_bed_that_cannot_be_used_is_named_as_the_brief_does(tmp_path: Path) -> None:
    copy = tmp_path / "source" / "bed" / "source.wav"
    copy.parent.mkdir(parents=True)
    copy.write_text("not a sound\n" * 100)
    template = SimpleNamespace(sources={"bed": SimpleNamespace(origin="media/song.wav")})
    ctx = SimpleNamespace(
        shard=SimpleNamespace(template=template), source=lambda *_, **__: copy, common=None
    )
    with pytest.raises(BadMedia) as refused:
        read_bed(ctx)  # type: ignore[arg-type]
    assert refused.value.code == "media.magic"
    assert refused.value.message.startswith("template.bed: media/song.wav: ")
    assert str(tmp_path) not in refused.value.message
