"""``measure_inputs``: a recipient's photo and voice in figures; refused where they break a rule."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from include.features.assets import Values, audio_features, photo_features
from include.media.audio import read_own_wav, read_recording
from include.media.pixels import U8
from include.stages.context import Output, StageContext
from include.stages.measure_common import feature_output


def run(ctx: StageContext, artifact: str) -> Output:
    """Measure the photo (``.../photo``) or the voice (``.../audio``).

    A recording is measured as it came, before its loudness was set; synthetic speech as delivered.

    Outputs and facts: see ``feature_output``.

    Raises:
        BadInput: ``rule.<name>``: a hard rule for photos or sounds is broken.
    """
    if artifact.endswith("/photo"):
        values = photo_features(ctx.source("face"), *recipient_photo(ctx))
        who = f"photo {ctx.origin('face')}"
        return feature_output(ctx, artifact, "ingest_recipients/face", values, who)
    named = "audio" in ctx.unit.sources
    who = f"audio {ctx.origin('audio')}" if named else f"the voice of {ctx.unit.id}"
    return feature_output(ctx, artifact, "ingest_recipients/voice", _audio(ctx), who)


def recipient_photo(ctx: StageContext) -> tuple[U8, NDArray[np.float32]]:
    """What ``ingest_recipients`` stored: the photo, RGB uint8 [h, w, 3], and its landmarks."""
    photo = _read_png(ctx.fetch("ingest_recipients/face", "photo"))
    with np.load(ctx.fetch("ingest_recipients/face", "points"), allow_pickle=False) as stored:
        points: NDArray[np.float32] = stored["points"]
    return photo, points


def _read_png(path: Path) -> U8:
    bgr = np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _audio(ctx: StageContext) -> Values:
    if "audio" in ctx.unit.sources:
        return audio_features(*read_recording(ctx.source("audio")))
    if not ctx.facts("ingest_recipients/voice")["speaks"]:
        return audio_features(None, None)
    return audio_features(read_own_wav(ctx.fetch("ingest_recipients/voice", "voice")), None)
