"""Which espeak-ng voice speaks a locale, and which one can read a foreign name in a script."""

from __future__ import annotations

import functools
import re
import unicodedata
from pathlib import Path

import espeakng_loader

from include.errors import BadInput

_ALIASES = {
    "en": "en-us", "zh": "cmn", "zh-hk": "yue", "zh-mo": "yue", "no": "nb", "nn": "nb",
    "iw": "he", "in": "id", "es-es": "es", "fil": "ms", "sh": "hr",
}  # fmt: skip
_LATIN_AMERICA = frozenset(
    "mx ar bo cl co cr cu do ec gt hn ni pa pe pr py sv us uy ve".split()  # noqa: SIM905
)
_GENDERS = {"female": "f3", "male": "m3"}

# Scripts that a voice of another language would spell letter by letter ("Chinese letter ...").
_SCRIPT_LANGUAGE = {
    "CJK": "cmn", "HIRAGANA": "ja", "KATAKANA": "ja", "HANGUL": "ko", "CYRILLIC": "ru",
    "GREEK": "el", "ARABIC": "ar", "HEBREW": "he", "THAI": "th", "DEVANAGARI": "hi",
    "BENGALI": "bn", "TAMIL": "ta", "TELUGU": "te", "GEORGIAN": "ka", "ARMENIAN": "hy",
}  # fmt: skip
_OWN_SCRIPTS: dict[str, set[str]] = {
    "cmn": {"CJK"}, "yue": {"CJK"}, "hak": {"CJK"}, "ja": {"HIRAGANA", "KATAKANA"},
    "ko": {"HANGUL"}, "el": {"GREEK"}, "he": {"HEBREW"}, "th": {"THAI"}, "bn": {"BENGALI"},
    "ta": {"TAMIL"}, "te": {"TELUGU"}, "ka": {"GEORGIAN"}, "hy": {"ARMENIAN"},
    "hyw": {"ARMENIAN"},
}  # fmt: skip
for _script_name, _tags in (
    ("CYRILLIC", "ru uk be bg sr mk kk ky tt ba cv uz az bs hr tk mn"),
    ("ARABIC", "ar fa ur sd ku ug"),
    ("DEVANAGARI", "hi mr ne kok"),
):
    for _tag in _tags.split():
        _OWN_SCRIPTS.setdefault(_tag, set()).add(_script_name)
_EXTENDED_LATIN = frozenset(("vi", "ro", "az", "yo", "ha", "la"))


@functools.cache
def _languages() -> dict[str, str]:
    """Map every language tag of the installed data to the voice that speaks it."""
    found: dict[str, tuple[int, str]] = {}
    for path in sorted((Path(espeakng_loader.get_data_path()) / "lang").rglob("*")):
        if not path.is_file():
            continue
        tags = re.findall(
            r"^language\s+(\S+)(?:\s+(\d+))?", path.read_text(errors="replace"), re.MULTILINE
        )
        for tag, priority in tags:
            entry = (int(priority or 5), path.name.lower())
            if tag.lower() not in found or entry < found[tag.lower()]:
                found[tag.lower()] = entry
    return {tag: name for tag, (_, name) in found.items()}


@functools.cache
def _variants() -> frozenset[str]:
    folder = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    return frozenset(path.name for path in folder.iterdir())


def locales() -> tuple[str, ...]:
    """Return the language tags that can be spoken, sorted (BCP 47, lower case)."""
    return tuple(sorted(_languages()))


def language_for(locale: str) -> str:
    """Return the espeak-ng language for a locale, falling back from region to language.

    Args:
        locale: a BCP 47 tag in any case, with ``-`` or ``_``, such as ``pt-BR`` or ``es_MX``.

    Raises:
        BadInput: ``voice.unknown_locale``; the message lists what can be spoken.
    """
    tag = locale.strip().lower().replace("_", "-")
    known = _languages()
    parts = tag.split("-")
    if parts[0] == "es" and parts[-1] in _LATIN_AMERICA and "es-419" in known:
        return "es-419"
    while parts:
        candidate = _ALIASES.get("-".join(parts), "-".join(parts))
        if candidate in known:
            return candidate
        parts.pop()
    raise BadInput(
        f"No voice speaks the locale {locale!r}. Use one of: {', '.join(locales())};"
        " or give recorded audio instead of a script.",
        code="voice.unknown_locale",
    )


