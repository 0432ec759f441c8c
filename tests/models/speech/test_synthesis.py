from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from include.errors import BadInput, OutOfMemory
from models.speech import loudness, synthesis, voices
from models.speech.arpabet import CLASSES, LABIAL_STOPS, SILENCE
from models.speech.synthesis import LEAD_IN, TARGET_LUFS, spell, synthesise

LINE = "Hello Maria, our summer sale begins on Monday. Buy two pairs and save big."


def symbols(text: str, **options: str) -> list[str]:
    return [p.symbol for p in synthesise(text, **options).phonemes if p.symbol != SILENCE]


def test_the_same_text_gives_the_same_samples_whatever_was_said_before():
    first = synthesise(LINE, voice="female")
    synthesise("Etwas ganz anderes.", locale="de", voice="m3", rate_wpm=220, pitch=80)
    again = synthesise(LINE, voice="female")
    assert np.array_equal(first.samples, again.samples)
    assert first.phonemes == again.phonemes


def test_phonemes_are_ordered_known_and_cover_the_line():
    speech = synthesise(LINE)
    assert speech.phonemes[0].start == 0
    assert speech.phonemes[-1].end == pytest.approx(speech.duration, abs=0.01)
    for before, after in itertools.pairwise(speech.phonemes):
        assert before.end <= after.start + 1e-9
    assert all(p.end > p.start and p.symbol in CLASSES for p in speech.phonemes)


def test_the_sound_of_a_phoneme_lies_where_its_times_say():
    speech = synthesise(LINE)
    wave = speech.samples / 32768.0
    vowel = [p for p in speech.phonemes if p.symbol in ("EY", "AY", "IY")]
    pauses = [p for p in speech.phonemes if p.symbol == SILENCE and p.end - p.start > 0.1]

    def level(p) -> float:
        cut = wave[int(p.start * speech.sample_rate) : int(p.end * speech.sample_rate)]
        return float(np.sqrt(np.mean(cut**2)))

    assert min(level(p) for p in vowel) > 5 * max(level(p) for p in pauses)


def test_a_stop_includes_its_closure():
    speech = synthesise("A puppy, a copy, a happy pop.")
    wave = np.abs(speech.samples.astype(np.float64))
    for p, following in itertools.pairwise(speech.phonemes):
        if p.symbol == "P" and following.symbol != SILENCE:
            assert p.end - p.start > 0.045
            quiet = wave[int(p.start * speech.sample_rate) :][: int(0.04 * speech.sample_rate)]
            assert np.convolve(quiet, np.ones(110) / 110, "valid").min() < 60


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("en", "en-us"), ("en-US", "en-us"), ("en_GB", "en-gb"), ("de", "de"), ("de-AT", "de"),
        ("fr-CA", "fr"), ("es", "es"), ("es-MX", "es-419"), ("pt-BR", "pt-br"), ("pt", "pt"),
        ("it", "it"), ("ja", "ja"), ("zh-CN", "cmn"), ("cmn", "cmn"), ("ko-KR", "ko"),
    ],
)  # fmt: skip
def test_a_locale_finds_its_voice(locale, language):
    assert voices.language_for(locale) == language


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("en-GB", "Good morning."), ("de", "Guten Morgen, schöne Bücher!"),
        ("fr", "Bonjour, un thé ?"),
        ("es-MX", "¡Hola! ¿Cómo está la niña?"), ("pt-BR", "Olá, tudo bem? Não."),
        ("it", "Buongiorno a tutti."), ("ja", "こんにちは"), ("cmn", "我们今天去北京"),
    ],
)  # fmt: skip
def test_other_languages_are_spoken(locale, text):
    speech = synthesise(text, locale=locale)
    assert speech.duration > 0.5
    assert len([p for p in speech.phonemes if p.symbol != SILENCE]) >= 6


def test_an_unknown_locale_is_named_with_what_exists():
    with pytest.raises(BadInput, match=r"'tlh-XX'.*de.*en-us") as caught:
        synthesise("Hello", locale="tlh-XX")
    assert caught.value.code == "voice.unknown_locale"


