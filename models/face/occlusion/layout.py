"""The layout of a segment's face: one picture of it for all frames.

A frame is laid out by its landmarks, so that a texel always shows the same place of the face.
Lengths are in eye distances unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from scipy import sparse

from models.face import geometry, topology
from models.face.occlusion.arrays import Float, Image, Mask, Points
from models.face.occlusion.mesh import mesh_vertices, paint, vertex_areas
from models.face_swap import warp

LAYOUT_EYE = (24.0, 72.0)
"""Least and most eye distance of the layout, in texels."""

FACING = 0.35
"""Size of a triangle over its size in the layout, below which it is seen too flatly to judge."""


@dataclass(frozen=True, eq=False)
class View:
    """A frame laid out."""

    lab: Float
    """[h, w, 3] L 0..100, a and b around 0; a little softened."""
    seen: Mask
    """[h, w] where the face is turned enough towards the camera."""
    x: Float
    y: Float
    """[h, w] where the texels lie in the frame, pixels."""


class Layout:
    """The places of a face: its outline, its parts, and how a frame is sampled into it.

    Args:
        points: float32 [478, 2] where the landmarks lie, texels: of `layout_points`.
    """

    def __init__(self, points: Points) -> None:
        self.points = points
        self.eye = geometry.interocular(points)
        vertices = mesh_vertices(points)
        self.width, self.height = (int(np.ceil(v)) + 2 for v in vertices.max(0))
        self._areas = vertex_areas(points)
        texels, corners, shares = paint(vertices, warp.ALL, self.width, self.height)
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

    def view(self, frame: Image, points: Points) -> View:
        """Lay a frame out: uint8 [h, w, 3] RGB and float32 [478, 2 or 3] pixels in it."""
        vertices, size = mesh_vertices(points), frame.shape
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
        ratio = vertex_areas(points) * texel**2 / np.maximum(self._areas, 1e-3)
        ratio = np.concatenate([ratio, ratio[topology.FACE_OVAL]]).astype(np.float32)
        seen = self.inside & (self._spread(ratio) > FACING)
        seen &= (x >= 0) & (y >= 0) & (x <= size[1] - 1) & (y <= size[0] - 1)
        return View(lab, seen, x, y)

    def _spread(self, values: Float) -> Float:
        """Interpolate values [vertices, ...] over the texels."""
        texels = self._weights @ values
        return np.asarray(texels.reshape(self.height, self.width, *values.shape[1:]), np.float32)


def layout_points(points: list[Points]) -> Points:
    """Where landmarks go in the layout: the median of the most frontal third of the samples."""
    turns = [_turn(marks) for marks in points]
    frontal = np.argsort(turns, kind="stable")[: max(1, len(points) // 3)]
    first = points[frontal[0]][:, :2]
    fitted = [geometry.umeyama(points[i][:, :2], first).apply(points[i][:, :2]) for i in frontal]
    shape = np.median(fitted, axis=0)
    eye = float(np.clip(np.median([geometry.interocular(p) for p in points]), *LAYOUT_EYE))
    shape = (shape * (eye / geometry.interocular(shape))).astype(np.float32)
    return np.asarray(shape - mesh_vertices(shape).min(0) + 2, np.float32)


def _turn(points: Points) -> float:
    if points.shape[1] < 3:
        return 0.0
    pose = geometry.head_pose(points)
    return abs(pose.yaw) + 0.5 * abs(pose.pitch)


def check_frame(frame: Image, points: Points) -> None:
    """Refuse what is no RGB picture with a face's landmarks.

    Raises:
        ValueError: the frame or its points have the wrong shape or type.
    """
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.size == 0:
        raise ValueError(f"frame: expected uint8 [h, w, 3], got {frame.dtype} {frame.shape}")
    if points.ndim != 2 or points.shape[0] != topology.POINTS or points.shape[1] < 2:
        raise ValueError(f"points: expected float32 [478, 2 or 3], got {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError("points: not finite; pass only frames in which the face is seen")
