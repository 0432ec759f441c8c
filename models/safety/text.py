"""Text brought into the form that word lists are matched in, with the way back to the original.

Undone: compatibility forms and case (NFKC, casefold: Unicode UAX #15), accents, invisible
characters, look-alikes from other scripts (a small part of UTS #39), digits and signs for letters,
stretched words (``sooo``), letters held apart (``s p a c e d``, ``d.o.t.s``).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from dataclasses import dataclass

_LOOKALIKES = str.maketrans(
    {
        **dict(zip("авекмнорстухіјѕԁԛԝһꮪ", "abekmhopctyxijsdqwhs", strict=True)),
        **dict(zip("αβεικνορτυχωγη", "abeikvoptuxwyn", strict=True)),
        **{"ı": "i", "ł": "l", "ø": "o", "đ": "d", "ħ": "h", "ɑ": "a", "ɡ": "g", "ʀ": "r"},
    }
)
_LEET_I = str.maketrans("0134578@$!|+", "oieastbasiit")
_LEET_L = str.maketrans("0134578@$!|+", "oleastbaslit")
_TOKEN = re.compile(r"[^\W_]+(?:[@$*!|+]+[^\W_]+)*|[@$|+!*]+[^\W_]+(?:[@$*!|+]+[^\W_]+)*")
_STRETCHED = re.compile(r"(.)\1{2,}")
_WORD_JOINERS = re.compile(r"[^\w\s]{1,2}|_{1,2}")
_LETTER_GAPS = re.compile(r"[\W_]{1,3}")


@dataclass(frozen=True)
class Token:
    """A word of the text: every way to read it, and where it stands in the original."""

    readings: frozenset[str]
    start: int
    end: int


def fold(text: str, *, latin: bool) -> tuple[str, list[int]]:
    """Fold a text character by character.

    Args:
        text: anything.
        latin: fold accents and look-alikes too; not for scripts where marks tell letters apart.

    Returns:
        The folded text and, for each of its characters, its index in ``text``.
    """
    folded: list[str] = []
    origin: list[int] = []
    for start, cluster in _clusters(text):
        piece = unicodedata.normalize("NFKC", cluster).casefold()
        if latin:
            piece = unicodedata.normalize("NFD", piece)
            piece = "".join(c for c in piece if unicodedata.category(c) != "Mn")
            piece = piece.translate(_LOOKALIKES)
        piece = "".join(
            c for c in piece if unicodedata.category(c) not in ("Cf", "Cc") or c == "\n"
        )
        folded.append(piece)
        origin += [start] * len(piece)
    return "".join(folded), origin


def _clusters(text: str) -> list[tuple[int, str]]:
    """A base character together with the marks that follow it, so that NFKC can compose them."""
    clusters: list[tuple[int, str]] = []
    for index, character in enumerate(text):
        if clusters and unicodedata.combining(character):
            start, cluster = clusters[-1]
            clusters[-1] = (start, cluster + character)
        else:
            clusters.append((index, character))
    return clusters


def tokens(text: str) -> list[Token]:
    """The words of a text in order, without the joined ones (see ``joined_tokens``)."""
    folded, origin = fold(text, latin=True)
    return [_token(folded, origin, m.start(), m.end()) for m in _TOKEN.finditer(folded)]


def joined_tokens(text: str) -> list[Token]:
    """Words whose letters are held apart by spaces or signs, put together."""
    folded, origin = fold(text, latin=True)
    spans = [(m.start(), m.end()) for m in _TOKEN.finditer(folded)]
    found = []
    for run in _runs(spans, folded, _WORD_JOINERS, letters=False):
        found.append(_joined(folded, origin, run))
    for run in _runs(spans, folded, _LETTER_GAPS, letters=True):
        if len(run) >= 3:
            found.append(_joined(folded, origin, run))
    return found


def _runs(
    spans: list[tuple[int, int]], folded: str, gap: re.Pattern[str], *, letters: bool
) -> list[list[tuple[int, int]]]:
    runs: list[list[tuple[int, int]]] = []
    for before, after in itertools.pairwise(spans):
        close = gap.fullmatch(folded[before[1] : after[0]]) is not None
        if letters and (before[1] - before[0] > 1 or after[1] - after[0] > 1):
            close = False
        if not close:
            continue
        if runs and runs[-1][-1] == before:
            runs[-1].append(after)
        else:
            runs.append([before, after])
    return runs


def _joined(folded: str, origin: list[int], run: list[tuple[int, int]]) -> Token:
    word = "".join(folded[start:end] for start, end in run)
    return Token(_readings(word), origin[run[0][0]], origin[run[-1][1] - 1] + 1)


def _token(folded: str, origin: list[int], start: int, end: int) -> Token:
    return Token(_readings(folded[start:end]), origin[start], origin[end - 1] + 1)


def _readings(word: str) -> frozenset[str]:
    found = {word}
    foreign = {c for c in word if c.isalpha() and not unicodedata.name(c, "").startswith("LATIN")}
    if foreign and len(foreign) < len(set(word)):
        # A word of mixed scripts hides a letter: it is read like a masked one.
        found.add("".join("*" if c in foreign else c for c in word))
    if any(character.isalpha() for character in word):
        found |= {word.translate(_LEET_I), word.translate(_LEET_L)}
    for reading in tuple(found):
        found.add(_STRETCHED.sub(r"\1", reading))
        found.add(_STRETCHED.sub(r"\1\1", reading))
    return frozenset(found)


def share_in_scripts(text: str, scripts: tuple[str, ...]) -> float:
    """Which part of a text's letters belongs to the scripts named (``LATIN``, ``HIRAGANA``...).

    Returns:
        0 to 1; 1 for a text without letters.
    """
    letters = [c for c in unicodedata.normalize("NFKC", text) if c.isalpha()]
    if not letters:
        return 1.0
    inside = sum(unicodedata.name(c, "").startswith(scripts) for c in letters)
    return inside / len(letters)
