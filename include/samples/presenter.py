"""The presenter, brought to life: speaks, blinks, moves her head and breathes, in front of a room.

One still figure is animated by smooth displacement: mouth by `models.lip_sync`, lids by stretching
the lid's own skin over the eye, the head by turning a depth map, shoulders by breathing. Nothing
of the figure is cut, and the room behind is a layer of its own, so no frame shows a seam.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from include.samples import backdrop, face_blend, people, warp
from include.samples.warp import Image
from models.lip_sync import curves, viseme
from models.speech.synthesis import Speech

Mask = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

SCALE = 0.60
"""Output pixels per canvas pixel: a face about 190 pixels tall in a frame of 540."""
UPPER_LID = {"right": [33, 246, 161, 160, 159, 158, 157, 173, 133],
             "left": [362, 398, 384, 385, 386, 387, 388, 466, 263]}  # fmt: skip
LOWER_LID = {"right": [33, 7, 163, 144, 145, 153, 154, 155, 133],
             "left": [362, 382, 381, 380, 374, 373, 390, 249, 263]}  # fmt: skip
COARSE = 4
BLINK = (0.35, 0.85, 1.0, 0.92, 0.62, 0.30, 0.10)
"""How far the lid is down, frame by frame: faster down than up."""


@dataclass(frozen=True)
class Scene:
    """Where and how long a presenter is seen.

    Attributes:
        frames: number of frames.
        fps: frames a second.
        size: (width, height) of the picture.
        speech: what is said.
        speech_at: seconds into the scene at which the speech starts.
        room: one of `backdrop.ROOMS`.
    """

    frames: int
    fps: int
    size: tuple[int, int]
    speech: Speech
    speech_at: float
    room: str = "loft"


@dataclass(frozen=True)
class _Motion:
    """One value per frame; angles in radians, shifts in pixels of the still."""

    yaw: Mask
    pitch: Mask
    roll: Mask
    shift: Mask
    breath: Mask
    brow: Mask
    lids: Mask


def _drift(n: int, fps: int, seed: int, slowest: float = 4.2) -> Mask:
    """A smooth wander of unit size without a visible period."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / fps
    out = np.zeros(n)
    for k, period in enumerate((slowest, slowest / 1.73, slowest / 2.9)):
        out += np.sin(2 * np.pi * t / period + rng.uniform(0, 6.28)) / (1 + 0.9 * k)
    return np.asarray(out / np.abs(out).max(), np.float32)


def _emphasis(scene: Scene) -> Mask:
    """The voice's slow level per frame, 0..1: what heads and brows follow."""
    s = scene.speech.samples.astype(np.float32) / 32768
    step = scene.speech.sample_rate / scene.fps
    n = int(len(s) / step)
    level = np.array(
        [np.sqrt((s[int(i * step) : int((i + 1) * step)] ** 2).mean()) for i in range(n)]
    )
    out = np.zeros(scene.frames, np.float32)
    start = round(scene.speech_at * scene.fps)
    stop = min(start + n, scene.frames)
    out[start:stop] = level[: stop - start]
    out = cv2.GaussianBlur(out[None], (0, 0), sigmaX=3.5)[0]
    return np.asarray(out / (out.max() + 1e-6), np.float32)


def _motion(scene: Scene) -> _Motion:
    n, fps = scene.frames, scene.fps
    voice = _emphasis(scene)
    lids = np.zeros(n, np.float32)
    for at in (0.09, 0.36, 0.60, 0.90):
        i = round(at * n)
        for k, v in enumerate(BLINK):
            if i + k < n:
                lids[i + k] = max(lids[i + k], v)
    brow = np.clip(voice - 0.45, 0, 1) * 1.5 + 0.15 * _drift(n, fps, 31)
    t = np.arange(n) / fps
    return _Motion(
        yaw=np.asarray(np.radians(4.2) * _drift(n, fps, 5, 4.6), np.float32),
        pitch=np.asarray(
            np.radians(2.0) * _drift(n, fps, 6, 3.1) + np.radians(2.6) * voice, np.float32
        ),
        roll=np.asarray(np.radians(1.7) * _drift(n, fps, 7, 5.3), np.float32),
        shift=np.stack([3.2 * _drift(n, fps, 8, 5.0), 1.6 * _drift(n, fps, 9, 2.9)], -1),
        breath=np.asarray(np.sin(2 * np.pi * t / 3.4), np.float32),
        brow=np.asarray(
            cv2.GaussianBlur(brow[None].astype(np.float32), (0, 0), sigmaX=2.0)[0], np.float32
        ),
        lids=lids,
    )


