"""Phoneme classes: one small alphabet for every language and every source of times.

The classes are ARPAbet's (as in the CMU Pronouncing Dictionary) plus ``SIL``. They name what the
mouth does, so other languages map to the class with the nearest lip shape: German /y:/ is rounded
and close like ``UW``, a Spanish tap moves the lips no more than ``D``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

VOWELS = frozenset(
    ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
)
LABIAL_STOPS = frozenset(("P", "B", "M"))
STOPS = frozenset(("P", "B", "T", "D", "K", "G"))
CONSONANTS = (
    STOPS
    | frozenset(
        ("M", "F", "V", "W", "TH", "DH", "S", "Z", "SH", "ZH", "CH", "JH", "N", "L", "R", "NG", "Y")
    )
    | {"HH"}
)
SILENCE = "SIL"
CLASSES = VOWELS | CONSONANTS | {SILENCE}


@dataclass(frozen=True, slots=True)
class Phoneme:
    """One spoken sound.

    Attributes:
        symbol: a member of :data:`CLASSES`.
        start: seconds from the first sample.
        end: seconds from the first sample, greater than ``start``.
    """

    symbol: str
    start: float
    end: float


# espeak-ng's mnemonics are its dialect of Kirshenbaum's ASCII IPA: exact names first, then the
# first letter decides, because what follows are length, quality and articulation marks.
_EXACT = {
    "tS": "CH", "dZ": "JH", "ts": "S", "dz": "Z", "n^": "N", "l^": "L", "N^": "NG",
    "aU": "AW", "aI": "AY", "eI": "EY", "oU": "OW", "OI": "OY", "ai": "AY", "au": "AW", "ei": "EY",
    "ou": "OW", "OY": "OY", "oi": "OY", "EU": "AW", "e@": "EH", "i@": "IY", "o@": "AO", "U@": "UH",
    "A@": "AA", "O@": "AO", "W~": "AO", "E~": "AE", "A~": "AA", "O~": "AO", "o~": "OW",
    "Y:": "UW", "y:": "UW", "i:": "IY", "u:": "UW", "e:": "EY", "o:": "OW", "3:": "ER",
}  # fmt: skip
_CONSONANT = {
    "p": "P", "b": "B", "m": "M", "f": "F", "v": "V", "w": "W", "T": "TH", "D": "DH", "s": "S",
    "z": "Z", "S": "SH", "Z": "ZH", "t": "T", "d": "D", "n": "N", "l": "L", "k": "K", "g": "G",
    "N": "NG", "j": "Y", "h": "HH", "x": "HH", "X": "HH", "C": "SH", "?": "HH", "H": "W", "B": "V",
    "P": "F", "c": "CH", "J": "JH", "q": "K", "G": "G", "L": "L", "*": "D",
}  # fmt: skip
_VOWEL = {
    "a": "AA", "A": "AA", "@": "AH", "V": "AH", "3": "ER", "e": "EH", "E": "EH", "i": "IY",
    "I": "IH", "o": "OW", "O": "AO", "0": "AA", "u": "UW", "U": "UH", "y": "UW", "Y": "UH",
    "W": "UH", "&": "AE", "M": "UH", "8": "AH",
}  # fmt: skip
_IGNORED = frozenset(("", ";", "_|", "|", "||"))


def from_espeak(mnemonic: str, *, english: bool = True) -> str | None:
    """Return the class of an espeak-ng phoneme mnemonic.

    Args:
        mnemonic: as in the ``espeakEVENT_PHONEME`` event, such as ``'oU`` or ``tS;h``.
        english: whether ``r`` is the English approximant, which rounds the lips; in other
            languages it is a tap, a trill or uvular, which do not.

    Returns:
        A member of :data:`CLASSES`, or None for what is not a sound (a word boundary, a change of
        language): the sound before it simply goes on.
    """
    bare = mnemonic.strip("'%,=")
    if bare in _IGNORED or bare.startswith("("):
        return None
    if bare.startswith("_"):
        return SILENCE
    if bare[0] in "rR":
        return "R" if english else "D"
    if english and bare in ("a", "a#"):  # as in "trap", and its weak form
        return "AE" if bare == "a" else "AH"
    if bare[0] == "Q":
        return "G" if not english else "AO"
    bare = re.sub(r"^(t|d)_?(s|z)\\?;?", r"\1\2", bare)
    for name in (bare[:2], re.sub(r"[0-9#]", "", bare)[:2]):
        if name in _EXACT:
            return _EXACT[name]
    return _CONSONANT.get(bare[0]) or _VOWEL.get(bare[0])
