"""What is seen between the lips: the clip's own open mouth, or a painted one.

Both are anchored at the upper lip like a window: the upper teeth belong to the skull, so opening
the mouth shows more of the same picture instead of stretching it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from models.face import topology

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

_UPPER, _LOWER = 13, 14
_LEFT, _RIGHT = 78, 308
_FOLLOW = 0.6  # how far the inside follows the shape of the upper lip's edge
_STRETCH = 1.2  # how far a bank is stretched before what lies below it is painted
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_INK = (26.0, 13.0, 12.0)


@dataclass(frozen=True)
class MouthView:
    """The mouth opening of one output frame, in the window's pixels.

    Attributes:
        points: float32 [468, 2] moved landmarks.
        eye: pixels between the outer eye corners.
        x, y: float32 [h, w] pixel coordinates of the region that is painted.
    """

    points: Float32
    eye: float
    x: Float32
    y: Float32

    def axes(self) -> tuple[Float32, Float32]:
        """Coordinates (across, down) in eye distances from the upper lip's middle, [h, w] each."""
        across = self.points[_RIGHT] - self.points[_LEFT]
        across = across / max(float(np.linalg.norm(across)), 1e-3)
        dx, dy = self.x - self.points[_UPPER, 0], self.y - self.points[_UPPER, 1]
        u = (dx * across[0] + dy * across[1]) / self.eye
        v = (-dx * across[1] + dy * across[0]) / self.eye
        return u, v

    @property
    def gap(self) -> float:
        """Opening at the middle in eye distances."""
        return float(np.linalg.norm(self.points[_LOWER] - self.points[_UPPER])) / self.eye

    @property
    def half_width(self) -> float:
        """Half the inner width in eye distances."""
        return float(np.linalg.norm(self.points[_RIGHT] - self.points[_LEFT])) / self.eye / 2


class BankInterior:
    """The inside of the mouth as one open frame of the same clip shows it.

    Args:
        pixels: uint8 [h, w, 3] around the face.
        points: float32 [478, 2 or 3] landmarks in those pixels.
        beneath: what shows below the bank's own lower lip when the mouth opens further.
    """

    def __init__(self, pixels: UInt8, points: Float32, beneath: PaintedInterior) -> None:
        xy = points[:, :2]
        self._eye = float(
            np.linalg.norm(xy[topology.RIGHT_EYE_OUTER] - xy[topology.LEFT_EYE_OUTER])
        )
        outline = xy[topology.INNER_LIPS]
        margin = 0.25 * self._eye
        height, width = pixels.shape[:2]
        x0, y0 = np.maximum(np.floor(outline.min(0) - margin), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(outline.max(0) + margin), (width, height)).astype(int)
        self._points = (xy - np.array([x0, y0])).astype(np.float32)
        self._beneath = beneath
        self._edge = _edge(self._points, self._eye, lower=False)
        self._floor = _edge(self._points, self._eye, lower=True)
        self._texture = _only_inside(pixels[y0:y1, x0:x1], self._points, self._eye)

    def paint(self, view: MouthView) -> Float32:
        """Return the interior over the view's region, float32 [h, w, 3]."""
        u, v = view.axes()
        across = self._points[_RIGHT] - self._points[_LEFT]
        width = max(float(np.linalg.norm(across)), 1e-3)
        across = across / width
        gap = float(np.linalg.norm(self._points[_LOWER] - self._points[_UPPER])) / self._eye
        wider = max(1.0, 2 * view.half_width / (width / self._eye))
        taller = float(np.clip(view.gap / max(gap, 1e-3), 1.0, _STRETCH))
        # Where the lip's edge hangs lower than it did in the bank, what is behind it comes along.
        edge = _edge(view.points, view.eye, lower=False)
        hang = np.interp(u, edge[:, 0], edge[:, 1])
        there = np.interp(u / wider, self._edge[:, 0], self._edge[:, 1])
        v = v / taller + _FOLLOW * (there - hang / taller)
        right, down = u / wider * self._eye, v * self._eye
        x = self._points[_UPPER, 0] + right * across[0] - down * across[1]
        y = self._points[_UPPER, 1] + right * across[1] + down * across[0]
        picture = cv2.remap(
            self._texture,
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        if view.gap <= gap * _STRETCH:
            return np.asarray(picture, np.float32)
        floor = np.interp(u / wider, self._floor[:, 0], self._floor[:, 1])
        below = _smooth_step((v - floor + 0.012) / 0.02)[..., None]
        return np.asarray(
            picture + below * (self._beneath.paint(view, teeth=False) - picture), np.float32
        )


def _edge(points: Float32, eye: float, *, lower: bool) -> Float32:
    """Inner edge of a lip in eye distances from the upper lip's middle, [11, 2], left to right."""
    across = points[_RIGHT] - points[_LEFT]
    across = across / max(float(np.linalg.norm(across)), 1e-3)
    chain = topology.INNER_LIPS[:11] if lower else topology.INNER_LIPS[[0, *range(19, 9, -1)]]
    offset = (points[chain, :2] - points[_UPPER]) / eye
    down = np.array([-across[1], across[0]], np.float32)
    edge = np.stack([offset @ across, offset @ down], axis=1)
    return np.asarray(edge[np.argsort(edge[:, 0])], np.float32)


def _only_inside(crop: UInt8, points: Float32, eye: float) -> UInt8:
    """Replace what lies outside the inner lips by the mouth's own colours, fading to dark."""
    mask = np.zeros(crop.shape[:2], np.uint8)
    outline = np.round(points[topology.INNER_LIPS] * 16).astype(np.int32)
    cv2.fillPoly(mask, [outline], (255,), cv2.LINE_8, 4)
    rounds = max(1, round(eye * 0.012))
    mask = np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=rounds), np.uint8)
    outside = np.asarray(255 - mask, np.uint8)
    filled = cv2.inpaint(crop, outside, 3, cv2.INPAINT_TELEA).astype(np.float32)
    away = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
    near = np.exp(-np.maximum(away - 0.04 * eye, 0) / (0.08 * eye))[..., None]
    return np.asarray(filled * near + np.array(_INK, np.float32) * (1 - near), np.uint8)


