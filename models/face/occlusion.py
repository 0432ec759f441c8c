"""What is in front of a face: a hand, a microphone, a product, a glass.

A segment's face is learned in one layout: between which bounds every texel stays over some frames,
once the light is matched. A frame is laid out by its landmarks in the same way; what leaves its
bounds is evidence. Whatever covers a face comes from beyond it, so evidence counts only where it
reaches in from the face's edge: features that move by themselves do not. Bounds from samples of
each place are the idea of Barnich and Van Droogenbroeck, "ViBe: a universal background subtraction
algorithm for video sequences", IEEE TIP 20(6), 2011. Skin on skin shows little evidence, so frames
with some are also searched for hands (Zhang et al., "MediaPipe Hands", 2020).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.face import geometry, roi, topology
from models.face.landmarks import _mediapipe, _quiet_stderr
from models.face_swap import warp

Image = NDArray[np.uint8]
Points = NDArray[np.float32]
Float = NDArray[np.float32]
Mask = NDArray[np.bool_]

CONTEXT = 2
"""Frames on both sides that a frame's mask depends on."""

SAMPLES = 24
"""Frames of a segment to learn from."""

LAYOUT_EYE = (24.0, 72.0)
"""Least and most eye distance of the layout, in texels. Lengths below are in eye distances."""

RING = 1.3
"""Size of the layout over the face oval's: what covers the face is followed that far out."""

FACING = 0.35
"""Size of a triangle over its size in the layout, below which it is seen too flatly to judge."""

NOISE = np.array([3.0, 1.6, 1.8, 2.2], np.float32)
"""How far L, a, b and fine detail of L leave their bounds at a unit of evidence."""

STRAY = np.array([10.0, 5.0, 6.0, 7.0], np.float32)
"""The most that a texel's bounds lie from its usual value: more is no face that moves."""

STRONG, WEAK = 4.0, 1.0
"""Evidence (squared, mean over 5x5 texels) that something is there, and of where it ends."""

EYE_WEAK = 30.0
"""Evidence needed in the eyes: lids, gaze and highlights differ from any sample."""

EDGE = 0.45
"""Evidence over the most nearby at the outline of what is in front."""

OPEN = 24.0
"""Distance of a texel's bounds in L from which it cannot tell what passes there."""

LEAST_AREA, LEAST_DEPTH = 0.006, 0.16
"""What is smaller (over the oval) or reaches in less (eye distances) is left out."""

KNOWN = 3
"""Clean samples of a texel below which it says nothing."""

HAND_SCORE = 0.6
"""Confidence of the hand network below which its answer is dropped."""

HAND_EVIDENCE = 0.25
"""Part of a hand over the face that must differ from the face."""


