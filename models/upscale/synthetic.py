"""Drawn training pictures: what a dozen photographs cannot teach.

The main kind is the dead-leaves model (Matheron 1968; for training restoration networks see
Achddou, Gousseau and Ladjal, "Fully synthetic training for image restoration tasks", 2023): shapes
of power-law sizes that occlude each other reproduce the edge statistics of photographs. Lettering,
thin lines and gradients are added because ads are full of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Grey = npt.NDArray[np.float32]

_OVERSAMPLE = 3
_GLYPHS = "ABCDEFGHKMNPQRSTUVWXYZabcdefghkmnopqrstuvwxyz0123456789&%@#?!"


def dead_leaves(rng: np.random.Generator, size: int) -> Grey:
    """Draw occluding discs, polygons and bars of power-law sizes.

    Args:
        rng: source of all randomness.
        size: side in pixels.

    Returns:
        Grey float32 [size, size] in 0..1, antialiased.
    """
    big = size * _OVERSAMPLE
    canvas = np.full((big, big), rng.random(), np.float32)
    least, most = rng.uniform(2.0, 7.0) * _OVERSAMPLE, 0.25 * big
    mean_area = 2 * np.pi * least**2 * np.log(most / least)
    for _ in range(int(2.5 * big**2 / mean_area)):
        # Radius density ~ r^-3 between the bounds: the scale invariance of natural scenes.
        radius = 1.0 / np.sqrt(rng.uniform(1.0 / most**2, 1.0 / least**2))
        _leaf(canvas, rng, float(radius))
    return _shrink(canvas, size)


def _leaf(canvas: Grey, rng: np.random.Generator, radius: float) -> None:
    big = canvas.shape[0]
    centre = rng.integers(0, big, 2)
    low, high = np.maximum(centre - int(radius) - 1, 0), np.minimum(centre + int(radius) + 2, big)
    window = canvas[low[1] : high[1], low[0] : high[0]]
    mask = np.zeros(window.shape, np.uint8)
    middle = centre - low
    if rng.random() < 0.35:
        cv2.circle(mask, [int(v) for v in middle], int(radius), (255,), -1)
    else:
        angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
        stretch = np.array([1.0, rng.uniform(0.08, 1.0)])
        turn = rng.uniform(0, np.pi)
        turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * radius * stretch @ turned + middle
        cv2.fillPoly(mask, [points.astype(np.int32)], (255,))
    inside = mask > 0
    patterned = radius > 4 * _OVERSAMPLE and rng.random() < 0.5
    window[inside] = _fill(rng, window.shape)[inside] if patterned else np.float32(rng.random())


def _fill(rng: np.random.Generator, shape: tuple[int, ...]) -> Grey:
    """Draw a gradient, stripes or grain to fill one leaf with."""
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    along = np.float32(np.cos(angle)) * columns + np.float32(np.sin(angle)) * rows
    base, swing = rng.random(), rng.uniform(0.05, 0.5)
    kind = rng.random()
    if kind < 0.4:
        out = base + swing * (along / shape[0] - 0.5)
    elif kind < 0.75:
        period = rng.uniform(2.2, 14.0) * _OVERSAMPLE
        wave = np.sin(along * (2 * np.pi / period))
        out = base + swing * (np.sign(wave) if rng.random() < 0.5 else wave)
    else:
        grain = rng.standard_normal(shape).astype(np.float32)
        out = base + swing * cv2.GaussianBlur(grain, (0, 0), rng.uniform(1.0, 2.0) * _OVERSAMPLE)
    return np.asarray(np.clip(out, 0, 1), np.float32)


def _shrink(canvas: Grey, size: int) -> Grey:
    small = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)


def lettering(rng: np.random.Generator, size: int) -> Grey:
    """Set rows of letters in matplotlib's DejaVu fonts over a plain or graded ground.

    Args:
        rng: source of all randomness.
        size: side in pixels.

    Returns:
        Grey float32 [size, size] in 0..1, antialiased.
    """
    from matplotlib import ft2font, get_data_path

    big = size * _OVERSAMPLE
    folder = Path(get_data_path()) / "fonts" / "ttf"
    # The "Display" cuts hold mathematical symbols only.
    fonts = [f for f in sorted(folder.glob("DejaVu*.ttf")) if "Display" not in f.name]
    ground = _fill(rng, (big, big)) if rng.random() < 0.4 else None
    canvas = np.full((big, big), rng.random(), np.float32) if ground is None else ground
    y = 0
    while y < big - 8:
        font = ft2font.FT2Font(str(fonts[int(rng.integers(len(fonts)))]))
        points = float(rng.uniform(7, 44)) * _OVERSAMPLE
        font.set_size(points, 72.0)
        count = int(big / (0.5 * points)) + 1
        font.set_text("".join(rng.choice(list(_GLYPHS + "     "), count)), 0.0)
        font.draw_glyphs_to_bitmap(antialiased=True)
        glyphs = np.asarray(font.get_image(), np.float32) / 255
        height, width = min(glyphs.shape[0], big - y), min(glyphs.shape[1], big)
        alpha, ink = glyphs[:height, :width], np.float32(rng.random())
        patch = canvas[y : y + height, :width]
        patch += alpha * (ink - patch)
        y += glyphs.shape[0] + int(rng.integers(2, 8)) * _OVERSAMPLE
    turn = cv2.getRotationMatrix2D((big / 2, big / 2), float(rng.normal(0, 4)), 1.0)
    turned = cv2.warpAffine(canvas, turn, (big, big), borderMode=cv2.BORDER_REFLECT)
    return _shrink(np.asarray(turned, np.float32), size)


def strokes(rng: np.random.Generator, size: int) -> Grey:
    """Draw thin straight and curved lines at all angles over a graded ground.

    Args:
        rng: source of all randomness.
        size: side in pixels.

    Returns:
        Grey float32 [size, size] in 0..1, antialiased.
    """
    big = size * _OVERSAMPLE
    canvas = _fill(rng, (big, big))
    for _ in range(int(rng.integers(20, 80))):
        ink, width = (float(rng.random()),), int(rng.integers(1, 5 * _OVERSAMPLE))
        start = [int(v) for v in rng.integers(0, big, 2)]
        if rng.random() < 0.5:
            end = [int(v) for v in rng.integers(0, big, 2)]
            cv2.line(canvas, start, end, ink, width)
        else:
            axes = [int(v) for v in rng.integers(4, big // 2, 2)]
            turn, arc = float(rng.uniform(0, 180)), float(rng.uniform(60, 360))
            cv2.ellipse(canvas, start, axes, turn, 0, arc, ink, width)
    return _shrink(canvas, size)


def fibres(rng: np.random.Generator, size: int) -> Grey:
    """Draw fibres in one direction, as of wood, hair, cloth or brushed metal.

    Halved, the finest of them look as if they ran another way: a network that has not seen many
    draws lines across them.

    Args:
        rng: source of all randomness.
        size: side in pixels.

    Returns:
        Grey float32 [size, size] in 0..1: noise, filtered to be long along one direction and of a
        chosen width across it.
    """
    turn, length = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(6), np.log(60)))
    width, octaves = np.exp(rng.uniform(np.log(2.2), np.log(12))), rng.uniform(0.3, 0.9)
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    along = columns * np.cos(turn) + rows * np.sin(turn)
    across = np.abs(rows * np.cos(turn) - columns * np.sin(turn)) + 1e-6
    band = np.exp(-0.5 * (np.log2(across * width) / octaves) ** 2)
    broad = rng.uniform(0, 0.6) / (1 + across * 60)
    kept = (band + broad) * np.exp(-0.5 * (2 * np.pi * along * length / 3) ** 2)
    noise = np.fft.rfft2(rng.standard_normal((size, size)))
    drawn = np.fft.irfft2(noise * kept, s=(size, size))
    drawn = np.tanh(drawn / drawn.std() * rng.uniform(0.5, 1.5))
    ground = _fill(rng, (size, size)) if rng.random() < 0.3 else np.float32(rng.uniform(0.1, 0.9))
    return np.asarray(np.clip(ground + rng.uniform(0.03, 0.25) * drawn, 0, 1), np.float32)