@dataclass(frozen=True)
class Tones:
    """Colours under the clip's own light, RGB 0..255."""

    skin: Float32
    white: Float32
    """What a white thing in this face's light looks like, from the whites of the eyes."""
    lip: Float32


def measure_tones(pixels: UInt8, points: Float32) -> Tones:
    """Read skin, white and lip colours of a face.

    Args:
        pixels: uint8 [h, w, 3].
        points: float32 [478, 2 or 3] landmarks in those pixels.
    """
    xy = points[:, :2]
    skin = np.median(np.concatenate([_patch(pixels, xy[i]) for i in (205, 425, 50, 280)]), axis=0)
    lip = np.median(np.concatenate([_patch(pixels, xy[i]) for i in (17, 84, 314)]), axis=0)
    eyes = np.concatenate(
        [_inside(pixels, xy[outline]) for outline in (topology.LEFT_EYE, topology.RIGHT_EYE)]
    )
    luma = eyes @ _LUMA
    bright = eyes[luma >= np.percentile(luma, 80)]
    white = bright.mean(axis=0) if len(bright) else skin
    # A face too small or eyes too narrow show no white: never darker than the skin allows.
    floor = 1.05 * float(skin @ _LUMA)
    white = white * max(1.0, floor / max(float(white @ _LUMA), 1.0))
    return Tones(skin.astype(np.float32), white.astype(np.float32), lip.astype(np.float32))


def _patch(pixels: UInt8, at: Float32) -> Float32:
    height, width = pixels.shape[:2]
    x, y = int(np.clip(at[0], 1, width - 2)), int(np.clip(at[1], 1, height - 2))
    return pixels[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3).astype(np.float32)


def _inside(pixels: UInt8, outline: Float32) -> Float32:
    height, width = pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(outline).astype(np.int32)], (255,))
    found = pixels[mask > 0].reshape(-1, 3).astype(np.float32)
    return found if len(found) else _patch(pixels, outline.mean(axis=0))


# Half of an upper arch seen from the front, in eye distances: (width, length below the lip line).
# Real ones: a central incisor is 8.5 mm wide, the outer eye corners are about 90 mm apart.
_ARCH = ((0.092, 0.042), (0.070, 0.036), (0.062, 0.039), (0.048, 0.031), (0.034, 0.024))
_LOWER_ARCH = ((0.058, 0.020), (0.060, 0.020), (0.062, 0.019), (0.048, 0.015), (0.036, 0.010))
_SCALE = 256  # texture pixels per eye distance
_TEXTURE = (0.84, 0.36)  # size of the textures in eye distances
_TOP = 0.08  # where v = 0 lies in them


