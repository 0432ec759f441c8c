"""Where a recipient's voice lies on the template's time line."""

from __future__ import annotations

import json
from dataclasses import dataclass

from include.contracts.brief import VoiceSpec
from include.errors import BadInput
from include.stages.context import StageContext
from include.stages.timeline import template_fps
from models.speech.synthesis import Phoneme


@dataclass(frozen=True)
class VoicePlace:
    """When the voice sounds, in seconds of the template's time line."""

    start: float
    stop: float
    trimmed: bool

    @property
    def duration(self) -> float:
        """Seconds of the voice that are heard."""
        return self.stop - self.start


def place_voice(spec: VoiceSpec, voice_s: float, template_s: float, who: str) -> VoicePlace:
    """Put a voice of some length on a template of some length.

    Args:
        spec: the brief's ``voice``.
        voice_s: length of the voice, seconds.
        template_s: length of the template, seconds.
        who: the row, for the message.

    Raises:
        BadInput: ``voice.too_long``: it does not fit and the brief does not say ``trim``.
    """
    room = template_s - spec.at
    if voice_s <= room + 1e-3:
        return VoicePlace(spec.at, min(spec.at + voice_s, template_s), False)
    if spec.longer == "trim" and room > 0:
        return VoicePlace(spec.at, template_s, True)
    raise BadInput(
        f"{who}: the voice lasts {voice_s:.2f} s and begins at {spec.at:.2f} s, but the template "
        f"ends at {template_s:.2f} s; shorten the script, begin earlier (voice.at), or allow "
        "voice.longer: trim",
        code="voice.too_long",
    )


def voice_of(ctx: StageContext) -> VoicePlace | None:
    """The unit's voice on the time line; None when the template's own sound stays.

    Raises:
        BadInput: as ``place_voice``.
    """
    facts = ctx.facts("ingest_recipients/voice")
    if not facts["speaks"]:
        return None
    template_s = float(ctx.facts("ingest_template")["frames"] / template_fps(ctx))
    return place_voice(ctx.shard.brief.voice, facts["duration"], template_s, ctx.unit.id)


def phonemes_of(ctx: StageContext, place: VoicePlace) -> list[Phoneme]:
    """The voice's phonemes on the template's time line, those that are heard."""
    times = json.loads(ctx.fetch("ingest_recipients/voice", "phonemes").read_text())
    moved = [
        Phoneme(item["symbol"], item["start"] + place.start, item["end"] + place.start)
        for item in times
    ]
    return [phoneme for phoneme in moved if phoneme.start < place.stop]
