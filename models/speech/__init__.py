"""Speech: synthesis with phoneme times, alignment and recognition."""

from models.registry import Backend

BACKENDS: dict[str, Backend] = {
    "espeak-ng": Backend(
        stage="speech",
        name="espeak-ng",
        version="1.52",
        weights_sha256=None,
        licence="GPL-3.0-or-later",
        origin="espeak-ng through the espeakng-loader wheel, in a process of its own",
        limits={"quality": "formant synthesis: understandable, audibly synthetic"},
    ),
}