class PaintedInterior:
    """A mouth painted from the face's own tones: dark cavity, tongue, two rows of teeth.

    Args:
        tones: see :func:`measure_tones`.
    """

    def __init__(self, tones: Tones) -> None:
        light = float(tones.white @ _LUMA)
        tint = tones.skin / max(float(tones.skin.mean()), 1.0)
        ivory = np.array([1.05, 1.0, 0.90], np.float32) * (0.5 + 0.5 * tint)
        enamel = np.minimum(0.95 * light * ivory, 225.0).astype(np.float32)
        self._teeth = _tooth_row(_ARCH, enamel, upper=True)
        self._lower = _tooth_row(_LOWER_ARCH, 0.72 * enamel, upper=False)
        flesh = 0.55 * tones.lip + 0.45 * light * np.array([0.80, 0.42, 0.42], np.float32)
        self._flesh = (0.72 * flesh).astype(np.float32)
        dark = 0.16 * light * np.array([1.30, 0.62, 0.58], np.float32)
        self._dark = np.clip(dark, 6.0, 54.0).astype(np.float32)

    def paint(self, view: MouthView, *, teeth: bool = True) -> Float32:
        """Return the interior over the view's region, float32 [h, w, 3], with or without teeth."""
        u, v = view.axes()
        gap, half = view.gap, max(view.half_width, 1e-3)
        side = np.clip(np.abs(u) / half, 0.0, 1.0)
        out = np.broadcast_to(self._dark, (*u.shape, 3)).astype(np.float32)
        # The tongue lies behind the lower teeth and rises a little with the opening.
        rise = 0.030 + 0.42 * gap + 0.10 * gap * (np.cos(np.clip(u / 0.2, -1, 1) * np.pi) - 1)
        height = (v - (gap - rise)) / 0.070
        tongue = np.exp(-((u / (0.30 * half / 0.24)) ** 4)) * _smooth_step(height)
        # Its back is in the dark, its front edge catches light; a faint groove runs down it.
        lit = 0.60 + 0.45 * np.clip(height - 0.3, 0.0, 1.0) * np.clip(gap / 0.12, 0.3, 1.0)
        lit = lit - 0.10 * np.exp(-((u / 0.018) ** 2))
        out += tongue[..., None] * (lit[..., None] * self._flesh - out)
        if not teeth:
            return out
        below = _sample(self._lower, u, gap - v)
        strength = below[..., 3:] * np.clip((gap - 0.09) / 0.06, 0.0, 1.0) * 0.75
        out += strength * (below[..., :3] * (1 - 0.75 * side**2)[..., None] - out)
        above = _sample(self._teeth, u, v)
        shade = 0.94 - 0.80 * side**2.0
        # The upper lip throws a shadow on the teeth right under it.
        edge = gap * 0.30 * side**2
        shade = shade * (0.66 + 0.34 * _smooth_step((v - edge + 0.004) / 0.030))
        out += above[..., 3:] * (above[..., :3] * shade[..., None] - out)
        return out


def _smooth_step(x: Float32) -> Float32:
    t = np.clip(x, 0.0, 1.0)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _sample(texture: Float32, u: Float32, v: Float32) -> Float32:
    x = (u + _TEXTURE[0] / 2) * _SCALE
    y = (v + _TOP) * _SCALE
    return np.asarray(
        cv2.remap(
            texture,
            x.astype(np.float32),
            y.astype(np.float32),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
        ),
        np.float32,
    )


def _tooth_row(arch: tuple[tuple[float, float], ...], enamel: Float32, *, upper: bool) -> Float32:
    """Paint a row of teeth hanging from v = 0: float32 [h, w, 4], RGB and coverage 0..1."""
    width, height = int(_TEXTURE[0] * _SCALE), int(_TEXTURE[1] * _SCALE)
    fine = 3
    cover = np.zeros((height * fine, width * fine), np.float32)
    tone = np.ones_like(cover)
    rows, columns = np.mgrid[0 : height * fine, 0 : width * fine].astype(np.float32)
    u = np.abs((columns + 0.5) / (_SCALE * fine) - _TEXTURE[0] / 2)
    v = (rows + 0.5) / (_SCALE * fine) - _TOP
    left = 0.0
    for index, (tooth, length) in enumerate(arch):
        centre = left + tooth / 2
        across = (u - centre) / (tooth / 2)
        # A tooth's biting edge is nearly straight with rounded corners; its sides bulge a little.
        edge = length - (length * 0.22) * np.clip(np.abs(across), 0, 1.2) ** (4 if index < 2 else 2)
        inside = _smooth_step((0.97 - np.abs(across)) / 0.08) * _smooth_step((edge - v) / 0.004)
        inside = inside * (v > -_TOP)
        value = 1 - 0.10 * np.abs(across) ** 2 - 0.05 * index
        if upper:  # a faint translucent biting edge
            value = value - 0.10 * np.exp(-(((edge - v) / 0.008) ** 2))
        cover = np.maximum(cover, inside)
        tone = np.where(np.abs(across) <= 1.0, value, tone)
        left += tooth
    # Gaps between teeth are soft shadows, not holes, except near the biting edge.
    behind = _row_fill(arch, u, v)
    tone = tone * (0.62 + 0.38 * cover)
    cover = np.maximum(cover, behind)
    picture = np.concatenate([enamel * tone[..., None], cover[..., None]], axis=2)
    small = cv2.resize(picture.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 1.6), np.float32)


def _row_fill(arch: tuple[tuple[float, float], ...], u: Float32, v: Float32) -> Float32:
    """Coverage of the row without its gaps: up to 80% of the teeth's length."""
    ends = np.cumsum([0.0] + [tooth for tooth, _ in arch])
    lengths = [arch[0][1]] + [length for _, length in arch]
    edge = 0.80 * np.interp(u, ends, lengths)
    return np.asarray(
        _smooth_step((edge - v) / 0.012) * (u < ends[-1] - 0.01) * (v > -_TOP), np.float32
    )
