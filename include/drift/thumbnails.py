"""What a stage made, small enough for a report: pictures as they are, sounds as their waveform."""

from __future__ import annotations

import io
import wave
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 240
"""Longest side."""
WAVE_PX = (240, 180)
"""Width and height of a waveform."""
_PAPER, _INK = (246, 248, 250), (47, 129, 196)


def thumbnail(data: bytes) -> bytes:
    """A small JPEG of what a stage of ours made.

    Args:
        data: a PNG, a JPEG, or a WAV with 16 bits a sample.

    Raises:
        OSError, ValueError, SyntaxError, EOFError, wave.Error: it is damaged.
    """
    from PIL import Image

    if data[:4] == b"RIFF":
        small = Image.fromarray(waveform(data))
    else:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
            small = picture.convert("RGB")
        small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def waveform(data: bytes) -> NDArray[np.uint8]:
    """Draw a sound: for each column the lowest to the highest sample, full scale is the height.

    Args:
        data: a WAV with 16 bits a sample.

    Returns:
        uint8 [h, w, 3] RGB of ``WAVE_PX``.

    Raises:
        ValueError: it has other samples, or none.
        EOFError, wave.Error: it is damaged.
    """
    with wave.open(io.BytesIO(data)) as sound:
        if sound.getsampwidth() != 2:
            raise ValueError(f"samples of {8 * sound.getsampwidth()} bits are not drawn")
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
        samples = samples.reshape(-1, sound.getnchannels())[:, 0]
    if not len(samples):
        raise ValueError("there is no sound in it")
    width, height = WAVE_PX
    picture = np.full((height, width, 3), _PAPER, np.uint8)
    edges = np.linspace(0, len(samples), width + 1).astype(int)
    for column, (start, stop) in enumerate(pairwise(edges)):
        part = samples[start : max(stop, start + 1)]
        top, bottom = ((1 - int(value) / 32768) / 2 for value in (part.max(), part.min()))
        first = min(int(top * height), height - 1)
        picture[first : max(int(bottom * height), first + 1), column] = _INK
    return picture
