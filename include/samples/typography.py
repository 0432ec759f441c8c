"""Typography for cards: text set in the fonts that Matplotlib ships, anti-aliased and tracked."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from include.samples.warp import Image

Mask = npt.NDArray[np.float32]
SANS, BOLD, SERIF = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "STIXGeneral.ttf"


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.__file__).parent / "mpl-data/fonts/ttf" / name, size)


@cache
def text(content: str, font: str, size: float, tracking: float = 0.0) -> Mask:
    """Set one line.

    Args:
        content: what it says.
        font: a file name of Matplotlib's fonts.
        size: of the type, in pixels.
        tracking: added between letters, in parts of the size.

    Returns:
        Coverage, float32 [h, w], cropped to the line's advance and height.
    """
    k = 3
    face = _font(font, round(size * k))
    step = tracking * size * k
    width = sum(face.getlength(c) + step for c in content) - step
    canvas = Pil.new("L", (round(width) + 8 * k, round(size * 1.5) * k), 0)
    pen, x = ImageDraw.Draw(canvas), 4.0 * k
    for c in content:
        pen.text((x, 0.1 * size * k), c, font=face, fill=255)
        x += face.getlength(c) + step
    small = canvas.resize((canvas.width // k, canvas.height // k), Pil.Resampling.LANCZOS)
    return np.asarray(small, np.float32) / 255


def place(
    picture: Image,
    mask: Mask,
    centre: tuple[float, float],
    colour: tuple[float, float, float],
    opacity: float,
) -> None:
    """Print a line onto a picture, in place; ``centre`` may lie between pixels."""
    import cv2

    h, w = mask.shape
    x, y = centre[0] - w / 2, centre[1] - h / 2
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    shift = np.array([[1, 0, x - x0], [0, 1, y - y0]])
    moved = cv2.warpAffine(mask, shift, (w + 1, h + 1), flags=cv2.INTER_LINEAR)
    area = picture[max(y0, 0) : y0 + h + 1, max(x0, 0) : x0 + w + 1]
    cut = moved[max(-y0, 0) :, max(-x0, 0) :][: area.shape[0], : area.shape[1], None] * opacity
    area += (np.array(colour, np.float32) - area) * cut
