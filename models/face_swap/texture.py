"""The recipient's face laid out for a shot: colour, light and sharpness already matched."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from models.face import geometry, topology
from models.face_swap import gaze, warp
from models.face_swap.reference import ColourReference, face_detail
from models.face_swap.shape import NOSE, inside_lips, personal_layout

Image = NDArray[np.uint8]
Float = NDArray[np.float32]
Points = NDArray[np.float32]

FEATHER = 0.08
"""Width of the fade inside the face oval, over the oval's width."""

LIGHT_RADIUS = 0.12
"""Blur over the oval's width that separates light from features."""

LIGHT_STRENGTH = (0.85, 0.8, 0.8)
"""How much of the shot's light replaces the photo's, for L, a and b."""

LIGHT_OUTLIER = 32.0
"""Difference in Lab at which a place tells little about the light."""

BRIGHTEN_RANGE = (0.5, 1.8)
"""Limits to the factor between the shot's lightness and the photo's."""

CONTRAST_RANGE = (0.9, 1.2)
"""Limits to the factor on the spread of lightness."""

CHROMA_RANGE = (0.5, 1.0)
"""Limits to the factor on the spread of a and b: patches of colour are toned down, never up."""

HAIR = (0.18, 0.36)
"""Difference in L from the face's skin, over it: in doubt, and surely hair or background."""

RIM = (0.28, 0.10)
"""How far in from the oval's edge a photo's hair is taken out, over its width: above the level of
the mouth, and below it, where a dark place may be a beard."""

EDGE = 0.015
"""Blur over the oval's width of the border between skin and hair."""

GRAZING = (0.30, 0.60)
"""Cosine of a surface to the photo's camera between which the mirrored half takes over."""


@dataclass(frozen=True, eq=False)
class Texture:
    """A recipient's face in the layout of a `ColourReference`."""

    rgba: Image
    """[h, w, 4]; alpha is how much of the face is put over the frame."""
    zones: Image
    """[h, w, 3] 255 on forehead and cheeks, where only skin is expected; 255 inside the face,
    falling to 0 at the oval's edge, where the frame's colour must be met; 255 where the photo has
    skin, not hair or background."""
    irises: Float
    """[2, 2] centres of the photo's irises, (left, right)."""
    eyes_open: tuple[float, float]
    """Lid gap over eye width in the photo, (left, right)."""


def make_texture(source: Image, points: Points, reference: ColourReference) -> Texture:
    """Lay out a photo's face for a shot.

    Args:
        source: uint8 [h, w, 3] the recipient's photo.
        points: float32 [478, 3] its landmarks.
        reference: the shot.
    """
    layout = personal_layout(points, reference.points)
    regions = Regions.of((reference.points, layout), *reference.size)
    laid = _lay_out(source, points, layout, reference.size)
    face = _match_light(laid.face, reference.appearance, regions)
    face = _match_detail(face, reference)
    odd = _odd(face, regions)
    alpha = regions.feather * (
        1 - cv2.GaussianBlur(odd * regions.rim, (0, 0), EDGE * regions.width)
    )
    rgba = np.dstack([face, np.round(alpha * 255).astype(np.uint8)])
    planes = [regions.smooth / 255, regions.feather, 1 - odd]
    zones = np.round(np.dstack(planes) * 255).astype(np.uint8)
    return Texture(np.ascontiguousarray(rgba), zones, laid.irises, laid.eyes_open)


@dataclass(frozen=True, eq=False)
class Regions:
    """Masks of a face layout."""

    width: float
    """Of the face oval, pixels."""
    oval: Image
    """[h, w] 255 inside the face oval."""
    skin: Image
    """[h, w] 255 on skin: the oval without eyes, brows and lips."""
    smooth: Image
    """[h, w] 255 on forehead and upper cheeks."""
    rim: Float
    """[h, w] 1 along the oval's edge, without brows and eyes."""
    feather: Float
    """[h, w] 0 at the oval's edge, rising to 1 inside."""

    @classmethod
    def of(cls, layouts: tuple[Points, ...], width: int, height: int) -> Regions:
        """Draw the masks for faces of the same outline, one over the other, in one picture."""
        points = layouts[0]
        oval = _polygon(points[topology.FACE_OVAL], width, height)
        span = float(np.ptp(points[topology.FACE_OVAL, 0]))
        skin = oval.copy()
        grow = _disc(span * 0.03)
        for group in (topology.LEFT_EYE, topology.RIGHT_EYE, topology.OUTER_LIPS,
                      topology.LEFT_BROW, topology.RIGHT_BROW):  # fmt: skip
            for marks in layouts:
                skin[cv2.dilate(_polygon(marks[group], width, height), grow) > 0] = 0
        skin = np.asarray(cv2.erode(skin, _disc(span * 0.04)), np.uint8)
        inside = cv2.distanceTransform(oval, cv2.DIST_L2, 5)
        ramp = np.clip(inside / (FEATHER * span) - 0.15, 0, 1)
        feather = (ramp * ramp * (3 - 2 * ramp)).astype(np.float32)
        rim = (inside < RIM[0] * span).astype(np.float32)
        mouth = int(points[topology.LEFT_MOUTH_CORNER, 1])
        rim[mouth:] = inside[mouth:] < RIM[1] * span
        for group, room in ((topology.LEFT_BROW, 0.03), (topology.RIGHT_BROW, 0.03),
                            (topology.LEFT_EYE, 0.06), (topology.RIGHT_EYE, 0.06),
                            (topology.OUTER_LIPS, 0.04), (NOSE, 0.03)):  # fmt: skip
            rim[cv2.dilate(_polygon(layouts[-1][group], width, height), _disc(span * room)) > 0] = 0
        return cls(span, oval, skin, _smooth_zone(layouts, skin, span), rim, feather)