def test_an_unknown_voice_is_named_with_what_exists():
    with pytest.raises(BadInput, match=r"'../../etc/passwd'.*female") as caught:
        synthesise("Hello", voice="../../etc/passwd")
    assert caught.value.code == "voice.unknown"


@pytest.mark.parametrize("text", ["", "   ", "...", "—", "😀🎉", "\x00\x07"])
def test_a_text_without_sound_is_refused(text):
    with pytest.raises(BadInput) as caught:
        synthesise(text)
    assert caught.value.code == "script.silent"


def test_a_text_of_no_end_is_refused():
    with pytest.raises(BadInput) as caught:
        synthesise("bla " * 5000)
    assert caught.value.code == "script.too_long"


@pytest.mark.parametrize("options", [{"rate_wpm": 20}, {"rate_wpm": 900}, {"pitch": 120}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(BadInput) as caught:
        synthesise("Hello", **options)
    assert caught.value.code == "voice.out_of_range"


def test_markup_is_read_out_and_never_obeyed():
    assert synthesise('Hi <break time="5s"/> you').duration < 6
    assert len(symbols("<b>hi</b>")) > len(symbols("hi"))
    plain, coded = synthesise("50S hello"), synthesise("\x0150S hello")
    assert np.array_equal(plain.samples, coded.samples)


@pytest.mark.parametrize("name", ["李明", "지민", "Иван", "Γιώργος", "さくら", "अमित"])
def test_a_name_in_another_alphabet_is_spoken_not_spelled(name):
    alone = [p for p in synthesise(f"Hello {name}, welcome.").phonemes if p.symbol != SILENCE]
    assert len(alone) < len(symbols("Hello, welcome.")) + 16


def test_rare_latin_letters_are_read_as_letters():
    assert symbols("Ștefan") == symbols("Stefan")


def test_kanji_are_refused_in_japanese_with_a_way_out():
    with pytest.raises(BadInput, match="kana") as caught:
        synthesise("日本", locale="ja")
    assert caught.value.code == "script.unspeakable"


@pytest.mark.parametrize("voice", [None, "female", "male"])
def test_every_voice_is_equally_loud_and_never_clips(voice):
    speech = synthesise(LINE, voice=voice)
    level = loudness.loudness(speech.samples / 32768.0, speech.sample_rate)
    assert level == pytest.approx(TARGET_LUFS, abs=0.7)
    assert np.abs(speech.samples.astype(int)).max() < 0.9 * 32767
    assert np.abs(speech.samples[: int(0.8 * LEAD_IN * speech.sample_rate)]).max() < 40


def test_voices_differ():
    female, male = synthesise(LINE, voice="female"), synthesise(LINE, voice="male")
    assert len(female.samples) != len(male.samples) or not np.array_equal(
        female.samples, male.samples
    )


def test_names_and_numbers_are_spelled_into_sounds():
    found = spell(["priya", "20%", "..."])
    assert found["priya"][0] == "P"
    assert {"T", "W", "EH"} <= set(found["20%"])
    assert "..." not in found


def test_labial_stops_survive_in_every_language():
    for locale in ("de", "fr", "es", "it", "pt-BR"):
        found = set(symbols("papa, mama, baba", locale=locale))
        assert found >= LABIAL_STOPS - {"B"}


def test_a_sine_at_minus_23_dbfs_has_the_loudness_of_the_standard():
    rate = 48_000
    tone = 10 ** (-23 / 20) * np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate)
    assert loudness.loudness(tone, rate) == pytest.approx(-26.0, abs=0.3)
    assert loudness.loudness(np.zeros(rate), rate) == float("-inf")


def test_a_synthesiser_that_the_system_killed_is_worth_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = tmp_path / "child.py"
    child.write_text("import os; os.kill(os.getpid(), 9)")
    monkeypatch.setattr(synthesis, "_CHILD", child)
    with pytest.raises(OutOfMemory):
        synthesis._speak({"runs": []})