def _lid(
    image: UInt8,
    at: tuple[Mask, Mask],
    upper: Mask,
    gap: Mask,
    brow_y: float,
    lid: float,
    brow: float,
    skin: Image,
) -> UInt8:
    """Render one eye's window with its lid down by ``lid`` and its brow up by ``brow``.

    The lid's skin is stretched; the lash line above its edge is carried along as it is.
    """
    xx, yy = at
    lash = np.minimum(0.45 * gap, 4.5)
    edge = upper + lid * 0.94 * gap
    top = upper - 0.42 * (upper - brow_y)
    # the lid from the fold down to the lashes, then the lashes unscaled
    fold = top + (yy - top) * (upper - lash - top) / np.maximum(edge - lash - top, 1)
    source = np.where(yy < top, yy, np.where(yy < edge - lash, fold, yy - (edge - upper)))
    lift = np.exp(-(((yy - brow_y) / 9) ** 2)) * 2.2 * brow
    fade = np.clip(np.minimum(xx - xx.min(), xx.max() - xx) / 10, 0, 1)
    moved = (source + lift * fade).astype(np.float32)
    plain = (yy + lift * fade).astype(np.float32)
    down = cv2.remap(image, xx, moved, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )
    rest = cv2.remap(image, xx, plain, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(
        np.float32
    )
    # the closed lid is smooth skin in its own half shadow: shadow painted on it must not streak
    cover = (
        np.clip((yy - top) / 3, 0, 1)
        * np.clip((edge - lash + 1 - yy) / 2, 0, 1)
        * np.clip(gap / 4, 0, 1)
    )
    smooth = cv2.GaussianBlur(down, (0, 0), sigmaX=7.0, sigmaY=1.5)
    down = warp.over(
        down,
        np.asarray((0.58 * smooth + 0.42 * skin) * 0.95, np.float32),
        np.asarray(cover * lid * 0.7, np.float32),
    )
    shown = np.clip(edge + 0.7 - yy, 0, 1) * np.clip(gap / 1.5, 0, 1)
    return np.clip(warp.over(rest, down, shown.astype(np.float32)) + 0.5, 0, 255).astype(np.uint8)


class Animator:
    """Turns one still into the frames of a scene.

    Args:
        person: who presents.
        scene: what happens.
    """

    def __init__(self, person: people.Person, scene: Scene) -> None:
        self.scene = scene
        fig = people.figure(person)
        h, w = (round(v * SCALE) for v in face_blend.SIZE)
        self.size = (h, w)
        self.still = np.clip(
            cv2.resize(fig.image, (w, h), interpolation=cv2.INTER_AREA), 0, 255
        ).astype(np.uint8)
        self.alpha = cv2.resize(fig.alpha, (w, h), interpolation=cv2.INTER_AREA)
        self.points = (fig.points * SCALE).astype(np.float32)
        self.motion = _motion(scene)
        x, y = np.round(self.points[50, :2]).astype(int)
        self._skin = np.median(self.still[y - 6 : y + 7, x - 6 : x + 7], axis=(0, 1))
        self._head, self._depth = self._volumes()
        still_points = np.repeat(self.points[None], scene.frames, 0)
        model = viseme.analyse_mouth(still_points)
        self._mouth = viseme.VisemeRenderer(model, viseme.Reference(self.still, self.points))
        self.curves = curves.mouth_curves(
            scene.speech.phonemes, scene.frames, Fraction(scene.fps), offset=scene.speech_at
        )
        self._room = backdrop.draw(scene.room, scene.size[0] + 64, scene.size[1] + 36)
        self._spill = warp.blur(self._back(1.0), 16.0)
        rng = np.random.default_rng(77)
        self._grain = [
            cv2.GaussianBlur(
                rng.standard_normal((scene.size[1], scene.size[0])).astype(np.float32), (0, 0), 0.6
            )
            * 2.4
            for _ in range(6)
        ]
        self._vignette = self._light()

    def _light(self) -> Image:
        w, h = self.scene.size
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        d = ((xx / w - 0.5) / 0.75) ** 2 + ((yy / h - 0.48) / 0.80) ** 2
        return np.asarray(1 - 0.34 * np.clip(d, 0, 1) ** 1.2, np.float32)[..., None]

    def _volumes(self) -> tuple[Mask, Mask]:
        """How far a pixel goes with the head, 0..1, and how near it is, in pixels."""
        h, w = self.size
        p = self.points
        chin, size = p[152], float(np.ptp(p[:, 1]))
        yy, xx = np.mgrid[0:h, 0:w].astype(np.float32)
        ramp = np.clip((chin[1] + 0.30 * size - yy) / (0.42 * size), 0, 1)
        head = ramp * ramp * (3 - 2 * ramp)
        cx, cy = p[[33, 263], 0].mean(), p[6, 1] + 0.02 * size
        u, v = (xx - cx) / (0.86 * size), (yy - cy) / (0.98 * size)
        dome = 0.62 * size * np.sqrt(np.clip(1 - u**2 - v**2, 0, 1))
        bump = np.zeros((h, w), np.float32)
        for idx, tall, wide in ((4, 0.16, 0.10), (13, 0.05, 0.16), (152, 0.04, 0.14)):
            d = ((xx - p[idx, 0]) ** 2 + (yy - p[idx, 1]) ** 2) / (2 * (wide * size) ** 2)
            bump += tall * size * np.exp(-d)
        return np.asarray(head, np.float32), warp.blur(np.asarray(dome + bump, np.float32), 4.0)

    def _blink(self, image: UInt8, lid: float, brow: float) -> UInt8:
        """Stretch each upper lid over its eye; lift the brows."""
        if lid < 0.01 and abs(brow) < 0.05:
            return image
        out = image.copy()
        for side, brows in (("right", face_blend.RIGHT_BROW), ("left", face_blend.LEFT_BROW)):
            up, low = self.points[UPPER_LID[side], :2], self.points[LOWER_LID[side], :2]
            brow_y = float(self.points[brows, 1].mean())
            x0, x1 = int(up[:, 0].min()) - 14, int(up[:, 0].max()) + 15
            y0, y1 = int(brow_y) - 26, int(low[:, 1].max()) + 14
            yy, xx = np.mgrid[y0:y1, x0:x1].astype(np.float32)
            upper = np.interp(xx[0], up[:, 0], up[:, 1]).astype(np.float32) + 0.4
            lower = np.interp(xx[0], low[:, 0], low[:, 1]).astype(np.float32)
            gap = np.maximum(lower - upper, 0)
            out[y0:y1, x0:x1] = _lid(image, (xx, yy), upper, gap, brow_y, lid, brow, self._skin)
        return out

    def _maps(self, i: int, zoom: float, origin: tuple[float, float]) -> tuple[Mask, Mask]:
        """Where output pixels read the still: the inverse of turning, shifting and breathing.

        Everything in it is smooth, so it is worked out at a quarter of the size.
        """
        w, h = self.scene.size
        m, k = self.motion, COARSE
        yy, xx = np.mgrid[0 : h // k + 1, 0 : w // k + 1].astype(np.float32) * k
        x = (xx - w / 2) / zoom + w / 2 - origin[0]
        y = (yy - h / 2) / zoom + h / 2 - origin[1]
        chin = self.points[152]
        px, py = x, y
        for _ in range(2):
            head = cv2.remap(self._head, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            depth = cv2.remap(
                self._depth, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            dx = np.sin(m.yaw[i]) * depth * head + m.roll[i] * (chin[1] + 40 - py) * head
            dy = np.sin(m.pitch[i]) * depth * head + m.roll[i] * (px - chin[0]) * head
            dx = dx + m.shift[i, 0] * (0.35 + 0.65 * head)
            dy = dy + m.shift[i, 1] * head - (1 - head) * 1.1 * m.breath[i]
            px, py = (x - dx).astype(np.float32), (y - dy).astype(np.float32)
        full = np.mgrid[0:h, 0:w].astype(np.float32) / k
        return (
            cv2.remap(px, full[1], full[0], cv2.INTER_LINEAR),
            cv2.remap(py, full[1], full[0], cv2.INTER_LINEAR),
        )

    def frame(self, i: int) -> UInt8:
        """Render frame ``i`` of the scene, uint8 [h, w, 3]."""
        w, h = self.scene.size
        speaking, _ = self._mouth.render(
            self.still, i, float(self.curves.open[i]), float(self.curves.width[i])
        )
        lively = self._blink(speaking, float(self.motion.lids[i]), float(self.motion.brow[i]))
        part = i / max(self.scene.frames - 1, 1)
        zoom = 1.0 + 0.045 * part
        origin = ((w - self.size[1]) / 2 + 6.0, h - self.size[0] + 34.0)
        px, py = self._maps(i, zoom, origin)
        person = cv2.remap(lively, px, py, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).astype(
            np.float32
        )
        person = person + 0.45 * (person - cv2.GaussianBlur(person, (0, 0), 1.3))
        outside = (px < 0) | (px > self.size[1] - 1) | (py < 0)
        alpha = cv2.remap(self.alpha, px, py, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = np.where(outside, 0, np.clip(alpha, 0, 1)).astype(np.float32)
        back = self._back(zoom)
        wrap = self._spill * (alpha * (1 - cv2.GaussianBlur(alpha, (0, 0), 5)))[..., None]
        picture = warp.over(back, person, alpha) + 0.08 * wrap
        picture = picture * self._vignette + self._grain[i % 6][..., None]
        return np.asarray(np.clip(picture + 0.5, 0, 255), np.uint8)

    def _back(self, zoom: float) -> Image:
        w, h = self.scene.size
        k = 1 + (zoom - 1) * 0.55
        m = np.array([[k, 0, w / 2 - k * (w + 64) / 2], [0, k, h / 2 - k * (h + 36) / 2]])
        return np.asarray(cv2.warpAffine(self._room, m, (w, h), flags=cv2.INTER_LINEAR), np.float32)

    def frames(self) -> Iterator[UInt8]:
        """All frames in order."""
        for i in range(self.scene.frames):
            yield self.frame(i)
