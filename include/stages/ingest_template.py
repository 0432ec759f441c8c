"""``ingest_template``: a stranger's video becomes our mezzanine, or is refused with a reason."""

from __future__ import annotations

from pathlib import Path

from include.errors import BadInput
from include.media.normalise import normalise_template
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
    try:
        made = normalise_template(source, ctx.scratch / "out")
    except BadInput as error:
        message = error.message.replace(str(source), name)
        raise type(error)(f"template {name}: {message}", code=error.code) from error
    files: dict[str, tuple[Path, str]] = {
        "video": (made.video, "video/x-matroska"),
        "thumbnail": (made.thumbnail, "image/jpeg"),
    }
    if made.audio is not None:
        files["audio"] = (made.audio, "audio/wav")
    ctx.progress(made.frames, made.frames)
    return Output(files, made.as_facts())