def voice_name(language: str, variant: str = "") -> str:
    """Return the name by which espeak-ng loads a language's voice.

    Args:
        language: from :func:`language_for`.
        variant: from :func:`variant_for`.
    """
    return _languages()[language] + (f"+{variant}" if variant else "")


def variant_for(voice: str | None) -> str:
    """Return the espeak-ng voice variant, such as ``f3``; empty for the voice's own.

    Args:
        voice: None, ``female``, ``male`` or the name of a variant.

    Raises:
        BadInput: ``voice.unknown``; the message lists what exists.
    """
    if voice is None or not voice.strip():
        return ""
    name = _GENDERS.get(voice.strip().lower(), voice.strip())
    if name not in _variants():
        raise BadInput(
            f"There is no voice {voice!r}. Use female, male or one of: "
            f"{', '.join(sorted(_variants()))}.",
            code="voice.unknown",
        )
    return name


def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    first = unicodedata.name(character, "LATIN").split()[0]
    return "CJK" if first == "IDEOGRAPHIC" else first


def _foreign_language(character: str, language: str) -> str | None:
    """Return the language to switch to for a letter, or None where ``language`` reads it."""
    script = _script(character)
    base = language.split("-")[0]
    if script in (None, "LATIN") or script in _OWN_SCRIPTS.get(base, ()):
        return None
    other = _SCRIPT_LANGUAGE.get(script or "")
    if other is None or (base == "ja" and script == "CJK"):
        reading = "in kana" if base == "ja" else "in Latin letters"
        raise BadInput(
            f"The voice for {language!r} cannot read {character!r}: write it {reading},"
            " as it sounds, or give recorded audio.",
            code="script.unspeakable",
        )
    return other


def _plain_latin(text: str) -> str:
    """Drop the accents of rare Latin letters, which espeak-ng would spell out by code point."""
    out = []
    for character in text:
        rare = ord(character) > 0x17F and unicodedata.name(character, "").startswith("LATIN")
        parts = unicodedata.normalize("NFKD", character) if rare else character
        out.append("".join(c for c in parts if not unicodedata.combining(c)) if rare else parts)
    return "".join(out)


def _is_speech(character: str) -> bool:
    """Whether a character is for the ear: emoji, marks of direction and controls are not."""
    return not (
        unicodedata.category(character) in ("Cc", "Cf", "Co", "Cs", "Cn")
        or 0x1F000 <= ord(character) <= 0x1FAFF
        or 0x2600 <= ord(character) <= 0x27BF
        or 0xFE00 <= ord(character) <= 0xFE0F
    )


def split_by_language(text: str, language: str) -> list[tuple[str, str]]:
    """Clean a script and cut it where its alphabet needs another language's voice.

    A Korean or Chinese name in an English script is read by the Korean or Chinese rules instead
    of being spelled. Control characters go (espeak-ng takes them as commands), and so do emoji.

    Args:
        text: plain text; markup is not interpreted.
        language: the espeak-ng language of the whole script.

    Returns:
        ``(language, text)`` runs in order, none blank; empty when nothing can be spoken.

    Raises:
        BadInput: ``script.unspeakable`` for a letter that no voice here can read.
    """
    text = unicodedata.normalize("NFC", text)
    text = "".join(c if _is_speech(c) else " " for c in text)
    if language.split("-")[0] not in _EXTENDED_LATIN:
        text = _plain_latin(text)
    runs: list[tuple[str, str]] = []
    for character in text:
        foreign = _foreign_language(character, language)
        # Only letters of the main language end a foreign run; spaces and marks stay with it.
        stays = foreign is None and runs and not character.isalnum()
        target = runs[-1][0] if stays and runs else (foreign or language)
        if runs and runs[-1][0] == target:
            runs[-1] = (target, runs[-1][1] + character)
        else:
            runs.append((target, character))
    return [(name, part) for name, part in runs if part.strip()]
