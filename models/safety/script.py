"""The spoken line against word lists, one file a language under ``wordlists/``.

A list names categories with a severity (``block`` or ``review``) and entries: words and phrases,
matched at word boundaries together with the language's common endings; ``=word`` allows no ending,
``word*`` any. Languages written without spaces are matched as substrings.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from models.safety.finding import Finding, unavailable
from models.safety.text import Token, fold, joined_tokens, share_in_scripts, tokens

CHECK = "script"
FOLDER = Path(__file__).parent / "wordlists"
FOREIGN_SHARE = 0.3
"""A line with more letters than this outside the language's scripts is not judged by its list."""

Severity = Literal["review", "block"]

_ENTRY_WORD = re.compile(r"=?[^\W_]+\*?")


@dataclass(frozen=True)
class Match:
    """A listed term in a text."""

    category: str
    severity: Severity
    entry: str
    """As the list has it."""
    start: int
    end: int
    """Offsets into the text as given, in characters."""


@dataclass(frozen=True)
class _Entry:
    category: str
    severity: Severity
    text: str
    words: tuple[frozenset[str], ...]
    """For each word the forms that count; ``prefix*`` for any ending."""


@dataclass(frozen=True)
class WordList:
    """One language's list, ready for matching."""

    language: str
    substring: bool
    scripts: tuple[str, ...]
    entries: tuple[_Entry, ...]
    sha256: str
    """Digest of the file."""


def languages() -> tuple[str, ...]:
    """The languages that there are lists for."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def lists_sha256() -> str:
    """The version of all lists together: a digest over their files."""
    digest = hashlib.sha256()
    for language in languages():
        digest.update(
            language.encode() + b"\0" + (FOLDER / f"{language}.yaml").read_bytes() + b"\0"
        )
    return digest.hexdigest()


def word_list(locale: str) -> WordList | None:
    """The list for a locale (``de``, ``de-AT``, ``de_AT``); None when there is none."""
    language = re.split(r"[-_]", locale.strip().lower())[0]
    return _load(language) if language in languages() else None


def find_terms(text: str, words: WordList) -> list[Match]:
    """Find listed terms.

    Args:
        text: the line as spoken, variables filled in.
        words: the list to hold it against.

    Returns:
        Matches in the order of the text; overlapping ones of one category appear once.
    """
    found = _substrings(text, words) if words.substring else _words(text, words)
    found.sort(key=lambda match: (match.start, -match.end))
    kept: list[Match] = []
    for match in found:
        if not any(k.category == match.category and k.start <= match.start < k.end for k in kept):
            kept.append(match)
    return kept


def check_script(text: str, locale: str) -> list[Finding]:
    """Judge a spoken line.

    Returns:
        One finding for each term, or one ``pass``; ``unavailable`` where there is no list for the
        locale or the line is mostly written in another script.
    """
    words = word_list(locale)
    if words is None:
        known = ", ".join(languages())
        return [unavailable(CHECK, f"there is no word list for {locale!r}; there are {known}")]
    matches = find_terms(text, words)
    findings = [
        Finding(
            rule=f"{CHECK}.{match.category}",
            verdict=match.severity,
            score=1.0,
            threshold=1.0,
            detail=(
                f"characters {match.start}-{match.end}: "
                f"{text[match.start : match.end]!r} ({words.language} list: {match.entry})"
            ),
        )
        for match in matches
    ]
    foreign = 1.0 - share_in_scripts(text, words.scripts)
    if foreign > FOREIGN_SHARE:
        why = f"{foreign:.0%} of the line is not written in the script of {words.language}"
        findings.append(unavailable(CHECK, why))
    return findings or [Finding(f"{CHECK}.none", "pass", 0.0, 1.0, detail=f"{words.language} list")]


@functools.cache
def _load(language: str) -> WordList:
    data = (FOLDER / f"{language}.yaml").read_bytes()
    raw: dict[str, Any] = yaml.safe_load(data)
    substring = raw["matching"] == "substring"
    endings = tuple(raw.get("endings", ()))
    entries = [
        _entry(name, category["severity"], str(text), endings, substring=substring)
        for name, category in raw["categories"].items()
        for text in category["entries"]
    ]
    return WordList(
        language=language,
        substring=substring,
        scripts=tuple(raw["scripts"]),
        entries=tuple(entries),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _entry(
    category: str, severity: Severity, text: str, endings: tuple[str, ...], *, substring: bool
) -> _Entry:
    if substring:
        forms = (frozenset({_squash(fold(text, latin=False)[0])}),)
        return _Entry(category, severity, text, forms)
    parts = _ENTRY_WORD.findall(fold(text, latin=True)[0])
    return _Entry(category, severity, text, tuple(_forms(part, endings) for part in parts))


def _forms(word: str, endings: tuple[str, ...]) -> frozenset[str]:
    if word.startswith("="):
        return frozenset({word[1:]})
    if word.endswith("*") or len(word) < 3:
        return frozenset({word})
    forms = {word, *(word + ending for ending in endings)}
    if word[-1] in "aeo":  # cure -> curing, estafa -> estafas, gratuito -> gratuita
        forms |= {word[:-1] + ending for ending in endings if ending[0] in "aeio"}
    return frozenset(forms)


def _words(text: str, words: WordList) -> list[Match]:
    line, joined = tokens(text), joined_tokens(text)
    found = []
    for entry in words.entries:
        width = len(entry.words)
        windows = [line[i : i + width] for i in range(len(line) - width + 1)]
        windows += [[token] for token in joined] if width == 1 else []
        for window in windows:
            if all(_fits(t, forms) for t, forms in zip(window, entry.words, strict=True)):
                found.append(_match(entry, window[0].start, window[-1].end))
    return found


def _fits(token: Token, forms: frozenset[str]) -> bool:
    if not forms.isdisjoint(token.readings):
        return True
    for form in forms:
        if form.endswith("*") and any(r.startswith(form[:-1]) for r in token.readings):
            return True
    masked = [reading for reading in token.readings if "*" in reading]
    return any(_unmasks(reading, form) for reading in masked for form in forms)


def _unmasks(masked: str, form: str) -> bool:
    """Whether ``f**l`` stands for ``foul``: one letter for each star, two letters shown."""
    if len(masked) != len(form) or sum(c.isalpha() for c in masked) < 2:
        return False
    return all(m in ("*", f) for m, f in zip(masked, form, strict=True))


def _substrings(text: str, words: WordList) -> list[Match]:
    folded, origin = fold(text, latin=False)
    kept = [index for index, character in enumerate(folded) if not _ignored(character)]
    squashed = "".join(folded[index] for index in kept)
    found = []
    for entry in words.entries:
        for form in entry.words[0]:
            for hit in re.finditer(re.escape(form), squashed):
                last = kept[hit.end() - 1]
                found.append(_match(entry, origin[kept[hit.start()]], origin[last] + 1))
    return found


def _squash(text: str) -> str:
    return "".join(character for character in text if not _ignored(character))


def _ignored(character: str) -> bool:
    return character.isspace() or character in "・･.,、。_-*"


def _match(entry: _Entry, start: int, end: int) -> Match:
    return Match(entry.category, entry.severity, entry.text, start, end)
