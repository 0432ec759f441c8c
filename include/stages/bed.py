"""The template's bed: music or room tone under every recipient's voice."""

from __future__ import annotations

from include.errors import BadInput
from include.media.audio import Audio, read_audio
from include.stages.context import StageContext


def read_bed(ctx: StageContext) -> Audio | None:
    """Decode the bed, once for all rows of the process; None where the brief names none.

    Raises:
        BadMedia: the file cannot be used; the message names it as the brief does.
        UnsafeMedia: it is hostile, disguised or out of bounds.
    """
    if "bed" not in ctx.shard.template.sources:
        return None

    def read() -> Audio:
        path = ctx.source("bed", of_template=True)
        try:
            return read_audio(path)
        except BadInput as error:
            name = ctx.shard.template.sources["bed"].origin
            message = error.message.replace(str(path), name)
            raise type(error)(f"template.bed: {message}", code=error.code) from error

    return read() if ctx.common is None else ctx.common.once("bed", read)
