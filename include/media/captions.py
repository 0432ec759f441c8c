"""WebVTT captions from a spoken line."""

from __future__ import annotations

import textwrap

LINE = 37
"""Characters per line, two lines a cue: what broadcasters' subtitle guidelines settle on."""


def webvtt(text: str, start: float, stop: float, *, locale: str = "en") -> str:
    """Captions of one spoken line.

    Time is shared out by the number of characters, which follows speech to within a few tenths
    of a second for a line of an ad.

    Args:
        text: what is said; empty gives a file without cues.
        start: when it begins, seconds.
        stop: when it ends, seconds.
        locale: BCP 47 tag, noted in the file; whatever it holds, it stays one line of the header.

    Returns:
        A WebVTT document (W3C WebVTT).
    """
    cues = textwrap.wrap(text, LINE * 2, break_on_hyphens=False)
    # An arrow or an empty line would end the header and begin a cue.
    parts = ["WEBVTT", f"Language: {_escape(' '.join(locale.split()))}", ""]
    total = sum(len(cue) for cue in cues) or 1
    at = start
    for cue in cues:
        until = at + (stop - start) * len(cue) / total
        lines = "\n".join(textwrap.wrap(_escape(cue), LINE, break_on_hyphens=False))
        parts += [f"{_clock(at)} --> {_clock(until)}", lines, ""]
        at = until
    return "\n".join(parts[:2]) + "\n\n" + "\n".join(parts[3:])


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float) -> str:
    millis = round(seconds * 1000)
    hours, rest = divmod(millis, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}.{rest % 1000:03}"
