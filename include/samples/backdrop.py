"""Rooms behind people: drawn in linear light, then thrown out of focus as a lens would."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from include.samples import warp
from include.samples.warp import Image

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Room:
    """What stands behind somebody; colours are linear light, 1 is white paper.

    Attributes:
        wall: the wall where it is lit.
        window: colour of daylight in the window, or None for a room without one.
        lamp: colour of small lamps and their glow.
        wood: shelves.
        accent: books, vases.
        plant: leaves, or None.
        seed: arrangement.
    """

    wall: Colour = (0.17, 0.23, 0.235)
    window: Colour | None = (1.7, 1.85, 2.0)
    lamp: Colour = (3.2, 1.9, 0.8)
    wood: Colour = (0.16, 0.09, 0.05)
    accent: Colour = (0.10, 0.22, 0.26)
    plant: Colour | None = (0.05, 0.13, 0.05)
    seed: int = 1


ROOMS = {
    "loft": Room(),
    "office": Room(
        wall=(0.30, 0.34, 0.38), accent=(0.10, 0.18, 0.34), wood=(0.22, 0.16, 0.11), seed=4
    ),
    "cafe": Room(wall=(0.20, 0.13, 0.09), window=None, accent=(0.30, 0.10, 0.06), seed=9),
    "garden": Room(
        wall=(0.19, 0.24, 0.17),
        window=(1.35, 1.5, 1.2),
        wood=(0.10, 0.12, 0.06),
        accent=(0.30, 0.34, 0.12),
        plant=(0.06, 0.20, 0.05),
        seed=12,
    ),
    "studio": Room(
        wall=(0.30, 0.36, 0.40), window=None, plant=None, accent=(0.25, 0.30, 0.33), seed=15
    ),
}


def _rect(img: Image, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
    h, w = img.shape[:2]
    p = [(round(x0 * w), round(y0 * h)), (round(x1 * w), round(y1 * h))]
    cv2.rectangle(img, p[0], p[1], tuple(float(c) for c in colour), -1)


def _scaled(colour: Colour, k: float) -> Colour:
    return (colour[0] * k, colour[1] * k, colour[2] * k)


def _shelf(img: Image, room: Room, rng: np.random.Generator) -> None:
    for y in (0.20, 0.44, 0.68):
        _rect(img, 0.62, y, 1.0, y + 0.022, room.wood)
        _rect(img, 0.62, y + 0.022, 1.0, y + 0.045, _scaled(room.wall, 0.45))
        x = 0.64
        while x < 0.98:
            wide = float(rng.uniform(0.010, 0.028))
            tall = float(rng.uniform(0.07, 0.15))
            if rng.random() < 0.68:
                mix = float(rng.uniform(0.3, 1.6))
                base = room.accent if rng.random() < 0.5 else room.wood
                tint = (base[0] * mix + 0.02, base[1] * mix + 0.02, base[2] * mix + 0.02)
                _rect(img, x, y - tall, x + wide, y, tint)
            x += wide + float(rng.uniform(0.0, 0.012))


def _window(img: Image, room: Room) -> None:
    if room.window is None:
        return
    _rect(img, 0.02, 0.03, 0.36, 0.74, _scaled(room.wall, 0.8))
    for x in (0.04, 0.205):
        for y in (0.06, 0.40):
            _rect(img, x, y, x + 0.145, y + 0.31, room.window)
    h, w = img.shape[:2]
    sky = np.linspace(1.15, 0.75, h, dtype=np.float32)[:, None, None]
    img[:, : int(0.36 * w)] *= sky


def _plant(img: Image, room: Room, rng: np.random.Generator) -> None:
    if room.plant is None:
        return
    h, w = img.shape[:2]
    for _ in range(80):
        ang = float(rng.uniform(-2.7, -0.4))
        r = float(rng.uniform(0.05, 0.26))
        x, y = 0.07 + r * np.cos(ang) * 0.55, 0.86 + r * np.sin(ang) * 1.7
        tint = _scaled(room.plant, float(rng.uniform(0.5, 2.2)))
        axes = (round(0.036 * w), round(0.010 * w))
        turn = float(np.degrees(ang)) + float(rng.uniform(-30, 30))
        at = (round(x * w), round(y * h))
        cv2.ellipse(img, at, axes, turn, 0, 360, tint, -1, cv2.LINE_AA)


def _lens(img: Image, radius: float) -> Image:
    """Blur by a disc, as an open aperture does: lamps become soft discs, not smears."""
    r = max(round(radius), 1)
    yy, xx = np.mgrid[-r : r + 1, -r : r + 1]
    disc = np.clip(r + 0.5 - np.sqrt(xx**2 + yy**2), 0, 1).astype(np.float32)
    return np.asarray(
        cv2.filter2D(img, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT), np.float32
    )


def draw(name: str, width: int, height: int, focus: float = 0.022) -> Image:
    """Paint a room out of focus.

    Args:
        name: one of `ROOMS`.
        width: pixels.
        height: pixels.
        focus: radius of the blur over the width.

    Returns:
        float32 [height, width, 3], RGB 0..255.
    """
    room = ROOMS[name]
    rng = np.random.default_rng(room.seed)
    # a portrait picture shows the middle of the same room
    full_w = max(width, round(height * 1.45))
    w, h = full_w // 2, height // 2
    yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
    fall = 1.25 - 0.75 * xx / w - 0.25 * yy / h
    img = np.asarray(np.array(room.wall, np.float32) * fall[..., None], np.float32)
    _window(img, room)
    _shelf(img, room, rng)
    _plant(img, room, rng)
    for _ in range(7):
        x, y = float(rng.uniform(0.40, 0.98)), float(rng.uniform(0.06, 0.40))
        cv2.circle(
            img,
            (round(x * w), round(y * h)),
            max(round(0.0045 * w), 1),
            _scaled(room.lamp, float(rng.uniform(1.2, 4))),
            -1,
        )
    glow = warp.blur(np.maximum(img - 0.9, 0), 0.07 * w)
    img = _lens(img, focus * w) + 0.5 * glow
    # filmic shoulder, then display gamma
    img = img * (1 + img / 9.0) / (0.75 + img)
    img = np.clip(img, 0, 1) ** (1 / 2.2) * 255
    grey = img.mean(-1, keepdims=True)
    img = np.clip(grey + (img - grey) * 1.25, 0, 255)
    big = cv2.resize(np.asarray(img, np.float32), (full_w, height), interpolation=cv2.INTER_CUBIC)
    x0 = (full_w - width) // 2
    return np.asarray(np.clip(big[:, x0 : x0 + width], 0, 255), np.float32)
