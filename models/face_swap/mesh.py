"""Face swap ``mesh``: the recipient's photo, warped onto the presenter's face frame by frame."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import geometry, topology
from models.face_swap import blend, gaze, warp
from models.face_swap.reference import ColourReference
from models.face_swap.texture import Texture, make_texture

Image = NDArray[np.uint8]
Points = NDArray[np.float32]

TURNED = (45.0, 65.0)
"""Yaw in degrees from which the swap fades, and at which it is gone."""


class MeshSwapper:
    """Puts one person's face on another's, frame by frame.

    The photo is laid out once a shot (see `models.face_swap.texture`) and then only resampled.
    Gaze, blinks and speech are the presenter's: the recipient's irises are moved to where the
    presenter looks, a closing eye becomes the presenter's own lids, teeth and tongue stay.

    Limits: a frontal photo gives the best likeness; a photo's glasses come along as if painted on,
    the presenter's vanish but for their temples; a beard longer than the face oval is cut at the
    jaw; the head's shape and hair stay the presenter's. Where the photo's eyes are far less open
    than the presenter's usually are, the presenter's eyeballs stay. Fades out between 45 and 65
    degrees of yaw. A result depends on the arguments only, never on earlier calls.

    Args:
        source_rgb: uint8 [h, w, 3] the recipient's photo.
        source_points: float32 [478, 3] its landmarks.

    Raises:
        ValueError: shapes are wrong.
    """

    def __init__(self, source_rgb: Image, source_points: Points) -> None:
        if source_rgb.ndim != 3 or source_rgb.shape[2] != 3 or source_rgb.dtype != np.uint8:
            raise ValueError(f"expected uint8 [h, w, 3], got {source_rgb.dtype} {source_rgb.shape}")
        if source_points.shape != (topology.POINTS, 3):
            raise ValueError(f"expected points [478, 3], got {list(source_points.shape)}")
        self._source = source_rgb
        self._points = source_points.astype(np.float32)
        self._textures: weakref.WeakKeyDictionary[ColourReference, Texture] = (
            weakref.WeakKeyDictionary()
        )

    def swap(
        self, frame: Image, points: Points, reference: ColourReference | None = None
    ) -> tuple[Image, Image]:
        """Swap the face of one frame.

        Args:
            frame: uint8 [h, w, 3] pixels of the window.
            points: float32 [478, 2 or 3] landmarks in the window's coordinates; with z, depth order
                and yaw are respected.
            reference: the shot's; without it the frame alone is measured, which flickers and is
                several times slower.

        Returns:
            uint8 [h, w, 3] the new pixels, and uint8 [h, w] how much each was changed: where it is
            0 the pixel is the input's, bit for bit.
        """
        if reference is None:
            reference = ColourReference.measure([(frame, points)])
        out, mask = frame.copy(), np.zeros(frame.shape[:2], np.uint8)
        box = face_box(points, frame.shape[1], frame.shape[0])
        strength = strength_at(points)
        if box is None or strength <= 0:
            return out, mask
        x0, y0, x1, y1 = box
        local = points.astype(np.float32)
        local[:, :2] -= np.array([x0, y0], np.float32)
        part = frame[y0:y1, x0:x1]
        new, alpha = self._render(part, local, reference, strength)
        cv2.copyTo(new, alpha, out[y0:y1, x0:x1])
        mask[y0:y1, x0:x1] = alpha
        return out, mask

    def batch(self, height: int, width: int) -> int:
        """How many frames of a window to hand to ``swap_many`` at once."""
        return 1

    def swap_many(
        self,
        frames: Sequence[Image],
        points: Sequence[Points],
        reference: ColourReference | None = None,
    ) -> list[tuple[Image, Image]]:
        """Swap the face of several frames of one size; see ``swap``.

        Args:
            frames: uint8 [h, w, 3] each.
            points: one's landmarks each.
            reference: the shot's.
        """
        pairs = zip(frames, points, strict=True)
        return [self.swap(frame, marks, reference) for frame, marks in pairs]

    def texture(self, reference: ColourReference) -> Texture:
        """The photo laid out for a shot; made once for each reference object."""
        made = self._textures.get(reference)
        if made is None:
            made = make_texture(self._source, self._points, reference)
            self._textures[reference] = made
        return made

    def _render(
        self, part: Image, points: Points, reference: ColourReference, strength: float
    ) -> tuple[Image, Image]:
        texture = self.texture(reference)
        height, width = part.shape[:2]
        eye = geometry.interocular(points)
        step = 2 if eye > 60 else 1
        seen = warp.mesh_map(points, reference.points, width, height, step)
        seen = gaze.follow(seen, points, texture.irises)
        rgba = cv2.remap(texture.rgba, seen.x, seen.y, cv2.INTER_LINEAR)
        warped = np.ascontiguousarray(rgba[..., :3])
        alpha = np.asarray(cv2.multiply(rgba[..., 3], seen.cover, scale=strength / 255), np.uint8)
        zones = blend.sample_small(texture.zones, seen, eye)
        warped, alpha = blend.match_edges(part, warped, alpha, zones, seen.cover)
        blend.cut(alpha, points[topology.INNER_LIPS], 0.012 * eye, rim=0.010 * eye)
        gaze.cut_eyes(alpha, points, reference, texture.eyes_open)
        return blend.over(part, warped, alpha), alpha


def face_box(points: Points, width: int, height: int) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of a face, pixels; None where hardly any of it is in the frame."""
    oval = points[: topology.MESH_POINTS, :2]
    (x0, y0), (x1, y1) = oval.min(0), oval.max(0)
    box = (max(int(x0) - 4, 0), max(int(y0) - 4, 0),
           min(math.ceil(x1) + 5, width), min(math.ceil(y1) + 5, height))  # fmt: skip
    return box if box[2] - box[0] >= 8 and box[3] - box[1] >= 8 else None


def strength_at(points: Points) -> float:
    """How much of a swap is shown: 1 up to the first angle of `TURNED`, 0 from the second on."""
    if points.shape[1] < 3:
        return 1.0
    return 1 - blend.ramp(abs(geometry.head_pose(points).yaw), *TURNED)
