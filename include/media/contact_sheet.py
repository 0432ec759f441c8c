"""Many small pictures on one, to be looked at by a person."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from include.errors import Bug
from include.media.pixels import U8, as_u8

_GAP = 6
_BACKGROUND = 245
_INK = (30, 30, 30)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def contact_sheet(
    frames: Sequence[U8],
    columns: int,
    cell_width: int,
    labels: Sequence[str] | None = None,
) -> U8:
    """Lay out frames row by row, each scaled to a cell's width, with a label under it.

    Args:
        frames: RGB uint8 [h, w, 3]; sizes may differ.
        columns: cells in a row.
        cell_width: pixels.
        labels: one for each frame; None for no labels. Characters outside ASCII are shown as ``?``.

    Returns:
        RGB uint8 [h, w, 3].

    Raises:
        Bug: no frames, or as many labels as frames are not given.
    """
    if not frames or columns < 1 or cell_width < 8:
        raise Bug("a contact sheet needs frames, a column and cells of at least 8 pixels")
    if labels is not None and len(labels) != len(frames):
        raise Bug(f"{len(labels)} labels for {len(frames)} frames")
    columns = min(columns, len(frames))
    cells = [_scaled(frame, cell_width) for frame in frames]
    strip = 0 if labels is None else max(14, cell_width // 11)
    rows = [cells[at : at + columns] for at in range(0, len(cells), columns)]
    heights = [max(cell.shape[0] for cell in row) + strip for row in rows]
    width = columns * cell_width + (columns + 1) * _GAP
    sheet = np.full((sum(heights) + (len(rows) + 1) * _GAP, width, 3), _BACKGROUND, np.uint8)
    top = _GAP
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for column, cell in enumerate(row):
            left = _GAP + column * (cell_width + _GAP)
            sheet[top : top + cell.shape[0], left : left + cell_width] = cell
            if labels is not None:
                label = labels[number * columns + column]
                area = sheet[top + cell.shape[0] : top + cell.shape[0] + strip]
                _write(area[:, left : left + cell_width], label)
        top += height + _GAP
    return sheet


def _scaled(frame: U8, width: int) -> U8:
    height = max(1, round(frame.shape[0] * width / frame.shape[1]))
    shrinking = frame.shape[1] >= width
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return as_u8(cv2.resize(frame, (width, height), interpolation=method))


def _write(area: U8, label: str) -> None:
    """Write a label into its strip, as large as fits."""
    text = label.encode("ascii", "replace").decode()
    height, width = area.shape[:2]
    scale = height / 30
    (length, _), _ = cv2.getTextSize(text, _FONT, scale, 1)
    if length > width - 4:
        scale *= (width - 4) / length
    patch = np.ascontiguousarray(area)
    cv2.putText(patch, text, (2, round(height * 0.72)), _FONT, scale, _INK, 1, cv2.LINE_AA)
    area[...] = patch
