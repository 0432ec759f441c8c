"""Speech as arrays: synthesis with phoneme times, forced alignment, recognition, loudness."""

from __future__ import annotations

from models.registry import Backend

BACKENDS: dict[str, Backend] = {
    "espeak-ng": Backend(
        stage="speech",
        name="espeak-ng",
        version="1",
        weights_sha256=None,
        licence="GPL-3.0-or-later",
        origin="espeak-ng 1.52 by way of espeakng-loader, run as a process of its own",
        limits={
            "naturalness": "formant synthesis: clear, but audibly a machine",
            "japanese": "reads kana, not kanji",
            "length": "10000 characters a script",
        },
    ),
    "pocketsphinx": Backend(
        stage="speech",
        name="pocketsphinx",
        version="1",
        weights_sha256=None,
        licence="BSD-2-Clause",
        origin="PocketSphinx 5 with its US English acoustic model: alignment and recognition",
        limits={"language": "US English; other languages are recognised with English phonemes"},
    ),
}