def sample_numbers(points_per_frame: Sequence[Points]) -> list[int]:
    """Pick the frames of a segment to learn its face from.

    In each of `SAMPLES` / 2 stretches of equal length the middle frame and the one whose expression
    and pose differ most from it: what is in front for a while stays a minority.

    Args:
        points_per_frame: float32 [478, 2 or 3] pixels of every frame of the segment.
    """
    count = len(points_per_frame)
    if count <= SAMPLES:
        return list(range(count))
    edges = np.round(np.linspace(0, count, SAMPLES // 2 + 1)).astype(int)
    picks: set[int] = set()
    for start, stop in itertools.pairwise(edges):
        middle = int(start + stop - 1) // 2
        usual = points_per_frame[middle][:, :2]
        apart = [_apart(points_per_frame[i][:, :2], usual) for i in range(start, stop)]
        picks |= {middle, int(start) + int(np.argmax(apart))}
    return sorted(picks)


def _apart(points: Points, usual: Points) -> float:
    fitted = geometry.umeyama(points[topology.RIGID], usual[topology.RIGID]).apply(points)
    return float(np.square(fitted - usual).sum())


@dataclass(frozen=True, eq=False)
class FaceStatistics:
    """How a segment's face looks while nothing is in front of it."""

    points: Points
    """[478, 2] where the landmarks lie in the layout, texels."""
    usual: Float
    """[h, w, 3] median Lab over the samples."""
    light: Float
    """[2, 6, 3] usual light and how tightly it holds: see `_match_light`."""
    low: Float
    """[h, w, 4] least L, a, b and fine detail of L of each texel."""
    high: Float
    """[h, w, 4] the most. Infinitely far apart where the face was never seen clear."""
    hands: bool
    """Whether a sample shows a hand at the face: then every frame is searched for one."""

    @classmethod
    def learn(cls, samples: Sequence[tuple[Image, Points]]) -> FaceStatistics:
        """Learn a segment's face; a pure function of the samples.

        Args:
            samples: (uint8 [h, w, 3] RGB of the segment's window, float32 [478, 2 or 3] pixels in
                it) of the frames that `sample_numbers` picks. What covers a place in up to about a
                third of them is found; a hand also when it never leaves.

        Raises:
            ValueError: there are no samples, or one has the wrong shape or type.
        """
        if not samples:
            raise ValueError("samples: at least one frame is needed to learn the face")
        for frame, points in samples:
            _check(frame, points)
        layout = _Layout(_layout_points([points for _, points in samples]))
        views = [layout.view(frame, points) for frame, points in samples]
        return _learn(layout, views, _hands_seen(layout, samples, views))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, to be stored."""
        return {
            "points": self.points, "usual": self.usual, "light": self.light,
            "low": self.low, "high": self.high, "hands": np.array(self.hands),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Back from `arrays`, with the same masks as before.

        Raises:
            ValueError: an array is missing.
        """
        names = ("points", "usual", "light", "low", "high", "hands")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"face statistics lack {', '.join(missing)}: learn them again")
        points, usual, light, low, high = (
            np.asarray(arrays[name], np.float32) for name in names[:-1]
        )
        return cls(points, usual, light, low, high, bool(arrays["hands"]))

    @cached_property
    def layout(self) -> _Layout:
        """The layout that the arrays are in."""
        return _Layout(self.points)


def occlusion_masks(
    frames: Iterable[tuple[Image, Points]], statistics: FaceStatistics
) -> Iterator[Image]:
    """Find what is in front of the face, frame by frame.

    A frame's mask depends on the statistics and on `CONTEXT` frames on both sides, so chunks that
    overlap by that many frames give the masks of the whole. What is seen in one frame alone counts
    as noise, unless it is the only frame.

    Limits: thin strands of hair and what covers less than about 1% of the face are left out; what
    covers a place most of the time is found only when it is a hand; a fringe or a lock that swings
    into the face is something in front of it. Beyond about 45 degrees of yaw the far cheek is not
    judged.

    Args:
        frames: (uint8 [h, w, 3] RGB, float32 [478, 2 or 3] pixels) of consecutive frames.
        statistics: of the segment that they belong to.

    Yields:
        uint8 [h, w] for each frame: 255 where something is in front, fading over a few pixels
        outside; 0 everywhere when there is nothing.

    Raises:
        ValueError: a frame or its points have the wrong shape or type.
    """
    with _HandFinder() as find:
        found = (_find(frame, points, statistics, find) for frame, points in frames)
        supported = (_supported(*trio) for trio in _neighbours(found))
        for before, now, after in _neighbours(supported):
            cover = now.cover
            if before is not None and after is not None:
                cover = cover | (before.cover & after.cover)
            yield _to_window(statistics.layout, cover, now)


def keep_occluders(original: Image, changed: Image, mask: Image) -> Image:
    """Put what is in front of the face back over a changed picture.

    Args:
        original: uint8 [h, w, 3].
        changed: uint8 [h, w, 3], the same size.
        mask: uint8 [h, w] of `occlusion_masks`.

    Returns:
        uint8 [h, w, 3]: exactly ``original`` where the mask is 255, ``changed`` where it is 0.

    Raises:
        ValueError: sizes differ.
    """
    if original.shape != changed.shape or mask.shape != original.shape[:2]:
        raise ValueError(
            f"sizes differ: original {original.shape}, changed {changed.shape}, mask {mask.shape}"
        )
    if not mask.any():
        return changed.copy()
    weight = mask[..., None].astype(np.uint16)
    mixed = original * weight + changed * (255 - weight)
    return np.asarray((mixed + 127) // 255, np.uint8)


def _check(frame: Image, points: Points) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"frame: expected uint8 [h, w, 3], got {frame.dtype} {frame.shape}")
    if points.ndim != 2 or points.shape[0] != topology.POINTS or points.shape[1] < 2:
        raise ValueError(f"points: expected float32 [478, 2 or 3], got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("points: not finite; pass only frames in which the face is seen")


# The layout: one picture of the face for all frames.


@dataclass(frozen=True, eq=False)
class _View:
    """A frame laid out."""

    lab: Float
    """[h, w, 3], a little softened."""
    seen: Mask
    """[h, w] where the face is turned enough towards the camera."""
    x: Float
    y: Float
    """[h, w] where the texels lie in the frame, pixels."""


class _Layout:
    """The places of a face: its outline, its parts, and how a frame is sampled into it."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.eye = geometry.interocular(points)
        vertices = _vertices(points)
        self.width, self.height = (int(np.ceil(v)) + 2 for v in vertices.max(0))
        self._areas = _vertex_areas(points)
        texels, corners, shares = _paint(vertices, warp.ALL, self.width, self.height)
        entries = (shares.ravel(), (np.repeat(texels, 3), corners.ravel()))
        shape = (self.height * self.width, len(vertices))
        self._weights = sparse.csr_matrix(entries, shape=shape)
        self.inside = np.zeros(shape[0], np.bool_)
        self.inside[texels] = True
        self.inside = self.inside.reshape(self.height, self.width)
        self._make_zones()
        y, x = np.indices((self.height, self.width), dtype=np.float32)
        centre = points[topology.FACE_OVAL].mean(0)
        x, y = (x - centre[0]) / (0.8 * self.eye), (y - centre[1]) / (1.1 * self.eye)
        self.waves = np.stack([np.ones_like(x), x, y, x * x - 0.3, x * y, y * y - 0.3], axis=-1)

    def _make_zones(self) -> None:
        parts, e = self.points, self.eye
        self.oval = self._near(parts[topology.FACE_OVAL], 0)
        self.depth = cv2.distanceTransform(self.oval.astype(np.uint8), cv2.DIST_L2, 5)
        outwards = cv2.distanceTransform((~self.oval).astype(np.uint8), cv2.DIST_L2, 5)
        self.beyond = self.inside & ~self.oval & (outwards < 0.06 * e)
        eyes = parts[topology.LEFT_EYE], parts[topology.RIGHT_EYE]
        lips = parts[topology.OUTER_LIPS]
        self.eyes = self._near(eyes[0], 0.05) | self._near(eyes[1], 0.05)
        self.mobile = self.eyes | self._near(lips, 0.06)
        # Landmarks are a little off at features and at the edge: there neighbours count, too.
        self.uncertain = self._near(lips, 0.12) | (self.depth < 0.12 * e)
        for part, room in (
            (eyes[0], 0.10), (eyes[1], 0.10), (parts[topology.LEFT_BROW], 0.08),
            (parts[topology.RIGHT_BROW], 0.08), (parts[[98, 327, 2, 240, 460]], 0.07),
        ):  # fmt: skip
            self.uncertain |= self._near(part, room)
        skin = self.oval & (self.depth > 0.10 * e) & ~self.mobile
        coarse = np.zeros_like(skin)
        coarse[::3, ::3] = True
        self.skin = np.flatnonzero(skin & coarse)

    def _near(self, part: Points, room: float) -> Mask:
        area = np.zeros((self.height, self.width), np.uint8)
        hull = cv2.convexHull(np.round(part).astype(np.int32))
        cv2.fillConvexPoly(area, hull, (1,))
        return np.asarray((cv2.dilate(area, self.disc(room)) if room else area) > 0)

    def disc(self, radius: float) -> Image:
        """A round element for morphology; the radius in eye distances, at least a texel."""
        size = 2 * max(1, round(radius * self.eye)) + 1
        return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)

    def view(self, frame: Image, points: Points) -> _View:
        """Lay a frame out."""
        vertices, size = _vertices(points), frame.shape
        texel = self.eye / max(geometry.interocular(points), 1.0)
        at = self._spread(vertices)
        shrink = 1.15 * texel
        x, y = at[..., 0], at[..., 1]
        if shrink < 0.86:
            how = cv2.INTER_AREA
            small = cv2.resize(frame, None, fx=shrink, fy=shrink, interpolation=how)
            frame = np.asarray(small, np.uint8)
            rgb = cv2.remap(
                frame, (x + 0.5) * np.float32(shrink) - 0.5, (y + 0.5) * np.float32(shrink) - 0.5,
                cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
            )  # fmt: skip
        else:
            rgb = cv2.remap(frame, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB).astype(np.float32)
        lab -= np.array([0, 128, 128], np.float32)
        lab[..., 0] *= np.float32(100 / 255)
        lab = np.asarray(cv2.GaussianBlur(lab, (0, 0), 0.012 * self.eye), np.float32)
        ratio = _vertex_areas(points) * texel**2 / np.maximum(self._areas, 1e-3)
        ratio = np.concatenate([ratio, ratio[topology.FACE_OVAL]]).astype(np.float32)
        seen = self.inside & (self._spread(ratio) > FACING)
        seen &= (x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)
        return _View(lab, seen, x, y)

    def _spread(self, values: Float) -> Float:
        """Interpolate values [vertices, ...] over the texels."""
        texels = self._weights @ values
        return np.asarray(texels.reshape(self.height, self.width, *values.shape[1:]), np.float32)


def _vertices(points: Points) -> Points:
    """The mesh's points and the ring's: float32 [468 + 36, 2]."""
    mesh = points[: topology.MESH_POINTS, :2]
    return np.asarray(np.concatenate([mesh, roi.ring_points(points, RING)]), np.float32)


def _vertex_areas(points: Points) -> NDArray[np.float64]:
    """Signed area of the triangles around each vertex, [468]: negative when turned away."""
    corners = points[topology.TRIANGLES, :2]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    area = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]
    count = topology.MESH_POINTS
    around = [np.bincount(topology.TRIANGLES[:, k], area, count) for k in range(3)]
    return np.asarray(np.sum(around, axis=0))


def _paint(
    vertices: Points, triangles: NDArray[np.int32], width: int, height: int
) -> tuple[NDArray[np.intp], NDArray[np.int32], Float]:
    """Covered pixels (flat numbers), their triangles' corners and shares in them, [n, 3] each."""
    labels = np.zeros((height, width), np.int32)
    fixed = np.round(vertices[triangles] * 16).astype(np.int32)
    for number, corners in enumerate(fixed):
        cv2.fillConvexPoly(labels, corners, (number + 1,), cv2.LINE_8, 4)
    covered = np.flatnonzero(labels)
    of = triangles[labels.ravel()[covered] - 1]
    a, b, c = np.moveaxis(vertices[of].astype(np.float64), 1, 0)
    p = np.stack([covered % width, covered // width], axis=1) - a
    e, f = b - a, c - a
    det = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
    det = np.where(np.abs(det) < 1e-3, 1e-3, det)
    # Pixels on the rim of a sliver lie outside it.
    u = np.clip((p[:, 0] * f[:, 1] - p[:, 1] * f[:, 0]) / det, -0.2, 1.2)
    v = np.clip((e[:, 0] * p[:, 1] - e[:, 1] * p[:, 0]) / det, -0.2, 1.2)
    return covered, of, np.stack([1 - u - v, u, v], axis=1).astype(np.float32)


def _layout_points(points: list[Points]) -> Points:
    """Where landmarks go in the layout: the median of the most frontal third of the samples."""
    turns = [_turn(marks) for marks in points]
    frontal = np.argsort(turns, kind="stable")[: max(1, len(points) // 3)]
    first = points[frontal[0]][:, :2]
    fitted = [geometry.umeyama(points[i][:, :2], first).apply(points[i][:, :2]) for i in frontal]
    shape = np.median(fitted, axis=0)
    eye = float(np.clip(np.median([geometry.interocular(p) for p in points]), *LAYOUT_EYE))
    shape = (shape * (eye / geometry.interocular(shape))).astype(np.float32)
    return np.asarray(shape - _vertices(shape).min(0) + 2, np.float32)


def _turn(points: Points) -> float:
    if points.shape[1] < 3:
        return 0.0
    pose = geometry.head_pose(points)
    return abs(pose.yaw) + 0.5 * abs(pose.pitch)


# Light: smooth over the face, and held near what is usual in the segment.

LOOSE = np.array([0.30, 0.15, 0.15, 0.08, 0.08, 0.08])[:, None] * [1.0, 30.0, 30.0]
"""Standard deviation of light before anything is known: log of L, a, b."""

LEAST_LIGHT = np.array([1.0, 0.6, 0.6, 0.6, 0.6, 0.6])[:, None] * [0.03, 0.8, 0.8]
"""The least that light varies, whatever the samples say."""

FIT_NOISE = np.array([0.06, 2.0, 2.0])
FIT_WEIGHT = 12.0
"""Independent observations that a whole face's skin is worth."""

BLACK = 8.0
"""Added to L before its logarithm is taken."""


def _match_light(layout: _Layout, view: _View, usual: Float, light: Float) -> Float:
    """Lab of a view in the segment's usual light: see `_fit_light`."""
    return _relight(layout, view.lab, _fit_light(layout, view, usual, light))


def _fit_light(layout: _Layout, view: _View, usual: Float, light: Float) -> Float:
    """Fit the log of L's gain and a's and b's offset as quadratics over the layout, [6, 3].

    Robust least squares (weights of Geman and McClure) on skin: what covers a minority of it has
    little say.
    """
    at = layout.skin[view.seen.ravel()[layout.skin]]
    waves = layout.waves.reshape(-1, 6)[at].astype(np.float64)
    now, then = (plane.reshape(-1, 3)[at].astype(np.float64) for plane in (view.lab, usual))
    gap = now - then
    gap[:, 0] = np.log((now[:, 0] + BLACK) / (then[:, 0] + BLACK))
    mean, hold = light.astype(np.float64)
    found = mean.copy()
    if len(at) == 0:
        return np.asarray(found, np.float32)
    found[0] += np.median(gap - waves @ mean, axis=0)
    for _ in range(5):
        error = (gap - waves @ found) / FIT_NOISE
        weight = 1 / (1 + np.square(error).sum(1) / 2) ** 2
        weight *= FIT_WEIGHT / max(weight.sum(), 1e-9)
        weighted = waves * weight[:, None]
        normal = (waves.T @ weighted) / np.square(FIT_NOISE)[:, None, None]
        normal += np.einsum("kc,kl->ckl", hold, np.eye(6))
        right = weighted.T @ gap / np.square(FIT_NOISE) + hold * mean
        found = np.linalg.solve(normal, right.T[..., None])[..., 0].T
    return np.asarray(found, np.float32)


def _relight(layout: _Layout, lab: Float, light: Float) -> Float:
    smooth = layout.waves @ light
    lit = lab - smooth
    lit[..., 0] = (lab[..., 0] + BLACK) * np.exp(-smooth[..., 0]) - BLACK
    return np.asarray(lit, np.float32)


def _features(layout: _Layout, lit: Float) -> Float:
    """L, a, b and the fine detail of L, which light does not change: [h, w, 4]."""
    detail = lit[..., 0] - cv2.GaussianBlur(lit[..., 0], (0, 0), 0.06 * layout.eye)
    return np.asarray(np.dstack([lit, detail]), np.float32)


# Learning.


def _learn(layout: _Layout, views: list[_View], hands: list[Mask]) -> FaceStatistics:
    seen = np.stack([v.seen & ~hand for v, hand in zip(views, hands, strict=True)])
    usual, light = _usual_light(layout, views, seen)
    features = np.stack([_features(layout, _match_light(layout, v, usual, light)) for v in views])
    centre = _quantile(features, seen, 0.5)
    strays = features - centre
    # Narrow bounds first, from the calmer third: they show which samples have something in front.
    narrow = np.minimum(2.2 * _quantile(np.abs(strays), seen, 0.35), STRAY)
    shown = any(hand.any() for hand in hands)

    def bounded(low: Float, high: Float) -> FaceStatistics:
        low, high = _with_neighbours(layout, low + centre, high + centre)
        return FaceStatistics(layout.points, usual, light, low, high, shown)

    first = bounded(-narrow, narrow)
    clean = seen.copy()
    for index, (view, feature) in enumerate(zip(views, features, strict=True)):
        cover = _reaching_in(first, layout, view, feature)[0]
        clean[index] &= cv2.dilate(cover.astype(np.uint8), layout.disc(0.05)) == 0
    low = np.clip(_quantile(strays, clean, 0.04), -STRAY, 0)
    high = np.clip(_quantile(strays, clean, 0.96), 0, STRAY)
    result = bounded(low, high)
    unknown = clean.sum(0) < min(KNOWN, len(views))
    result.low[unknown], result.high[unknown] = -np.inf, np.inf
    return result


def _usual_light(
    layout: _Layout, views: list[_View], seen: NDArray[np.bool_]
) -> tuple[Float, Float]:
    """Median Lab in the median light, and that light with its tightness, [2, 6, 3]."""
    loose = np.stack([np.zeros_like(LOOSE), LOOSE**-2]).astype(np.float32)
    usual = _quantile(np.stack([v.lab for v in views]), seen, 0.5)
    for _ in range(2):
        lit = np.stack([_match_light(layout, view, usual, loose) for view in views])
        usual = _quantile(lit, seen, 0.5)
    fits = np.stack([_fit_light(layout, view, usual, loose) for view in views])
    mean = np.median(fits, axis=0)
    spread = 1.5 * 1.4826 * np.median(np.abs(fits - mean), axis=0)
    spread = np.clip(spread, LEAST_LIGHT, 5 * LEAST_LIGHT)
    return usual, np.stack([mean, spread**-2]).astype(np.float32)


def _quantile(values: Float, valid: NDArray[np.bool_], part: float) -> Float:
    """Quantile over the first axis of [n, h, w, c] where [n, h, w] is valid; 0 where nothing is."""
    ordered = np.sort(np.where(valid[..., None], values, np.float32(np.inf)), axis=0)
    count = valid.sum(0)
    rank = np.round(part * np.maximum(count - 1, 0)).astype(np.intp)
    picked = np.take_along_axis(ordered, rank[None, ..., None], axis=0)[0]
    return np.asarray(np.where(count[..., None] > 0, picked, 0), np.float32)


def _with_neighbours(layout: _Layout, low: Float, high: Float) -> tuple[Float, Float]:
    """Bounds that also hold those of nearby texels, more of them where landmarks are uncertain."""
    near, far = layout.disc(0.018), layout.disc(0.05)
    where = layout.uncertain[..., None]
    low = np.where(where, cv2.erode(low, far), cv2.erode(low, near))
    high = np.where(where, cv2.dilate(high, far), cv2.dilate(high, near))
    return low.astype(np.float32), high.astype(np.float32)


# Finding.


@dataclass(frozen=True, eq=False)
class _Found:
    """What one frame shows."""

    cover: Mask
    """[h, w] of the layout."""
    points: Points
    size: tuple[int, int]
    """(height, width) of the frame."""


def _find(
    frame: Image, points: Points, statistics: FaceStatistics, find_hands: Callable[[Image], Image]
) -> _Found:
    _check(frame, points)
    layout = statistics.layout
    view = layout.view(frame, points)
    lit = _match_light(layout, view, statistics.usual, statistics.light)
    cover, telling = _reaching_in(statistics, layout, view, _features(layout, lit))
    if telling is not None:
        hand = _hand_at_face(layout, view, find_hands(frame))
        # The network also sees hands in faces: some of it must differ from the face.
        at_face = hand & layout.oval
        if (at_face & telling).sum() > HAND_EVIDENCE * at_face.sum():
            cover = cover | hand
    return _Found(cover, points, (frame.shape[0], frame.shape[1]))


def _reaching_in(
    statistics: FaceStatistics, layout: _Layout, view: _View, features: Float
) -> tuple[Mask, Mask | None]:
    """Evidence that comes in from beyond the face, and where a hand could be.

    The second is None where no hand need be looked for, else what differs from the face or was
    never seen clear.
    """
    beyond = np.maximum(statistics.low - features, features - statistics.high)
    single = np.square(np.maximum(beyond, 0) / NOISE).sum(-1)
    single[~view.seen] = 0
    mean = cv2.boxFilter(np.minimum(single, 60), -1, (5, 5))
    root = np.sqrt(single)
    sharp = (single > WEAK) & (root > EDGE * cv2.dilate(root, layout.disc(0.05)))
    sharp = cv2.dilate(sharp.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    seeds = (mean > STRONG) & layout.oval & ~layout.mobile & (layout.depth > 0.05 * layout.eye)
    unknown = np.isinf(statistics.high[..., 0])
    if seeds.sum() <= LEAST_AREA * layout.oval.sum():
        nothing = np.zeros_like(seeds)
        return nothing, (mean > WEAK) | unknown if statistics.hands else None
    weak = sharp & layout.inside & (mean > np.where(layout.eyes, EYE_WEAK, WEAK))
    parts = cv2.morphologyEx(weak.astype(np.uint8), cv2.MORPH_OPEN, layout.disc(0.02))
    parts = _close(parts, layout.disc(0.09))
    deaf = ~view.seen | (statistics.high[..., 0] - statistics.low[..., 0] > OPEN)
    kept = _from_outside(layout, parts, seeds, deaf, mean, view.lab)
    cover = _filled(layout, kept, mean) if kept.any() else kept
    return cover, (mean > WEAK) | unknown


def _from_outside(
    layout: _Layout, parts: Image, seeds: Mask, deaf: Mask, evidence: Float, lab: Float
) -> Mask:
    """Connected parts that are large, go deep enough, and go on outside the face.

    Outside they need evidence, a texel that cannot tell, or, for what is very clearly there, their
    own colour.
    """
    count, labels = cv2.connectedComponents(parts, connectivity=4)
    grown = cv2.dilate(labels.astype(np.int16), layout.disc(0.05))
    rim = layout.oval & (layout.depth < 0.12 * layout.eye) & (parts > 0)
    on_rim = np.maximum(np.bincount(labels[rim], minlength=count), 1)
    colour = np.stack(
        [np.bincount(labels[rim], plane[rim], count) for plane in np.moveaxis(lab, 2, 0)]
    )
    clear = np.bincount(labels[rim], evidence[rim], count) / on_rim > 25
    alike = (np.abs(lab - (colour / on_rim).T[grown]) * [0.6, 1, 1]).sum(-1) < 12
    leaves = layout.beyond & (grown > 0) & ((parts > 0) | deaf | (alike & clear[grown]))
    touches = layout.oval & (layout.depth < 0.08 * layout.eye)
    # Slivers along the edge are landmarks that missed it.
    core = cv2.morphologyEx(parts, cv2.MORPH_OPEN, layout.disc(0.06)) > 0
    deep = core & (layout.depth > LEAST_DEPTH * layout.eye)
    keep = np.bincount(labels[deep], minlength=count) > 0
    keep &= np.bincount(labels[seeds], minlength=count) > LEAST_AREA * layout.oval.sum()
    keep &= np.bincount(grown[leaves], minlength=count) > 0.15 * layout.eye
    keep &= np.bincount(labels[touches], minlength=count) > 0.10 * layout.eye
    keep[0] = False
    return np.asarray(keep[labels])


def _filled(layout: _Layout, cover: Mask, evidence: Float) -> Mask:
    """Thin offshoots cut, gaps and holes closed, mouth and eyes taken along."""
    solid = cv2.morphologyEx(cover.astype(np.uint8), cv2.MORPH_OPEN, layout.disc(0.04))
    around = _close(np.asarray(solid, np.uint8), layout.disc(0.3))
    solid = solid | (around & (layout.mobile & (evidence > WEAK)))
    solid = _close(np.asarray(solid, np.uint8), layout.disc(0.14))
    outlines, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(solid, outlines, -1, (1,), -1)
    return np.asarray(solid > 0) & layout.inside


def _close(mask: Image, element: Image) -> Image:
    """Morphological closing that does not stick to the picture's edge."""
    pad = element.shape[0]
    wide = cv2.copyMakeBorder(mask, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=(0,))
    closed = cv2.morphologyEx(wide, cv2.MORPH_CLOSE, element)
    return np.ascontiguousarray(closed[pad:-pad, pad:-pad], np.uint8)


# Hands.


class _HandFinder:
    """Hands in single pictures; the network starts when first asked."""

    def __init__(self) -> None:
        self._net: Any = None
        self._silent = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._net is not None:
            self._net.close()

    def __call__(self, rgb: Image) -> Image:
        """Find palms and fingers: uint8 [h, w], 255 in them."""
        height, width = rgb.shape[:2]
        side = max(height, width)
        # The network's landmarks are right in square pictures only.
        pads = (0, side - height, 0, side - width)
        square = cv2.copyMakeBorder(rgb, *pads, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        area = np.zeros((height, width), np.uint8)
        with _quiet_stderr() if self._silent else nullcontext():
            result = self._started().process(square)
        for hand, which in zip(
            result.multi_hand_landmarks or [], result.multi_handedness or [], strict=True
        ):
            self._silent = False  # every part of the graph has spoken
            if which.classification[0].score >= HAND_SCORE:
                marks = [(mark.x * side, mark.y * side) for mark in hand.landmark]
                _draw_hand(area, np.array(marks, np.float32))
        return area

    def _started(self) -> Any:
        if self._net is None:
            self._net = _mediapipe().hands.Hands(
                static_image_mode=True,
                max_num_hands=2,
                model_complexity=0,
                min_detection_confidence=HAND_SCORE,
            )
        return self._net


PALM = (0, 1, 2, 5, 9, 13, 17)
FINGERS = ((1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16), (17, 18, 19, 20))


def _draw_hand(area: Image, marks: Points) -> None:
    """Fill a hand's outline by its 21 landmarks, in place."""
    palm = cv2.convexHull(np.round(marks[list(PALM)]).astype(np.int32))
    cv2.fillConvexPoly(area, palm, (255,))
    across = float(np.linalg.norm(marks[5] - marks[17]) + np.linalg.norm(marks[0] - marks[9])) / 2
    thick = max(1, round(0.3 * across))
    cv2.polylines(area, [palm], True, (255,), max(1, thick // 2))
    for finger in FINGERS:
        line = np.round(marks[list(finger)]).astype(np.int32)
        cv2.polylines(area, [line], False, (255,), thick)


def _hand_at_face(layout: _Layout, view: _View, hands: Image) -> Mask:
    """The hands' part of the layout, where it covers some of the face."""
    laid = cv2.remap(hands, view.x, view.y, cv2.INTER_LINEAR) > 127
    laid &= layout.inside
    enough = (laid & layout.oval).sum() > LEAST_AREA * layout.oval.sum()
    return np.asarray(laid if enough else np.zeros_like(laid))


def _hands_seen(
    layout: _Layout, samples: Sequence[tuple[Image, Points]], views: list[_View]
) -> list[Mask]:
    with _HandFinder() as find:
        return [
            _hand_at_face(layout, view, find(frame))
            for (frame, _), view in zip(samples, views, strict=True)
        ]


# Over time, and back into the frame.


def _neighbours(items: Iterable[_Found]) -> Iterator[tuple[_Found | None, _Found, _Found | None]]:
    """Each item between the one before and the one after."""
    recent: deque[_Found] = deque(maxlen=3)
    for item in items:
        recent.append(item)
        if len(recent) == 2:
            yield None, recent[0], recent[1]
        elif len(recent) == 3:
            yield recent[0], recent[1], recent[2]
    if recent:
        yield (recent[-2] if len(recent) > 1 else None), recent[-1], None


def _supported(before: _Found | None, now: _Found, after: _Found | None) -> _Found:
    """Leave out parts that neither neighbouring frame has nearby."""
    others = [found.cover for found in (before, after) if found is not None]
    if not others or not now.cover.any():
        return now
    count, labels = cv2.connectedComponents(now.cover.astype(np.uint8), connectivity=8)
    reach = max(3, now.cover.shape[1] // 20)
    element = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    near = cv2.dilate(np.logical_or.reduce(others).astype(np.uint8), element) > 0
    keep = np.bincount(labels[near], minlength=count) > 0
    keep[0] = False
    return _Found(np.asarray(keep[labels]), now.points, now.size)


STEP = 2
"""Pixels of the frame between two that are looked up in the layout."""


def _to_window(layout: _Layout, cover: Mask, found: _Found) -> Image:
    """A mask of the layout in its frame, fading outwards."""
    height, width = found.size
    if not cover.any():
        return np.zeros((height, width), np.uint8)
    soft = cv2.GaussianBlur(cover.astype(np.uint8) * 255, (0, 0), 0.8)
    vertices = (_vertices(found.points) + 0.5) / STEP - 0.5
    size = -(-width // STEP), -(-height // STEP)
    triangles = warp.ALL
    if found.points.shape[1] > 2:
        depth = np.concatenate([found.points[: topology.MESH_POINTS, 2], np.full(36, np.inf)])
        triangles = triangles[np.argsort(-depth[triangles].mean(1), kind="stable")]
    pixels, corners, shares = _paint(vertices, triangles, *size)
    at = np.full((size[1] * size[0], 2), -10, np.float32)
    at[pixels] = np.einsum("nk,nkd->nd", shares, _vertices(layout.points)[corners])
    at = at.reshape(size[1], size[0], 2)
    shown = cv2.remap(soft, at[..., 0], at[..., 1], cv2.INTER_LINEAR)
    full = cv2.resize(shown, (size[0] * STEP, size[1] * STEP), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(full[:height, :width], np.uint8)