def _smooth_zone(layouts: tuple[Points, ...], skin: Image, span: float) -> Image:
    """Forehead and cheeks above the mouth, away from the nose."""
    zone = skin.copy()
    for marks in layouts:
        for brow in (topology.LEFT_BROW, topology.RIGHT_BROW):
            patch = _polygon(marks[brow], skin.shape[1], skin.shape[0])
            zone[cv2.dilate(patch, _disc(span * 0.10)) > 0] = 0
    points = layouts[0]
    height, width = skin.shape
    nose = points[[168, 49, 279, 2, 98, 327]]
    zone[cv2.dilate(_polygon(nose, width, height), _disc(span * 0.05)) > 0] = 0
    zone[int(points[topology.LEFT_MOUTH_CORNER, 1]) :] = 0
    return np.asarray(cv2.GaussianBlur(zone, (0, 0), span * 0.03), np.uint8)


def _lay_out(source: Image, points: Points, layout: Points, size: tuple[int, int]) -> _Laid:
    """Warp the photo into the layout; what it shows at a grazing angle comes from its mirror."""
    direct = _sample(source, points, layout, size)
    share = _share(points)
    if share.min() >= 1:
        return direct
    flipped = np.ascontiguousarray(source[:, ::-1])
    swapped = points.copy()
    swapped[: topology.MESH_POINTS] = points[topology.MIRROR]
    swapped[topology.LEFT_IRIS], swapped[topology.RIGHT_IRIS] = (
        points[topology.RIGHT_IRIS], points[topology.LEFT_IRIS])  # fmt: skip
    swapped[:, 0] = source.shape[1] - 1 - swapped[:, 0]
    other = _sample(flipped, swapped, layout, size)
    weight = cv2.GaussianBlur(warp.interpolate(layout, share, *size), (0, 0), 0.02 * size[0])
    face = cv2.blendLinear(direct.face, other.face, weight, 1 - weight)
    pick = [share[lids].mean() > 0.5 for lids in gaze.EYES]
    return _Laid(
        np.asarray(face, np.uint8),
        np.where(np.array(pick)[:, None], direct.irises, other.irises),
        (
            (direct if pick[0] else other).eyes_open[0],
            (direct if pick[1] else other).eyes_open[1],
        ),
    )


def _share(points: Points) -> Float:
    """How much of each vertex comes from the photo itself, [468]; the rest from its mirror."""
    facing = _facing(points)
    low, high = GRAZING
    trust = np.clip((facing - low) / (high - low), 0, 1)
    share = np.where(facing[topology.MIRROR] > facing, trust, 1).astype(np.float32)
    for lids in gaze.EYES:
        # Two gazes must not mix: an eye comes from one picture.
        share[lids] = np.round(share[lids].mean())
    return share


@dataclass(frozen=True, eq=False)
class _Laid:
    face: Image
    irises: Float
    eyes_open: tuple[float, float]


