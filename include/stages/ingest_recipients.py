"""``ingest_recipients``: a recipient's photo and voice, checked and brought into one form."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from include.errors import BadInput
from include.media.audio import Audio, normalise_loudness, read_audio, resample, write_wav
from include.media.images import load_photo, save_png
from include.stages.context import Output, StageContext
from models.face.quality import assess_photo
from models.speech.phonemes import Source, align, recognise
from models.speech.synthesis import Phoneme, synthesise

RATE = 48_000
"""Sample rate of voices, Hz: what the delivery carries."""
VOICE_LUFS = -18.0
PEAK_DBTP = -1.5
LONGEST_VOICE = 120.0
"""Seconds; a longer recording is a mistake in the table, not an ad."""


def run(ctx: StageContext, artifact: str) -> Output:
    """Take in the photo (``.../face``) or the voice (``.../voice``).

    Face outputs: ``photo`` (PNG, RGB), ``points`` (npz: float32 [478, 3] pixels).
    Voice outputs: ``voice`` (48 kHz mono WAV at -18 LUFS), ``phonemes`` (JSON list of
    ``{symbol, start, end}``, seconds); none when the row has neither audio nor script.

    Raises:
        BadMedia, BadFace, BadInput: with the row's own file name in the message.
    """
    return _face(ctx) if artifact.endswith("/face") else _voice(ctx)


def _face(ctx: StageContext) -> Output:
    path, name = ctx.source("face"), ctx.origin("face")
    try:
        photo = load_photo(path)
        face = assess_photo(photo)
    except BadInput as error:
        raise _named(error, "photo", name, path) from error
    save_png(photo, ctx.scratch / "photo.png")
    points = ctx.scratch / "points.npz"
    np.savez_compressed(points, points=face.points)
    return Output(
        {
            "photo": (ctx.scratch / "photo.png", "image/png"),
            "points": (points, "application/x-npz"),
        },
        {
            "size": [photo.shape[1], photo.shape[0]],
            "interocular": round(float(face.interocular), 1),
            "sharpness": round(float(face.sharpness), 2),
            "pose": [round(float(angle), 1) for angle in (face.yaw, face.pitch, face.roll)],
        },
    )


def _voice(ctx: StageContext) -> Output:
    unit = ctx.unit
    if "audio" in unit.sources:
        audio, phonemes, source = _recorded(ctx)
    elif unit.script:
        speech = synthesise(unit.script, locale=unit.locale, voice=unit.voice)
        samples = speech.samples.astype(np.float32)[:, None] / 32768.0
        audio = Audio(samples, speech.sample_rate)
        phonemes, source = list(speech.phonemes), Source.SYNTHESIS
    else:
        return Output({}, {"speaks": False})
    audio = _delivered(audio)
    wav, times = ctx.scratch / "voice.wav", ctx.scratch / "phonemes.json"
    write_wav(wav, audio)
    times.write_text(json.dumps([asdict(phoneme) for phoneme in phonemes]))
    duration = len(audio.samples) / audio.rate
    return Output(
        {"voice": (wav, "audio/wav"), "phonemes": (times, "application/json")},
        {"speaks": True, "duration": round(duration, 4), "phonemes_by": source.value},
    )


def _recorded(ctx: StageContext) -> tuple[Audio, list[Phoneme], Source]:
    path, name = ctx.source("audio"), ctx.origin("audio")
    try:
        audio = read_audio(path)
    except BadInput as error:
        raise _named(error, "audio", name, path) from error
    duration = len(audio.samples) / audio.rate
    if duration > LONGEST_VOICE:
        raise BadInput(
            f"audio {name}: it lasts {duration:.0f} s, more than {LONGEST_VOICE:.0f} s",
            code="audio.too_long",
        )
    mono = audio.samples.mean(axis=1)
    if not np.abs(mono).max() > 1e-3:
        raise BadInput(f"audio {name}: it is silent; record it again", code="audio.silent")
    if ctx.unit.script and ctx.unit.locale.split("-")[0].lower() == "en":
        timing = align(mono, audio.rate, ctx.unit.script)
        if timing.reason:
            ctx.warn(f"{name} was not aligned with its script: {timing.reason}")
        return audio, list(timing.phonemes), timing.source
    return audio, recognise(mono, audio.rate), Source.RECOGNITION


def _delivered(audio: Audio) -> Audio:
    """Mono, 48 kHz, at one loudness, so that every recipient sounds alike."""
    mono = Audio(audio.samples.mean(axis=1, keepdims=True), audio.rate)
    even = resample(mono, RATE)
    samples = normalise_loudness(even.samples, even.rate, VOICE_LUFS, PEAK_DBTP)
    return Audio(samples, even.rate)


def _named(error: BadInput, what: str, name: str, path: Path) -> BadInput:
    """The same error, speaking of the user's file instead of our copy."""
    message = error.message.replace(str(path), name)
    if name not in message:
        message = f"{what} {name}: {message}"
    return type(error)(message, code=error.code)
