"""``ingest_template``: a stranger's video becomes our mezzanine, or is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.errors import BadInput
from include.media.normalise import NormalisedTemplate, normalise_template
from include.stages.context import Output, StageContext


def run(ctx: StageContext, artifact: str) -> Output:
    """Probe, normalise and describe the template.

    Outputs: ``video`` (lossless yuv420p, BT.709 limited, constant frame rate, square pixels,
    even size), ``audio`` (48 kHz 16-bit WAV, only when there is sound), ``thumbnail`` (JPEG).
    Facts: size, fps as ``[numerator, denominator]``, frames, shots (first frame of each),
    what the source was.

    Raises:
        BadMedia: the file cannot be used; the message names it as the brief does.
    """
    source = ctx.source("video", of_template=True)
    name = ctx.shard.template.sources["video"].origin
    folder = ctx.scratch / "out"
    folder.mkdir()
    try:
        made = normalise_template(source, folder)
    except BadInput as error:
        message = error.message.replace(str(source), name)
        raise type(error)(f"template {name}: {message}", code=error.code) from error
    files: dict[str, tuple[Path, str]] = {
        "video": (made.video, "video/x-matroska"),
        "thumbnail": (made.thumbnail, "image/jpeg"),
    }
    if made.audio is not None:
        files["audio"] = (made.audio, "audio/wav")
    ctx.progress(made.clip.frames, made.clip.frames)
    return Output(files, _facts(made))


def _facts(made: NormalisedTemplate) -> dict[str, Any]:
    source, clip = made.facts, made.clip
    return {
        "width": clip.width,
        "height": clip.height,
        "fps": [clip.fps.numerator, clip.fps.denominator],
        "frames": clip.frames,
        "shots": list(made.shots),
        "has_audio": made.audio is not None,
        "changes": list(made.changes),
        "source": {
            "container": source.container,
            "codec": source.codec,
            "size": [source.width, source.height],
            "rotation": source.rotation,
            "fps": round(float(source.fps), 3),
            "vfr": source.vfr,
            "pix_fmt": source.pix_fmt,
            "duration": round(source.duration_s, 3),
        },
    }