def _sample(picture: Image, points: Points, layout: Points, size: tuple[int, int]) -> _Laid:
    """Warp with the picture shrunk first where it is much larger than the layout."""
    opened = geometry.eye_openness(points)
    shrink = geometry.interocular(layout) / max(geometry.interocular(points), 1.0)
    if shrink < 0.8:
        small = cv2.resize(picture, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        picture = np.asarray(small, np.uint8)
        points = (points[:, :2] + np.float32(0.5)) * np.float32(shrink) - np.float32(0.5)
    seen = warp.mesh_map(layout, inside_lips(points), *size)
    face = cv2.remap(picture, seen.x, seen.y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    irises = gaze.locate_irises(seen, layout, points)
    return _Laid(np.asarray(face, np.uint8), irises, opened)


def _facing(points: Points) -> Float:
    """Cosine between each vertex's normal and the camera, [468], 1 head-on, negative behind."""
    mesh = points[: topology.MESH_POINTS].astype(np.float32)
    corners = mesh[topology.TRIANGLES]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.zeros_like(mesh)
    for k in range(3):
        np.add.at(summed, topology.TRIANGLES[:, k], normals)
    length = np.linalg.norm(summed, axis=1)
    return np.asarray(summed[:, 2] / np.maximum(length, 1e-6), np.float32)


def _match_light(face: Image, target: Image, regions: Regions) -> Image:
    """Give the photo the shot's colour and large-scale light, in Lab.

    Lightness is scaled, not shifted: brows, lashes and pupils stay dark on a brighter face.
    """
    ours, theirs = _lab(face), _lab(target)
    skin = regions.skin > 0
    usual, wanted = np.median(ours[skin], axis=0), np.median(theirs[skin], axis=0)
    ours[..., 0] *= float(np.clip(wanted[0] / max(usual[0], 1.0), *BRIGHTEN_RANGE))
    spread = theirs[..., 0][skin].std() / max(ours[..., 0][skin].std(), 1e-3)
    gain = float(np.clip(spread, *CONTRAST_RANGE))
    ours[..., 0] = wanted[0] + (ours[..., 0] - wanted[0]) * gain
    for channel in (1, 2):
        ratio = theirs[..., channel][skin].std() / max(ours[..., channel][skin].std(), 1e-3)
        gain = float(np.clip(ratio, *CHROMA_RANGE))
        ours[..., channel] = (ours[..., channel] - usual[channel]) * gain + wanted[channel]
    gap = theirs - ours
    # Hair on either face is no light: what differs a lot counts little.
    weight = skin * np.exp(-np.square(np.linalg.norm(gap, axis=2) / LIGHT_OUTLIER))
    sigma = LIGHT_RADIUS * regions.width
    norm = cv2.GaussianBlur(weight.astype(np.float32), (0, 0), sigma) + 0.02
    lit = [
        strength * cv2.GaussianBlur((gap[..., c] * weight).astype(np.float32), (0, 0), sigma) / norm
        for c, strength in enumerate(LIGHT_STRENGTH)
    ]
    ours[..., 0] *= 1 + np.clip(lit[0] / max(float(wanted[0]), 1.0), -0.5, 0.5)
    ours[..., 1] += lit[1]
    ours[..., 2] += lit[2]
    return _rgb(ours)


def _match_detail(face: Image, reference: ColourReference) -> Image:
    """Blur a photo that is sharper than the shot until it is not."""
    scale = 1 / reference.scale
    points = reference.points * np.float32(scale)
    for sigma in (0.0, 0.5, 0.7, 0.9, 1.2, 1.6, 2.1, 2.8):
        soft = face
        if sigma > 0:
            blurred = cv2.GaussianBlur(face, (0, 0), sigma * reference.scale)
            soft = np.asarray(blurred, np.uint8)
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        seen = cv2.resize(soft, None, fx=scale, fy=scale, interpolation=how)
        if face_detail(np.asarray(seen, np.uint8), points) <= 1.15 * reference.detail:
            break
    return soft


def _odd(face: Image, regions: Regions) -> Float:
    """0 where the photo is as light as the face's skin, 1 at hair, features and background."""
    sigma = EDGE * regions.width
    light = cv2.GaussianBlur(_lab(face)[..., 0], (0, 0), sigma)
    usual = float(np.median(light[regions.skin > 0]))
    # Skin shines: what is brighter counts half.
    apart = np.maximum(usual - light, (light - usual) / 2) / max(usual, 1.0)
    odd = np.clip((apart - HAIR[0]) / (HAIR[1] - HAIR[0]), 0, 1)
    return np.asarray(odd, np.float32)


def _lab(rgb: Image) -> Float:
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), np.float32)


def _rgb(lab: Float) -> Image:
    rgb = cv2.cvtColor(lab, cv2.COLOR_Lab2RGB)
    return np.asarray(np.clip(np.round(rgb * 255), 0, 255), np.uint8)


def _polygon(points: Points, width: int, height: int) -> Image:
    mask = np.zeros((height, width), np.uint8)
    hull = cv2.convexHull(np.round(points[:, :2]).astype(np.int32))
    cv2.fillConvexPoly(mask, hull, (255,))
    return mask


def _disc(radius: float) -> Image:
    size = 2 * max(1, round(radius)) + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)
